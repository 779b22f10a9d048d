"""The order in which a battery's attacks run over a sweep of eps, and where it looks across images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from audit.adversarial.battery import AttackSpec, Battery


@dataclass(frozen=True)
class AttackRun:
    """One attack of a battery at one eps.

    Attributes:
        entry: The attack.
        bound: The eps that binds it, in units of the pixel range.
        at: The eps whose unbroken images it is given.
    """

    entry: AttackSpec
    bound: float
    at: float

    @property
    def looks_across(self) -> bool:
        """Whether it takes some of the unbroken images alone, chosen among those of all that are attacked together."""
        return self.entry.control_sample > 0 or self.entry.hardest_fraction < 1


def battery_schedule(battery: Battery, eps: Sequence[float], headline: float) -> tuple[AttackRun, ...]:
    """Every run of a battery, in order.

    What is broken at a small eps is broken at a larger one, so eps rises. An attack that looks for the smallest change
    itself runs once, within the largest eps; a control runs at the eps of the verdict.

    Args:
        battery: The attacks.
        eps: Sizes of the ball, ascending.
        headline: The eps of the verdict, one of them.
    """
    return tuple(_runs(battery, eps, headline))


def _runs(battery: Battery, eps: Sequence[float], headline: float) -> Iterator[AttackRun]:
    for at in eps:
        for entry in battery.entries:
            if entry.method.facts["minimal"] and not entry.control_sample:
                if at == eps[0]:
                    yield AttackRun(entry, eps[-1], at)
            elif not entry.control_sample or at == headline:
                yield AttackRun(entry, at, at)


def stretches(schedule: Sequence[AttackRun]) -> tuple[tuple[int, int], ...]:
    """The schedule cut before each run that looks across images: what lies between two cuts asks each image by itself.

    Args:
        schedule: What `battery_schedule` gives.

    Returns:
        Of each stretch, the position of its first run and that after its last. Only the first may be empty.
    """
    cuts = [0, *(number for number, run in enumerate(schedule) if run.looks_across)]
    return tuple(zip(cuts, [*cuts[1:], len(schedule)], strict=True))
