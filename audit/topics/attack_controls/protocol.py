"""What the controls of attacks run, as the study and the plan both know it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from audit.adversarial.battery import AttackSpec, Battery

PGD: Mapping[str, Any] = {"steps": 40, "relative_step": 0.1, "loss": "margin"}
"""Settings of the PGD that is compared with weaker attacks, and with itself at other eps."""
BOX_RESTARTS = 2
"""Random starts of that PGD in the whole box."""


def twice(battery: Battery) -> Battery:
    """The battery with twice the effort that each attack declares, without early stopping or sampling.

    Args:
        battery: The battery; an attack that does not declare its effort stays as it is.
    """
    return replace(battery, name=f"{battery.name}, twice", entries=tuple(_twice(entry) for entry in battery.entries))


def _twice(entry: AttackSpec) -> AttackSpec:
    settings = entry.method.settings(entry.settings)
    doubled = entry.method.doubled(settings)
    return replace(entry, settings=settings if doubled is None else doubled, control_sample=0, hardest_fraction=1.0)
