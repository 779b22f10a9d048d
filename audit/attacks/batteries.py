"""Batteries: which attacks run, in which order, with which settings. Data, not code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from audit.errors import unknown_name


@dataclass(frozen=True)
class Entry:
    """One attack of a battery: the registry's `attack` with `settings`, called `name` in the report.

    `sample` > 0 makes it a control: it runs at the headline eps alone, on at most that many survivors.
    """

    attack: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""
    sample: int = 0

    @property
    def title(self) -> str:
        """The name under which its successes are counted."""
        return self.name or self.attack


@dataclass(frozen=True)
class Battery:
    """Entries in running order, cheap ones first; each sees what those before it left unbroken.

    `shrink` is the number of bisections on the line from each adversarial example to its clean image, which
    sharpen the minimal distance.
    """

    name: str
    protocol: str
    entries: tuple[Entry, ...]
    shrink: int = 0


_NOISE = Entry("random-noise", {"draws": 10}, sample=128)

_QUICK = (
    Entry("fgsm"),
    Entry("pgd", {"steps": 20, "relative_step": 0.15, "loss": "margin", "random_start": False}, "pgd-margin"),
    Entry("pgd", {"steps": 20, "relative_step": 0.15, "loss": "ce"}, "pgd-ce"),
)

BATTERIES: Mapping[str, Battery] = {
    battery.name: battery
    for battery in (
        Battery(
            "quick",
            "FGSM, then PGD-20 with the margin loss from the image, then PGD-20 with cross-entropy from a random start",
            (*_QUICK, _NOISE),
        ),
    )
}


def battery_named(name: str) -> Battery:
    """The battery called `name`. Raises UsageError that lists what exists."""
    if name not in BATTERIES:
        raise unknown_name("battery", name, BATTERIES)
    return BATTERIES[name]
