"""Batteries: which attacks run, in which order, with which settings; those that ship and those a user puts together."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from audit.core.errors import UsageError, nearest
from audit.core.registry import Method, find, methods
from audit.core.threat import Norm

CUSTOM = "custom"
"""The name of a battery that a user put together."""

_CUSTOM_REFINE_STEPS = 6


@dataclass(frozen=True)
class AttackSpec:
    """One attack of a battery.

    Attributes:
        attack: Its name in the registry.
        settings: Those that differ from the attack's defaults.
        name: What the report calls it; the attack's own name when empty.
        control_sample: Above 0, the attack is a control: it runs at the headline eps alone, on at most so many of the
            images not yet broken.
        hardest_fraction: The share of the images not yet broken that it runs on, in (0, 1]: those that earlier attacks
            came nearest to breaking.
        transferred: Whether it is made on a surrogate, a model taught to answer as the one under test does, which alone
            is judged.
        stream: What its random draws are seeded with; from the attack and its settings when empty, so that neither its
            name in the report nor its place in the battery changes them.
    """

    attack: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""
    control_sample: int = 0
    hardest_fraction: float = 1.0
    transferred: bool = False
    stream: str = ""

    @property
    def title(self) -> str:
        """The name under which its successes are counted."""
        return self.name or self.attack

    @property
    def method(self) -> Method:
        """The registered attack. Raises UsageError for an unknown name."""
        return find("attack", self.attack)

    @property
    def seed_stream(self) -> str:
        """What its random draws are seeded with."""
        if self.stream:
            return self.stream
        return f"{self.attack} {json.dumps(self.method.settings(self.settings), sort_keys=True)}"


@dataclass(frozen=True)
class Battery:
    """Attacks in running order, cheap ones first; each sees what those before it left unbroken.

    Attributes:
        name: What configurations and the report call it.
        protocol: The attacks and their settings in words.
        entries: The attacks.
        refine_steps: Bisections on the line from each adversarial example to its clean image, which sharpen the
            smallest distance.
    """

    name: str
    protocol: str
    entries: tuple[AttackSpec, ...]
    refine_steps: int = 0

    @property
    def iterative(self) -> bool:
        """Whether some attack follows gradients over several steps, on more than a sample of the images.

        One that does not declare its effort is taken to.
        """
        return any(
            entry.method.facts["needs"] == "gradients"
            and entry.method.facts["effort"] != ()
            and not entry.control_sample
            for entry in self.entries
        )

    @property
    def wants_surrogate(self) -> bool:
        """Whether some attack is to be made on a surrogate."""
        return any(entry.transferred for entry in self.entries)

    def without_controls(self) -> Battery:
        """The battery without the attacks that only check the others; as it is where it consists of them."""
        attacks = tuple(entry for entry in self.entries if not entry.control_sample)
        return replace(self, entries=attacks or self.entries)

    def describe(self) -> list[Any]:
        """Everything that changes its answers, as JSON: attacks in order, their settings and versions."""
        attacks = [
            [entry.title, entry.attack, entry.method.settings(entry.settings)]
            + [entry.method.full_version, entry.control_sample]
            + (["transferred"] if entry.transferred else [])
            + ([entry.hardest_fraction] if entry.hardest_fraction < 1 else [])
            for entry in self.entries
        ]
        return [attacks, self.refine_steps]


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


def battery_of_cell(name: str, description: Sequence[Any] | None) -> Battery:
    """The battery of a stored cell.

    Args:
        name: The cell's method, the name of a battery.
        description: What `Battery.describe` gave when the cell was planned; needed for a custom battery alone.

    Raises:
        UsageError: For an unknown name.
    """
    if name != CUSTOM or description is None:
        return battery_named(name)
    entries = []
    for title, attack, settings, _, sample, *rest in description[0]:
        fraction = next((value for value in rest if isinstance(value, float)), 1.0)
        entries.append(AttackSpec(attack, settings, title, sample, fraction, "transferred" in rest))
    return custom_battery(entries)


def require_norm(battery: Battery, norm: Norm) -> None:
    """Refuse a battery of which no attack exists for the norm: its robust accuracy would be the clean accuracy.

    Args:
        battery: The attacks.
        norm: The norm of the threat model.

    Raises:
        UsageError: Where that is so; it says for which norms each attack exists.
    """
    if any(norm in entry.method.facts["norms"] for entry in battery.entries):
        return
    exist = "; ".join(f"{entry.attack} for {', '.join(entry.method.facts['norms'])}" for entry in battery.entries)
    raise UsageError(f"No attack of this battery exists for {norm}: {exist}. Change the norm, or add an attack.")


def _unknown(name: str, *, alone: bool) -> UsageError:
    if name in BATTERIES:
        return UsageError(f"Battery {name!r} cannot be mixed with attacks: name one battery, or attacks alone.")
    attacks = [method.name for method in methods("attack") if method.facts["norms"]]
    suggestion = nearest(name, [*(BATTERIES if alone else ()), *attacks])
    return UsageError(
        f"Unknown {'battery or ' if alone else ''}attack {name!r}.{suggestion} "
        f"Batteries: {', '.join(BATTERIES)}. Attacks: {', '.join(attacks)}."
    )


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
