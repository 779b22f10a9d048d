"""The cells of the sanity checks of attacks."""

from __future__ import annotations

from audit.core.registry import find
from audit.planning.builder import EXAMPLES_PER_CELL, ModelRef, PlanBuilder
from audit.planning.run_identity import curve_eps
from audit.topics.attack_controls import AttackControlsConfig
from audit.topics.attack_controls.facts import AttackControlsSettings


def plan(builder: PlanBuilder, model: ModelRef) -> None:
    """The sanity checks on the first of the examples that were attacked.

    Args:
        builder: The plan so far.
        model: The model.
    """
    attacked = builder.planned("robustness", model.role)[0]
    examples = min(builder.config.table(AttackControlsConfig).examples, len(attacked.examples))
    for chunk in builder.chunks(examples, EXAMPLES_PER_CELL):
        builder.add(
            "attack-controls",
            builder.battery.name,
            model,
            chunk,
            settings=AttackControlsSettings(
                eps=curve_eps(builder.config, builder.identity),
                pgd=find("attack", "pgd").full_version,
                protocol=builder.battery.describe(),
            ).dump(),
            threat=attacked.cell.threat,
            inputs={"robustness": attacked},
        )
