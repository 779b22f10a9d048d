"""The evidence of all images, joined from that of some of them each."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from audit.core.cell import Cell
from audit.core.evidence import Evidence, Facts, Measurement
from audit.execution.context import Context
from audit.execution.measured import measured_evidence
from audit.masking.cache import is_cached, joined_arrays
from audit.planning.parts import part_inputs


def join_images(context: Context, cell: Cell, facts: Callable[[Sequence[Evidence]], Facts]) -> Evidence:
    """Measurements and arrays one after another, in the order of the images; the model is not asked.

    Args:
        context: Gives the evidence of the parts.
        cell: The cell that joins them.
        facts: Gives the facts of all images from the parts.

    Raises:
        NotApplicable: A part is not applicable: what is not applicable to some images is to none.
    """
    parts = [context.evidence(name) for name in part_inputs(cell)]
    first = parts[0]
    measurements = [
        Measurement(m.name, m.unit, m.better, np.concatenate([part.measurement(m.name).per_example for part in parts]))
        for m in first.measurements
    ]
    arrays = {
        name: np.concatenate([part.arrays[name] for part in parts]) for name in first.arrays if not is_cached(name)
    }
    return measured_evidence(
        cell, measurements, arrays=arrays | joined_arrays([part.arrays for part in parts]), facts=facts(parts)
    )
