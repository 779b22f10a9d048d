"""Batteries: which attacks run, in which order, with which settings. Data, not code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from audit.core.errors import unknown_name


@dataclass(frozen=True)
class AttackSpec:
    """One attack of a battery: the registry's `attack` with `settings`, called `name` in the report.

    `sample` > 0 makes it a control: it runs at the headline eps alone, on at most that many survivors. `closest`
    below 1 keeps it to that share of the survivors, those that earlier attacks came nearest to breaking.
    `transferred` runs it on a surrogate, a model taught to answer as the one under test does, which alone is judged.
    """

    attack: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""
    sample: int = 0
    closest: float = 1.0
    transferred: bool = False

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
    entries: tuple[AttackSpec, ...]
    shrink: int = 0

    @property
    def wants_surrogate(self) -> bool:
        """Whether some attack is to be made on a surrogate."""
        return any(entry.transferred for entry in self.entries)


_NOISE = AttackSpec("random-noise", {"draws": 10}, sample=128)

_QUICK = (
    AttackSpec("fgsm"),
    AttackSpec("apgd-dlr", {"steps": 20, "give_up": True}),
    AttackSpec("apgd-ce", {"steps": 16, "give_up": True}),
)

_STANDARD = (
    *_QUICK,
    AttackSpec("apgd-t", {"steps": 60, "targets": 9, "give_up": True}),
    AttackSpec("apgd-ce", {"steps": 100, "restarts": 5}, "apgd-ce-closest", closest=0.3),
    AttackSpec("apgd-t", {"steps": 100, "targets": 9}, "apgd-t-closest", closest=0.3),
    AttackSpec("square", {"queries": 500}, "square-check", sample=32),
)

_PUBLISHED = (
    AttackSpec("apgd-ce", {"steps": 100}),
    AttackSpec("apgd-t", {"steps": 100, "targets": 9}),
    AttackSpec("fab-t", {"steps": 100, "targets": 9}),
    AttackSpec("square", {"queries": 5000}),
)

_FULL = (
    *_STANDARD[:-1],
    AttackSpec("apgd-ce", {"steps": 100, "restarts": 5}, "apgd-ce-restarts"),
    AttackSpec("fab-t", {"steps": 100, "targets": 9}),
    AttackSpec("apgd-t", {"steps": 200, "targets": 9}, "apgd-t-long", closest=0.3),
    AttackSpec("square", {"queries": 5000}),
    AttackSpec("mi-fgsm", {"steps": 20, "to_the_end": True}, "transfer", transferred=True),
    AttackSpec("ddn", {"steps": 100}),
    AttackSpec("fmn", {"steps": 100}),
    AttackSpec("hopskipjump", {"steps": 10}, "hopskipjump-check", sample=8),
)

BATTERIES: Mapping[str, Battery] = {
    battery.name: battery
    for battery in (
        Battery("quick", "FGSM; APGD-DLR 20; APGD-CE 16; both leave hopeless images early", (*_QUICK, _NOISE)),
        Battery(
            "standard",
            "the quick battery; APGD-T 9 x 60, leaving hopeless images early; on the third of the survivors nearest "
            "to breaking APGD-CE 5 x 100 and APGD-T 9 x 100; Square 500 on 32 survivors as a check",
            (*_STANDARD, _NOISE),
            shrink=6,
        ),
        Battery("autoattack", "APGD-CE 100; APGD-T 9 x 100; FAB-T 9 x 100; Square 5000", _PUBLISHED),
        Battery(
            "full",
            "the standard battery, then APGD-CE 5 x 100, FAB-T 9 x 100, APGD-T 9 x 200 on the third nearest to "
            "breaking, Square 5000 on all survivors; MI-FGSM 20 transferred from a surrogate; the minimal norm by "
            "DDN 100 (l2) and FMN 100; HopSkipJump on 8 survivors as a check",
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
