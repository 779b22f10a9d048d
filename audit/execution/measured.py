"""The evidence of a study that was measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from audit.core.cell import Cell
from audit.core.evidence import Array, Evidence, Facts, Measurement
from audit.core.types import PassCount


def measured_evidence(
    cell: Cell,
    measurements: Iterable[Measurement] = (),
    *,
    arrays: Mapping[str, Array] | None = None,
    facts: Facts | None = None,
    passes: PassCount | None = None,
) -> Evidence:
    """Put together what a study measured.

    Args:
        cell: The computation.
        measurements: Quantities with one value an example.
        arrays: What is not one number an example, by name.
        facts: Small values, as the study's own model.
        passes: What it cost; None where no model was asked.
    """
    cost = passes or PassCount()
    return Evidence(
        cell,
        "measured",
        tuple(measurements),
        arrays=arrays or {},
        facts={} if facts is None else facts.dump(),
        forwards=cost.forwards,
        backwards=cost.backwards,
    )
