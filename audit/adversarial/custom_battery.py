"""Batteries that a user puts together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from audit.adversarial.battery import AttackSpec, Battery
from audit.core.errors import UsageError

CUSTOM = "custom"
"""The name of a battery that a user put together."""

_CUSTOM_REFINE_STEPS = 6


def custom_battery(entries: Sequence[AttackSpec]) -> Battery:
    """A battery of any attacks that are bound by the ball of a norm.

    Args:
        entries: The attacks in running order; those of the same attack are numbered where they have no name.

    Raises:
        UsageError: For an empty list, an unknown attack or setting, an attack with a threat of its own, a name used
            twice, or the same attack with the same settings twice.
    """
    if not entries:
        raise UsageError("The battery holds no attack: name at least one, such as apgd-ce.")
    numbered = tuple(_numbered(entries))
    for entry in numbered:
        if not entry.method.facts["norms"]:
            raise UsageError(
                f"Attack {entry.attack!r} cannot join a battery: its threat is its own "
                f"({entry.method.facts['threat']}), not the ball of a norm. Set other_threats.examples to run it."
            )
        if not 0 < entry.hardest_fraction <= 1 or entry.control_sample < 0:
            raise UsageError(f"Attack {entry.title!r}: `hardest` must be in (0, 1] and `sample` at least 0.")
    if numbered[0].hardest_fraction < 1:
        raise UsageError("The first attack of a battery cannot have `hardest`: no attack before it tells which are.")
    _require_unique([entry.title for entry in numbered], "names", "Give each a title of its own.")
    _require_unique([entry.seed_stream for entry in numbered], "settings", "Change a setting, or leave one out.")
    protocol = "; ".join(_in_words(entry) for entry in numbered)
    return Battery(CUSTOM, protocol, numbered, refine_steps=_CUSTOM_REFINE_STEPS)


def _numbered(entries: Sequence[AttackSpec]) -> Iterable[AttackSpec]:
    """The entries, the second and later nameless ones of an attack called ATTACK-2 and so on."""
    times: Counter[str] = Counter()
    for entry in entries:
        if entry.name:
            yield entry
            continue
        times[entry.attack] += 1
        number = times[entry.attack]
        yield replace(entry, name=entry.attack if number == 1 else f"{entry.attack}-{number}")


def _require_unique(values: Sequence[str], what: str, advice: str) -> None:
    for value, count in Counter(["clean", *values] if what == "names" else values).items():
        if count > 1:
            raise UsageError(f"Two attacks of the battery have the same {what} ({value}). {advice}")


def _in_words(entry: AttackSpec) -> str:
    """As in "apgd-ce (steps 50) on the 30% nearest to breaking"; settings that are the default are left out."""
    defaults, settings = entry.method.defaults, entry.method.settings(entry.settings)
    changed = ", ".join(f"{name} {value}" for name, value in settings.items() if value != defaults[name])
    words = entry.attack + (f" ({changed})" if changed else "")
    if entry.control_sample:
        words += f" on {entry.control_sample} images not yet broken, as a check"
    if entry.hardest_fraction < 1:
        words += f" on the {entry.hardest_fraction:.0%} nearest to breaking"
    return words + (" transferred from a surrogate" if entry.transferred else "")
