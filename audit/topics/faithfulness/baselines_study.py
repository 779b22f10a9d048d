"""The controls of faithfulness: orders of pixels that are the same for every method, measured once per model."""

from __future__ import annotations

from audit.core.cell import Cell
from audit.core.evidence import Evidence
from audit.core.registry import study
from audit.execution.context import Context
from audit.execution.joined_images import join_images
from audit.execution.measured import measured_evidence
from audit.planning.parts import part_inputs
from audit.topics.faithfulness.curves import all_curves, arrays, control_orders, measurements, protocol, same_facts
from audit.topics.faithfulness.facts import FaithfulnessFacts, FaithfulnessSettings


@study()
def faithfulness_baselines(context: Context, cell: Cell) -> Evidence:
    """Deletion and insertion of each image's predicted class by random, centre and edge-detector orders.

    `cell.settings`: see `FaithfulnessSettings`. Measurements and arrays have the names of the faithfulness study.

    Args:
        context: Gives the model, the examples and the inputs of the cell.
        cell: The cell.
    """
    return join_images(context, cell, same_facts) if part_inputs(cell) else _measured(context, cell)


@study()
def faithfulness_baselines_part(context: Context, cell: Cell) -> Evidence:
    """The controls of `faithfulness_baselines` on some of the images.

    Args:
        context: Gives the model, the examples and the inputs of the cell.
        cell: The cell.
    """
    return _measured(context, cell)


def _measured(context: Context, cell: Cell) -> Evidence:
    settings = FaithfulnessSettings.of(cell)
    model = context.model()
    batch = context.batch().to(model.device)
    with model.count() as counter:
        targets = model.predictions(batch.images)
        orders = control_orders(batch, cell.seed, settings.random_orders)
        curves = all_curves(context, model, batch, orders, targets, settings)
    return measured_evidence(
        cell,
        measurements(curves),
        arrays=arrays(curves),
        facts=FaithfulnessFacts(protocol=protocol(settings), **settings.model_dump()),
        passes=counter.passes,
    )
