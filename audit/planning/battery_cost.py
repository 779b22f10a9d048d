"""What a battery is expected to cost, from what its attacks, or cheaper ones, did to other images.

Images wrong before any attack cost nothing, broken ones leave at the step that broke them, and survivors pay every
attack that follows: so the cost is the share of images that reaches each attack, times what an image costs it there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from audit.adversarial.attack_result import AttackResult
from audit.adversarial.battery import AttackSpec, Battery
from audit.adversarial.battery_schedule import battery_schedule
from audit.adversarial.sanity import IMAGES_EXAMINED, SAMPLE
from audit.core.pass_count import PassCount

VERIFIER_FORWARDS = 2
"""Forwards an image that verify an attack's proposal at each eps: as it is, and rounded to 256 levels."""
FORWARDS_AN_IMAGE = 6
"""Most forwards an image before and after the attacks: clean predictions, verified distances, logits of stored images.
"""
SANITY_CHECKS = PassCount(50, 44)
"""Most passes an image of the sanity checks of a battery: gradients, noise, PGD in the whole box."""
USUAL_SANITY_CHECKS = PassCount(8, 5)
"""What they usually cost: PGD breaks nearly every image in its first steps there."""
GIVE_UP_STEPS = 8
"""Steps that an attack that leaves hopeless images early takes from each start on one that it does not break. Measured
on Fashion-MNIST's `cnn-28`, standard and hardened, at 1/8 to 2 times the usual eps: 4 to 10, whether 16, 20 or 60 were
allowed."""
UNSEEN = 0.1
"""Images that a sample of any size may have missed: what is broken without exception in it is taken to be broken in all
but so many of one image more."""
SURVIVAL_STANDARD: Mapping[float, float] = {0.0: 1.0, 0.125: 0.9, 0.25: 0.76, 0.5: 0.48, 1.0: 0.1, 2.0: 0.0}
SURVIVAL_HARDENED: Mapping[float, float] = {0.0: 1.0, 0.125: 0.96, 0.25: 0.94, 0.5: 0.9, 1.0: 0.78, 2.0: 0.24}
"""Share of the images right before that the quick battery leaves unbroken, by eps over the usual one, as measured on
Fashion-MNIST's `cnn-28`: what is assumed of a model that does not exist yet."""
RIGHT_BEFORE = 0.87
"""Share of images that such a model is taken to classify right before any attack."""


@dataclass(frozen=True)
class BatteryOutcomes:
    """What attacks did to some images of a model.

    Attributes:
        images: How many images there were.
        right: How many of them were right before any attack.
        rows: What each attack did at each eps, in the order in which they ran.
        unseen: Images that the sample may have missed, see `UNSEEN`; 0 takes the sample to be everything.
        survival: In place of rows, the share of the right images unbroken by eps over the usual one.
        draws: Forwards that each logit is the mean of; above 1 for a model that answers at random.
    """

    images: int
    right: int
    rows: tuple[AttackResult, ...] = ()
    unseen: float = UNSEEN
    survival: Mapping[float, float] = field(default_factory=dict)
    draws: int = 1

    def surviving(self, eps: float, headline: float) -> float:
        """The share of all images that are right and unbroken at an eps, or at the nearest that was tried.

        Args:
            eps: The size of the ball.
            headline: The eps of the verdict, taken to be the usual one where nothing but what is usual is known.
        """
        right = self.right / max(1, self.images)
        if self.survival:
            return right * _interpolated(self.survival, eps / headline)
        sizes = {row.eps for row in self.rows if row.eps is not None}
        if not sizes:
            return right
        nearest = min(sizes, key=lambda size: abs(size - eps))
        first = next(row for row in self.rows if row.eps == nearest)
        broken = sum(row.broke for row in self.rows if row.eps == nearest)
        return (first.survivors - broken) / max(1, self.images)

    @classmethod
    def usual(cls, *, hardened: bool) -> BatteryOutcomes:
        """What is assumed of a model that nothing is known of.

        Args:
            hardened: Whether it is trained against an adversary.
        """
        survival = SURVIVAL_HARDENED if hardened else SURVIVAL_STANDARD
        return cls(100, round(100 * RIGHT_BEFORE), unseen=0.0, survival=survival)

    @classmethod
    def joined(cls, parts: Sequence[BatteryOutcomes]) -> BatteryOutcomes:
        """Several samples as one; the passes, images and broken ones of the same attack at the same eps are summed.

        Args:
            parts: At least one, of the same battery or of several.
        """
        summed: dict[tuple[str, float | None, str], AttackResult] = {}
        for row in (row for part in parts for row in part.rows):
            key = (row.name, row.eps, repr(sorted(row.settings.items())))
            earlier = summed.get(key)
            summed[key] = row if earlier is None else earlier.plus(row)
        images, right = sum(part.images for part in parts), sum(part.right for part in parts)
        return cls(images, right, tuple(summed.values()), parts[0].unseen, draws=max(part.draws for part in parts))

    def row_for(self, entry: AttackSpec, eps: float) -> AttackResult | None:
        """What the attack did at this eps, or at the nearest at which it met any image.

        Args:
            entry: An attack of a battery.
            eps: The size of the ball.
        """
        settings = entry.method.settings(entry.settings)
        tried = [r for r in self.rows if r.tried and r.attack == entry.attack and r.settings == settings]
        named = [row for row in tried if row.name == entry.title] or tried
        return min(named, key=lambda row: abs((row.eps or eps) - eps), default=None)


@dataclass(frozen=True)
class BatteryRequest:
    """Which battery is to run on what.

    Attributes:
        battery: The attacks.
        eps: Sizes of the ball.
        headline: The eps of the verdict, one of them.
        usual: The eps that survival is told for, where nothing but that is known.
        images: How many images it runs on.
        shape: Of an image, (C, H, W).
        norm: Norm of the ball.
    """

    battery: Battery
    eps: tuple[float, ...]
    headline: float
    usual: float
    images: float
    shape: tuple[int, int, int]
    norm: str


def expected_battery_passes(
    request: BatteryRequest, outcomes: BatteryOutcomes, runs: tuple[int, int] | None = None
) -> tuple[PassCount, float] | None:
    """What the attacks of a battery are expected to cost, without what runs before and after them.

    Args:
        request: The battery and its images.
        outcomes: What attacks did to other images of the model.
        runs: Of some of its runs alone: position in the schedule of the first, and that after the last; None for all.

    Returns:
        The passes of all images, and the number of images broken; None where an attack that was never seen declares no
        cost.
    """
    schedule = battery_schedule(request.battery, sorted(request.eps), request.headline)
    first, last = runs or (0, len(schedule))
    alive = request.images * outcomes.right / max(1, outcomes.images)
    started, broken, forwards, backwards = alive, 0.0, 0.0, 0.0
    for number, run in enumerate(schedule[:last]):
        entry, before = run.entry, alive
        if request.norm not in entry.method.facts["norms"]:
            continue
        tried = min(alive, entry.control_sample) if entry.control_sample else alive * entry.hardest_fraction
        each = _each(entry, run.at, request, outcomes)
        if each is None:
            return None
        alive -= tried * each[2]
        if outcomes.survival and not entry.control_sample:
            alive = min(alive, started * _interpolated(outcomes.survival, run.at / request.usual))
        if number >= first:
            forwards += tried * each[0]
            backwards += tried * each[1]
            broken += before - alive
    return PassCount(round(forwards), round(backwards)), broken


def before_and_after(images: int, broken: float, refine_steps: int, *, sanity_checks: bool = True) -> PassCount:
    """What a battery is expected to cost beside its attacks.

    Args:
        images: How many it is given.
        broken: How many of them it breaks.
        refine_steps: Bisections towards the clean image of each broken one.
        sanity_checks: Whether the battery is checked itself, as in the first cell of a sequence.
    """
    checked = min(images, SAMPLE) if sanity_checks else 0
    looked_at = min(images, IMAGES_EXAMINED) if sanity_checks else 0
    forwards = images + looked_at + checked * USUAL_SANITY_CHECKS.forwards + broken * (refine_steps + VERIFIER_FORWARDS)
    return PassCount(round(forwards), checked * USUAL_SANITY_CHECKS.backwards)


def most_battery_passes(
    battery: Battery, eps: int, images: int, shape: tuple[int, ...], *, sanity_checks: bool = True
) -> PassCount | None:
    """The most that one image costs a battery: no attack stops before its last step.

    Args:
        battery: The attacks.
        eps: Number of sizes of the ball.
        images: How many images it is given, over which the sanity checks spread.
        shape: Of an image, (C, H, W).
        sanity_checks: Whether the battery is checked itself, as in the first cell of a sequence.

    Returns:
        The passes of one image; None where an attack declares no cost.
    """
    checked = min(1.0, SAMPLE / max(1, images)) if sanity_checks else 0.0
    total = PassCount(
        FORWARDS_AN_IMAGE + math.ceil(checked * SANITY_CHECKS.forwards), math.ceil(checked * SANITY_CHECKS.backwards)
    )
    for entry in battery.entries:
        method = entry.method
        passes = method.max_passes(method.settings(entry.settings), shape)
        if passes is None:
            return None
        times = 1 if entry.control_sample or method.facts["minimal"] else eps
        total += PassCount(times * (passes.forwards + VERIFIER_FORWARDS), times * passes.backwards)
    return total + PassCount(battery.refine_steps, 0)


def _each(
    entry: AttackSpec, eps: float, request: BatteryRequest, outcomes: BatteryOutcomes
) -> tuple[float, float, float] | None:
    """Forwards and gradients of one image that an attack meets, and the share that it breaks."""
    row = outcomes.row_for(entry, eps)
    if row is not None:
        return row.forwards / row.tried, row.backwards / row.tried, row.broke / (row.tried + outcomes.unseen)
    method = entry.method
    settings = method.settings(entry.settings)
    most = method.max_passes(settings, request.shape)
    if most is None:
        return None
    share = share_on_survivors(entry)
    draws = outcomes.draws
    return draws * (share * most.forwards + VERIFIER_FORWARDS), draws * share * most.backwards, 0.0


def share_on_survivors(entry: AttackSpec) -> float:
    """The share of its most passes that an attack takes on an image that it does not break.

    Args:
        entry: An attack of a battery.
    """
    method = entry.method
    settings = method.settings(entry.settings)
    gives_up = any(settings.get(name) for name in method.facts.get("early_stops", ()))
    return min(1.0, GIVE_UP_STEPS / settings["steps"]) if gives_up and "steps" in settings else 1.0


def _interpolated(survival: Mapping[float, float], ratio: float) -> float:
    """The share unbroken at an eps between those that are told, linear in eps; the last one beyond."""
    known = sorted(survival)
    for low, high in pairwise(known):
        if low <= ratio <= high:
            weight = (ratio - low) / (high - low)
            return (1 - weight) * survival[low] + weight * survival[high]
    return survival[known[-1]]
