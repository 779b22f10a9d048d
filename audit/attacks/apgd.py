"""Auto-PGD with cross-entropy, the DLR loss and the targeted DLR loss (Croce and Hein 2020, arXiv:2003.01690)."""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from audit.adversarial.active_set import run_search
from audit.adversarial.restarts import passes_of_restarts, passes_of_targets, with_restarts
from audit.adversarial.search_state import SearchState, State, StepResult
from audit.adversarial.targets import (
    PositiveInt,
    TargetFn,
    any_goal_class,
    ranked_targets,
    single_target,
)
from audit.core.ascent import projected_step
from audit.core.registry import attack
from audit.core.seeding import Generators
from audit.core.threat import ThreatModel
from audit.core.types import Batch, ClassMask, Images
from audit.models.losses import dlr_targeted, is_adversarial_logits, loss_named, margin
from audit.models.under_test import Loss, ModelUnderTest


@attack(
    reference="arXiv:2003.01690",
    needs="gradients",
    norms=("linf", "l2", "l1"),
    passes=passes_of_restarts,
    effort=("steps", "restarts"),
    early_stops=("give_up",),
)
def apgd_ce(
    model: ModelUnderTest,
    batch: Batch,
    threat: ThreatModel,
    generators: Generators,
    *,
    steps: PositiveInt = 100,
    restarts: PositiveInt = 1,
    give_up: bool = False,
) -> Images:
    """Auto-PGD on cross-entropy from random points of the ball (Croce and Hein 2020).

    Args:
        model: The model under attack.
        batch: N examples: images float32 (N, C, H, W) in [0, 1], labels, and which predictions count as misclassified.
        threat: The norm and eps of the ball that proposals stay in.
        generators: One random generator an example.
        steps: Gradient steps, at least 1.
        restarts: Random starts, each on the examples that those before it did not break.
        give_up: Whether to leave an example whose margin rises too slowly to break in the steps that remain.

    Returns:
        Proposals, float32 (N, C, H, W): the first that broke each example, else the last one.
    """
    loss = loss_named("ce", len(model.classes))
    return _restarted(model, batch, threat, generators, restarts, loss=loss, steps=steps, give_up=give_up)


@attack(
    reference="arXiv:2003.01690",
    needs="gradients",
    norms=("linf", "l2", "l1"),
    passes=passes_of_restarts,
    effort=("steps", "restarts"),
    early_stops=("give_up",),
    loss="dlr",
)
def apgd_dlr(
    model: ModelUnderTest,
    batch: Batch,
    threat: ThreatModel,
    generators: Generators,
    *,
    steps: PositiveInt = 100,
    restarts: PositiveInt = 1,
    give_up: bool = False,
) -> Images:
    """Auto-PGD on the difference of logits ratio, which no scaling flattens; on two classes, on the margin.

    Args:
        model: The model under attack.
        batch: N examples: images float32 (N, C, H, W) in [0, 1], labels, and which predictions count as misclassified.
        threat: The norm and eps of the ball that proposals stay in.
        generators: One random generator an example.
        steps: Gradient steps, at least 1.
        restarts: Random starts, each on the examples that those before it did not break.
        give_up: Whether to leave an example whose margin rises too slowly to break in the steps that remain.

    Returns:
        Proposals, float32 (N, C, H, W): the first that broke each example, else the last one.
    """
    loss = loss_named("dlr", len(model.classes))
    return _restarted(model, batch, threat, generators, restarts, loss=loss, steps=steps, give_up=give_up)


@attack(
    reference="arXiv:2003.01690",
    needs="gradients",
    norms=("linf", "l2", "l1"),
    passes=passes_of_targets,
    effort=("steps",),
    early_stops=("give_up",),
    loss="dlr",
    aimed=True,
)
def apgd_t(
    model: ModelUnderTest,
    batch: Batch,
    threat: ThreatModel,
    generators: Generators,
    *,
    steps: PositiveInt = 100,
    targets: PositiveInt = 9,
    give_up: bool = False,
) -> Images:
    """Auto-PGD towards each of the likeliest `targets` classes of the goal in turn, on the targeted DLR loss.

    Args:
        model: The model under attack.
        batch: N examples: images float32 (N, C, H, W) in [0, 1], labels, and which predictions count as misclassified.
        threat: The norm and eps of the ball that proposals stay in.
        generators: One random generator an example.
        steps: Gradient steps, at least 1.
        targets: How many of the likeliest classes of the goal are tried.
        give_up: Whether to leave an example whose margin rises too slowly to break in the steps that remain.

    Returns:
        Proposals, float32 (N, C, H, W): the first that broke each example, else the last one.
    """
    classes = ranked_targets(model, batch, targets)
    climb = _apgd(model, threat, loss=dlr_targeted, aim=single_target, steps=steps, give_up=give_up)

    def attempt(subset: Batch, draws: Generators, number: int, index: Tensor) -> Images:
        return climb(subset, draws, {"target": classes[index.to(classes.device), number]})

    return with_restarts(model, batch, generators, attempt, attempts=classes.shape[1])


def _restarted(
    model: ModelUnderTest, batch: Batch, threat: ThreatModel, generators: Generators, restarts: int, **ascent: Any
) -> Images:
    climb = _apgd(model, threat, **ascent)

    def attempt(subset: Batch, draws: Generators, number: int, index: Tensor) -> Images:
        return climb(subset, draws, {})

    return with_restarts(model, batch, generators, attempt, attempts=restarts)


RISING_SHARE = 0.75
"""A step size has to raise the loss in this share of its steps to be kept."""

MOMENTUM = 0.75

LOOK_BACK = 4
"""Steps between two looks at the pace of the margin, where a search may give up."""

GENEROSITY = 1.5
"""How much faster than its recent pace an example is trusted to become."""


def _apgd(
    model: ModelUnderTest,
    threat: ThreatModel,
    *,
    loss: Loss,
    steps: int,
    aim: TargetFn = any_goal_class,
    give_up: bool = False,
) -> Callable[[Batch, Generators, State], Images]:
    """Runs of Auto-PGD from random points of the ball (algorithm 1 of Croce and Hein 2020): momentum, and a step that
    halves where it no longer pays.

    Each example has its own step size and returns to its best point when that halves. The checkpoints depend on its own
    age alone, so examples of any age share a batch.
    """
    lengths = torch.tensor(_lengths(checkpoints(steps)), device=model.device)

    def start(origin: Images, goal: ClassMask, draws: Generators) -> State:
        return _fresh(threat.random_start(origin, draws), threat)

    def step(slots: SearchState) -> StepResult:
        images, state = slots.images, slots.state
        output = model.loss_gradient(images, aim(slots), loss)
        recorded = _record(state, slots.age, output.losses, output.gradient, images)
        reviewed = _review(recorded, lengths[slots.age.clamp(max=len(lengths) - 1)])
        margins = torch.maximum(margin(output.logits, slots.goal), state["best_margin"])
        advanced = {"images": _advance(reviewed, slots, threat), "previous": reviewed["images"]}
        following = reviewed | _look_back(margins, state, slots.age) | advanced
        hopeless = _hopeless(margins, state, slots.age, steps) if give_up else None
        return StepResult(images, is_adversarial_logits(output.logits, slots.goal), following, hopeless)

    def climb(batch: Batch, draws: Generators, initial: State) -> Images:
        return run_search(model, batch, draws, start=start, step=step, steps=steps, initial_state=initial)

    return climb


def checkpoints(steps: int) -> list[int]:
    """The ages at which the step size is reviewed: after 22% of the steps, then at intervals that shrink by 3% down to
    6% (section 3.1 of the paper).

    Args:
        steps: Steps of the whole run.
    """
    first, least, shorter = (max(int(share * steps), 1) for share in (0.22, 0.06, 0.03))
    lengths = [max(first - i * shorter, least) for i in range(steps)]
    return [age for age in accumulate(lengths) if age < steps]


def _fresh(images: Images, threat: ThreatModel) -> State:
    count = len(images)
    low = torch.full((count,), -torch.inf, device=images.device)
    return {
        "images": images,
        "previous": images,
        "gradient": torch.zeros_like(images),
        "best_images": images,
        "best_gradient": torch.zeros_like(images),
        "best_loss": low,
        "last_loss": low,
        "best_at_review": low,
        "best_margin": low,
        "margin_before": low,
        "rises": torch.zeros(count, dtype=torch.int64, device=images.device),
        "halved": torch.ones(count, dtype=torch.bool, device=images.device),
        "size": torch.full((count,), 2 * threat.eps, device=images.device),
    }


def _look_back(margins: Tensor, state: State, age: Tensor) -> dict[str, Tensor]:
    """Remember the best margin, and what it was at the last look back."""
    at_review = (age == 0) | (age % LOOK_BACK == LOOK_BACK - 1)
    return {"best_margin": margins, "margin_before": torch.where(at_review, margins, state["margin_before"])}


def _hopeless(margins: Tensor, state: State, age: Tensor, steps: int) -> Tensor:
    """At each look back: whether the margin stays below zero even if it goes on rising at its recent pace."""
    at_review = (age > 0) & (age % LOOK_BACK == LOOK_BACK - 1)
    slope = (margins - state["margin_before"]) / LOOK_BACK
    return at_review & (margins + GENEROSITY * slope * (steps - age) < 0)


def _record(state: State, age: Tensor, losses: Tensor, gradient: Images, images: Images) -> dict[str, Tensor]:
    losses = losses.nan_to_num(-torch.inf, torch.inf, -torch.inf)
    better = losses > state["best_loss"]
    wide = better.view(-1, 1, 1, 1)
    return {
        **state,
        "gradient": gradient,
        "best_images": torch.where(wide, images, state["best_images"]),
        "best_gradient": torch.where(wide, gradient, state["best_gradient"]),
        "best_loss": torch.where(better, losses, state["best_loss"]),
        "last_loss": losses,
        "rises": state["rises"] + ((losses > state["last_loss"]) & (age > 0)),
        "best_at_review": torch.where(age == 0, losses, state["best_at_review"]),
    }


def _review(state: dict[str, Tensor], length: Tensor) -> dict[str, Tensor]:
    """At a checkpoint: halve the step and go back to the best point, where the loss rises too rarely or not at all."""
    at_review = length > 0
    # Conditions 1 and 2 of section 3.1.
    too_few_rises = state["rises"] < RISING_SHARE * length
    stuck = ~state["halved"] & (state["best_at_review"] >= state["best_loss"])
    halve = at_review & (too_few_rises | stuck)
    wide = halve.view(-1, 1, 1, 1)
    return {
        **state,
        "images": torch.where(wide, state["best_images"], state["images"]),
        "gradient": torch.where(wide, state["best_gradient"], state["gradient"]),
        "size": torch.where(halve, state["size"] / 2, state["size"]),
        "halved": torch.where(at_review, halve, state["halved"]),
        "best_at_review": torch.where(at_review, state["best_loss"], state["best_at_review"]),
        "rises": torch.where(at_review, torch.zeros_like(state["rises"]), state["rises"]),
    }


def _lengths(marks: list[int]) -> list[int]:
    """The length of the interval that ends at each age, the last for any later one too; 0 where none does."""
    table = [0] * ((marks[-1] if marks else 0) + 2)
    for before, mark in zip([0, *marks], marks, strict=False):
        table[mark] = mark - before
    return table


def _advance(state: dict[str, Tensor], slots: SearchState, threat: ThreatModel) -> Images:
    images, previous = state["images"], state["previous"]
    size = state["size"].view(-1, 1, 1, 1)
    ahead = projected_step(images, slots.origin, state["gradient"], threat, size)
    share = torch.where(slots.age == 0, 1.0, MOMENTUM).view(-1, 1, 1, 1)
    mixed = images + share * (ahead - images) + (1 - share) * (images - previous)
    return threat.project(mixed, slots.origin)
