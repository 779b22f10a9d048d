"""A battery on some images at some eps: what is asked, checked before anything runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from audit.adversarial.batteries import battery_named
from audit.adversarial.battery import Battery, require_norm
from audit.adversarial.battery_schedule import AttackRun, battery_schedule
from audit.adversarial.targets import check_examples
from audit.adversarial.worst_case import WorstCase
from audit.core.errors import UsageError
from audit.core.threat import Norm, ThreatModel
from audit.core.types import Batch
from audit.models.autotune import tune_execution
from audit.models.under_test import ModelUnderTest


@dataclass(frozen=True)
class BatteryJob:
    """A battery on some images.

    Attributes:
        model: The model under attack.
        batch: N examples.
        battery: The attacks.
        threats: The balls, their eps ascending.
        headline: That of the verdict, one of them.
        seed: Root of the random draws.
    """

    model: ModelUnderTest
    batch: Batch
    battery: Battery
    threats: tuple[ThreatModel, ...]
    headline: ThreatModel
    seed: int

    @property
    def norm(self) -> Norm:
        """The norm that bounds the change."""
        return self.headline.norm

    @cached_property
    def schedule(self) -> tuple[AttackRun, ...]:
        """Every run of the battery, in order."""
        return battery_schedule(self.battery, [threat.eps for threat in self.threats], self.headline.eps)

    def worst_case(self) -> WorstCase:
        """The books before any attack, opened with the clean predictions: a forward an image."""
        attacks = ("clean", *(entry.title for entry in self.battery.entries))
        return WorstCase(self.model, self.batch, self.threats, attacks, self.headline)


def battery_job(
    model: ModelUnderTest,
    batch: Batch,
    norm: Norm,
    eps: Sequence[float],
    *,
    battery: str | Battery,
    headline: float | None,
    seed: int,
) -> BatteryJob:
    """What `run_battery` is asked, with the model tuned to this machine.

    Args:
        model: The model under attack.
        batch: N examples: images float32 (N, C, H, W) in [0, 1], labels, and which predictions count as misclassified.
        norm: Which norm bounds the change.
        eps: The sizes of the ball, in any order.
        battery: A battery, its name, or names of attacks with commas between them.
        headline: The eps of the verdict, the largest where None.
        seed: Root of the random draws.

    Raises:
        UsageError: For an eps, a norm or a battery that cannot be used.
        DataError: For images or labels that cannot be used.
    """
    chosen = battery_named(battery) if isinstance(battery, str) else battery
    threats = _threats(norm, eps)
    require_norm(chosen, norm)
    at = _headline(threats, headline)
    check_examples(model, batch)
    tune_execution(model)
    return BatteryJob(model, batch, chosen, threats, at, seed)


def _threats(norm: Norm, eps: Sequence[float]) -> tuple[ThreatModel, ...]:
    if len(eps) == 0:
        raise UsageError("No eps was given: name at least one, such as 8/255.")
    return tuple(ThreatModel(norm, size) for size in sorted({float(value) for value in eps}))


def _headline(threats: tuple[ThreatModel, ...], eps: float | None) -> ThreatModel:
    for threat in threats:
        if eps is None or threat.eps == eps:
            return threats[-1] if eps is None else threat
    raise UsageError(f"The headline eps {eps:g} is not among {[t.eps for t in threats]}: add it to the list.")
