"""Batteries: which attacks run, in which order, with which settings. Data, not code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from audit.errors import unknown_name


@dataclass(frozen=True)
class Entry:
    """One attack of a battery: the registry's `attack` with `settings`, called `name` in the report.

    `sample` > 0 makes it a control: it runs at the headline eps alone, on at most that many survivors. `closest`
    below 1 keeps it to that share of the survivors, those that earlier attacks came nearest to breaking.
    """

    attack: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""
    sample: int = 0
    closest: float = 1.0

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
    Entry("pgd", {"steps": 10, "relative_step": 0.25, "loss": "margin", "random_start": False}, "pgd-margin"),
    Entry("pgd", {"steps": 10, "relative_step": 0.25, "loss": "ce"}, "pgd-ce"),
)

_STANDARD = (
    Entry("pgd", {"steps": 20, "relative_step": 0.15, "loss": "margin", "random_start": False}, "pgd-margin"),
    Entry("apgd-ce", {"steps": 40}),
    Entry("multi-targeted", {"steps": 25, "relative_step": 0.15, "targets": 5}),
    Entry("apgd-t", {"steps": 50, "targets": 9}),
    Entry("apgd-t", {"steps": 100, "targets": 4}, "apgd-t-closest", closest=0.2),
    Entry("apgd-dlr", {"steps": 100, "restarts": 3}, "apgd-dlr-closest", closest=0.2),
    Entry("square", {"queries": 1000}, "square-check", sample=32),
)

_PUBLISHED = (
    Entry("apgd-ce", {"steps": 100}),
    Entry("apgd-t", {"steps": 100, "targets": 9}),
    Entry("fab-t", {"steps": 100, "targets": 9}),
    Entry("square", {"queries": 5000}),
)

_FULL = (
    *_STANDARD[:-1],
    Entry("apgd-ce", {"steps": 100, "restarts": 5}, "apgd-ce-restarts"),
    Entry("fab-t", {"steps": 100, "targets": 9}),
    Entry("apgd-t", {"steps": 200, "targets": 9}, "apgd-t-long", closest=0.3),
    Entry("square", {"queries": 5000}),
)

BATTERIES: Mapping[str, Battery] = {
    battery.name: battery
    for battery in (
        Battery("quick", "FGSM; PGD-10 on the margin from the image; PGD-10 on cross-entropy", (*_QUICK, _NOISE)),
        Battery(
            "standard",
            "PGD-20 on the margin; APGD-CE 40; multi-targeted PGD 5 x 25; APGD-T 9 x 50; on the fifth nearest to "
            "breaking APGD-T 4 x 100 and APGD-DLR 3 x 100; Square 1000 on 32 survivors as a check",
            (*_STANDARD, _NOISE),
            shrink=6,
        ),
        Battery("autoattack", "APGD-CE 100; APGD-T 9 x 100; FAB-T 9 x 100; Square 5000", _PUBLISHED),
        Battery(
            "full",
            "the standard battery, then APGD-CE 5 x 100, FAB-T 9 x 100, APGD-T 9 x 200 on the third nearest to "
            "breaking, Square 5000 on all survivors",
            (*_FULL, _NOISE),
            shrink=10,
        ),
    )
}


def battery_named(name: str) -> Battery:
    """The battery called `name`. Raises UsageError that lists what exists."""
    if name not in BATTERIES:
        raise unknown_name("battery", name, BATTERIES)
    return BATTERIES[name]
