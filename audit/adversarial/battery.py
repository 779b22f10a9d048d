"""What a battery is: attacks in running order, each with its settings and the images it takes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from audit.core.errors import UsageError
from audit.core.registry import Method, find
from audit.core.threat import Norm


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
