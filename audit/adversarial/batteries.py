"""The batteries that ship, and batteries by name: a shipped one, one of named attacks, that of a stored cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from audit.adversarial.battery import AttackSpec, Battery
from audit.adversarial.custom_battery import CUSTOM, custom_battery
from audit.core.errors import UsageError, nearest
from audit.core.registry import methods


def _shipped(attack: str, settings: Mapping[str, Any] | None = None, name: str = "", **options: Any) -> AttackSpec:
    """An attack of a battery that ships, whose draws are seeded with the name it has had from the start."""
    return AttackSpec(attack, settings or {}, name, stream=name or attack, **options)


_NOISE = _shipped("random-noise", {"draws": 10}, control_sample=128)

_QUICK = (
    _shipped("fgsm"),
    _shipped("apgd-dlr", {"steps": 20, "give_up": True}),
    _shipped("apgd-ce", {"steps": 16, "give_up": True}),
)

_STANDARD = (
    *_QUICK,
    _shipped("apgd-t", {"steps": 60, "targets": 9, "give_up": True}),
    _shipped("apgd-ce", {"steps": 100, "restarts": 5}, "apgd-ce-closest", hardest_fraction=0.3),
    _shipped("apgd-t", {"steps": 100, "targets": 9}, "apgd-t-closest", hardest_fraction=0.3),
    _shipped("square", {"queries": 500}, "square-check", control_sample=32),
)

_PUBLISHED = (
    _shipped("apgd-ce", {"steps": 100}),
    _shipped("apgd-t", {"steps": 100, "targets": 9}),
    _shipped("fab-t", {"steps": 100, "targets": 9}),
    _shipped("square", {"queries": 5000}),
)

_FULL = (
    *_STANDARD[:-1],
    _shipped("apgd-ce", {"steps": 100, "restarts": 5}, "apgd-ce-restarts"),
    _shipped("fab-t", {"steps": 100, "targets": 9}),
    _shipped("apgd-t", {"steps": 200, "targets": 9}, "apgd-t-long", hardest_fraction=0.3),
    _shipped("square", {"queries": 5000}),
    _shipped("mi-fgsm", {"steps": 20, "to_the_end": True}, "transfer", transferred=True),
    _shipped("ddn", {"steps": 100}),
    _shipped("fmn", {"steps": 100}),
    _shipped("hopskipjump", {"steps": 10}, "hopskipjump-check", control_sample=8),
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
            refine_steps=6,
        ),
        Battery("autoattack", "APGD-CE 100; APGD-T 9 x 100; FAB-T 9 x 100; Square 5000", _PUBLISHED),
        Battery(
            "full",
            "the standard battery, then APGD-CE 5 x 100, FAB-T 9 x 100, APGD-T 9 x 200 on the third nearest to "
            "breaking, Square 5000 on all survivors; MI-FGSM 20 transferred from a surrogate; the minimal norm by "
            "DDN 100 (l2) and FMN 100; HopSkipJump on 8 survivors as a check",
            (*_FULL, _NOISE),
            refine_steps=10,
        ),
    )
}


def battery_named(name: str) -> Battery:
    """A battery that ships, or one of attacks with their default settings.

    Args:
        name: The name of a battery, or of attacks with commas between them, as in "apgd-ce,square".

    Raises:
        UsageError: When a name is neither that of a battery nor of an attack; it lists both.
    """
    if name in BATTERIES:
        return BATTERIES[name]
    attack_list = [attack.strip() for attack in name.split(",") if attack.strip()]
    attack_names = {method.name for method in methods("attack")}
    for attack in attack_list:
        if attack not in attack_names:
            raise _unknown(attack, alone=len(attack_list) == 1)
    return custom_battery([AttackSpec(attack) for attack in attack_list])


def battery_of_cell(name: str, description: Sequence[Any] | None) -> Battery:
    """The battery of a stored cell.

    Args:
        name: The cell's method, the name of a battery.
        description: What `Battery.describe` gave when the cell was planned: which attacks of a battery that ships it
            has, and everything of a custom one; None for all that ship.

    Raises:
        UsageError: For an unknown name.
    """
    if name != CUSTOM or description is None:
        battery = battery_named(name)
        planned = {title for title, *_ in description[0]} if description else set()
        of_plan = tuple(entry for entry in battery.entries if entry.title in planned)
        return replace(battery, entries=of_plan) if 0 < len(of_plan) < len(battery.entries) else battery
    entries = []
    for title, attack, settings, _, sample, *rest in description[0]:
        fraction = next((value for value in rest if isinstance(value, float)), 1.0)
        entries.append(AttackSpec(attack, settings, title, sample, fraction, "transferred" in rest))
    return custom_battery(entries)


def _unknown(name: str, *, alone: bool) -> UsageError:
    if name in BATTERIES:
        return UsageError(f"Battery {name!r} cannot be mixed with attacks: name one battery, or attacks alone.")
    attacks = [method.name for method in methods("attack") if method.facts["norms"]]
    suggestion = nearest(name, [*(BATTERIES if alone else ()), *attacks])
    return UsageError(
        f"Unknown {'battery or ' if alone else ''}attack {name!r}.{suggestion} "
        f"Batteries: {', '.join(BATTERIES)}. Attacks: {', '.join(attacks)}."
    )
