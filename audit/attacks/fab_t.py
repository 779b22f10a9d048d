"""FAB towards each likely class: the fast adaptive boundary attack, which seeks the smallest perturbation (Croce and
Hein 2020, arXiv:1907.02044).
"""

from __future__ import annotations

import torch
from torch import Tensor

from audit.adversarial.active_set import run_search
from audit.adversarial.minimum_norm import Nearest
from audit.adversarial.restarts import Attempt, is_adversarial, passes_of_targets, with_restarts
from audit.adversarial.search_state import SearchState, State, Step, StepResult
from audit.adversarial.targets import PositiveInt, ranked_targets, single_target
from audit.core.registry import attack
from audit.core.seeding import Generators
from audit.core.threat import Norm, ThreatModel, norms
from audit.core.types import Batch, ClassMask, Images
from audit.models.losses import is_adversarial_logits, margin_targeted
from audit.models.under_test import ModelUnderTest

BIAS_LIMIT = 0.1
"""How far each step may lean towards the clean image (alpha_max in the paper)."""

OVERSHOOT = 1.05
BACKWARD = 0.9
"""Where the search goes on from after a success: this share of the way out (beta in the paper)."""


@attack(
    reference="arXiv:1907.02044",
    needs="gradients",
    norms=("linf", "l2", "l1"),
    passes=passes_of_targets,
    effort=("steps",),
)
def fab_t(
    model: ModelUnderTest,
    batch: Batch,
    threat: ThreatModel,
    generators: Generators,
    *,
    steps: PositiveInt = 100,
    targets: PositiveInt = 9,
    stop: bool = True,
) -> Images:
    """Walk along the linearised boundary to its nearest point, for the likeliest `targets` classes in turn.

    Proposals are projected onto the threat model (Croce and Hein 2020).

    Args:
        model: The model under attack.
        batch: N examples: images float32 (N, C, H, W) in [0, 1], labels, and which predictions count as misclassified.
        threat: The norm and eps of the ball that proposals stay in.
        generators: One random generator an example.
        steps: Gradient steps, at least 1.
        targets: How many of the likeliest classes of the goal are tried.
        stop: Whether an example's search ends as soon as it is broken within eps; without it the smallest
            perturbation of all steps and classes is returned.

    Returns:
        Proposals, float32 (N, C, H, W): the first that broke each example, or with `stop` false the nearest; else the
        last one.
    """
    classes = ranked_targets(model, batch, targets)
    step = boundary_step(model, threat, steps, stop=stop)

    def attempt(subset: Batch, draws: Generators, number: int, index: Tensor) -> Images:
        initial_state = {"target": classes[index.to(classes.device), number]}
        proposals = run_search(
            model,
            subset,
            draws,
            start=from_the_image,
            step=step,
            steps=steps,
            initial_state=initial_state,
            exact=True,  # the state holds the nearest image that the model misclassified
        )
        return threat.project(proposals, subset.images.to(proposals.device))

    if stop:
        return with_restarts(model, batch, generators, attempt, attempts=classes.shape[1])
    return _nearest_of_all(model, batch, threat, generators, attempt, attempts=classes.shape[1])


def _nearest_of_all(
    model: ModelUnderTest, batch: Batch, threat: ThreatModel, generators: Generators, attempt: Attempt, *, attempts: int
) -> Images:
    """The nearest misclassified proposal of all attempts on every example, else the last one."""
    origin, everything = batch.images.to(model.device), torch.arange(len(batch), device=batch.labels.device)
    nearest, proposals = Nearest.at(origin), origin
    for number in range(attempts):
        proposals = attempt(batch, generators.fork(number), number, everything).to(origin)
        broken = is_adversarial(model, batch, proposals).to(origin.device)
        nearest.see(proposals, broken, norms(proposals - origin, threat.norm))
    return torch.where(_wide(nearest.distance.isinf()), proposals, nearest.images)


def from_the_image(origin: Images, goal: ClassMask, draws: Generators) -> State:
    """Begin at the clean image, with no adversarial example yet.

    Args:
        origin: The clean images, float32 (N, C, H, W) in [0, 1].
        goal: The predictions that count as misclassified, bool (N, classes).
        draws: One random generator an example.
    """
    far = torch.full((len(origin),), torch.inf, device=origin.device)
    return {"images": origin, "nearest": origin, "distance": far}


def boundary_step(model: ModelUnderTest, threat: ThreatModel, steps: int, *, stop: bool) -> Step:
    """One step: an adversarial point is remembered and pulled back towards the image, else on to the linearised
    boundary.

    Args:
        model: The model under attack.
        threat: The norm and eps of the ball that proposals stay in.
        steps: Steps of the whole search.
        stop: Whether the first adversarial example within eps ends the search.

    Returns:
        The step for `run_search`.
    """

    def step(slots: SearchState) -> StepResult:
        images, origin, state = slots.images, slots.origin, slots.state
        output = model.loss_gradient(images, single_target(slots), margin_targeted)
        broken = is_adversarial_logits(output.logits, slots.goal)
        distance = norms(images - origin, threat.norm)
        nearer = broken & (distance < state["distance"])
        nearest = torch.where(_wide(nearer), images, state["nearest"])
        ahead = _to_boundary(images, origin, output.losses, output.gradient, threat)
        onwards = torch.where(_wide(broken), origin + BACKWARD * (images - origin), ahead)
        following = {
            **state,
            "images": onwards if stop else torch.where(_wide(slots.age + 1 >= steps), nearest, onwards),
            "nearest": nearest,
            "distance": torch.where(nearer, distance, state["distance"]),
        }
        finished = broken & (distance <= threat.eps) if stop else torch.zeros_like(broken)
        return StepResult(images, finished, following)

    return step


def _to_boundary(images: Images, origin: Images, margins: Tensor, gradient: Images, threat: ThreatModel) -> Images:
    """Between the projections of the current point and of the clean image, leaning to the nearer of the two."""
    gradient = gradient.nan_to_num(0.0, 0.0, 0.0)
    offset = (gradient * images).flatten(1).sum(1) - margins
    from_here = project_onto_hyperplane(images, gradient, offset, threat.norm)
    from_image = project_onto_hyperplane(origin, gradient, offset, threat.norm)
    current_distance, origin_distance = (norms(delta, threat.norm).clamp(min=1e-8) for delta in (from_here, from_image))
    bias = (current_distance / (current_distance + origin_distance)).clamp(max=BIAS_LIMIT).view(-1, 1, 1, 1)
    mixed = (1 - bias) * (images + OVERSHOOT * from_here) + bias * (origin + OVERSHOOT * from_image)
    return mixed.clamp(0, 1)


def _wide(flags: Tensor) -> Tensor:
    return flags.view(-1, 1, 1, 1)


def project_onto_hyperplane(points: Images, normal: Images, offset: Tensor, norm: Norm) -> Images:
    """The smallest perturbations of `points`, within the box, that reach `normal . x = offset`, exactly and with one
    sort an example.

    The projections of FAB (Croce and Hein 2020, arXiv:1907.02044), solved on sorted break points.

    Args:
        points: Where to start, float32 (N, C, H, W) in [0, 1].
        normal: Of the hyperplanes, float32 (N, C, H, W).
        offset: Of the hyperplanes, (N,).
        norm: What is smallest.

    Returns:
        Perturbations (N, C, H, W); where the box does not reach the plane, the farthest step towards it.
    """
    weight, flat = normal.flatten(1), points.flatten(1)
    remaining = offset - (weight * flat).sum(1)
    towards = weight.sign() * remaining.sign()[:, None]
    room = torch.where(towards > 0, 1 - flat, flat)
    slope = weight.abs()
    lengths = _greedy(slope, room, remaining.abs()) if norm == "l1" else _level(slope, room, remaining.abs(), norm)
    return (towards * lengths).view_as(points)


def _level(slope: Tensor, room: Tensor, remaining: Tensor, norm: Norm) -> Tensor:
    """t_i = min(level x rate_i, room_i) with sum slope_i t_i = missing: the rates are 1 for linf, the slope for l2.

    The sum is concave and piecewise linear in the level, so it is the least of its pieces, and the level the
    greatest of theirs.
    """
    rate = torch.ones_like(slope) if norm == "linf" else slope
    order = torch.where(slope > 0, room / rate.clamp(min=1e-30), torch.inf).argsort(dim=1)
    filled = (slope * room).gather(1, order)
    rising = (slope * rate).gather(1, order)
    full_before = filled.cumsum(1) - filled
    free_from = rising.flip(1).cumsum(1).flip(1)
    levels = torch.where(free_from > 0, (remaining[:, None] - full_before) / free_from.clamp(min=1e-30), 0.0)
    level = levels.amax(1).masked_fill(remaining >= filled.sum(1), torch.inf)
    return torch.minimum(level[:, None] * rate, room).where(slope > 0, 0.0)


def _greedy(slope: Tensor, room: Tensor, remaining: Tensor) -> Tensor:
    """Fill the steepest coordinates first."""
    steepest, order = slope.sort(dim=1, descending=True)
    gains = steepest * room.gather(1, order)
    before = gains.cumsum(1) - gains
    needed = ((remaining[:, None] - before) / steepest.clamp(min=1e-30)).clamp(min=0)
    lengths = torch.minimum(needed, room.gather(1, order)).where(steepest > 0, 0.0)
    return torch.zeros_like(slope).scatter_(1, order, lengths)
