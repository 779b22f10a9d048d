"""What a cell of attacks asks of a battery."""

from __future__ import annotations

from audit.adversarial.batteries import battery_of_cell
from audit.adversarial.battery_job import BatteryJob, battery_job
from audit.core.cell import Cell
from audit.core.errors import NotApplicable
from audit.core.types import Batch
from audit.execution.context import Context
from audit.models.under_test import ModelUnderTest
from audit.topics.robustness.facts import RobustnessSettings, asked_threat
from audit.topics.surrogate.study import surrogate_model


def cell_job(cell: Cell, model: ModelUnderTest, batch: Batch) -> BatteryJob:
    """The battery of a cell on its images.

    Args:
        cell: A cell of attacks: its method names the battery, its threat holds the norm.
        model: The model under attack.
        batch: The images of the cell.
    """
    norm, eps, headline = asked_threat(cell)
    battery = battery_of_cell(cell.method, RobustnessSettings.of(cell).protocol)
    return battery_job(model, batch, norm, eps, battery=battery, headline=headline, seed=cell.seed)


def cell_surrogate(context: Context, cell: Cell) -> ModelUnderTest | None:
    """The surrogate of the plan; None where there is none, or none could be taught: the battery then says so.

    Args:
        context: Gives the inputs of the cell.
        cell: A cell of attacks.
    """
    if "surrogate" not in cell.inputs:
        return None
    try:
        return surrogate_model(context.evidence("surrogate"), context.device)
    except NotApplicable:
        return None
