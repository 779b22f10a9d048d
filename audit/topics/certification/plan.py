"""The cells of certificates."""

from __future__ import annotations

from audit.planning.builder import ModelRef, PlanBuilder
from audit.topics.certification import CertificationConfig

CERTIFICATES = ("interval-bounds", "smoothing")


def plan(builder: PlanBuilder, model: ModelRef) -> None:
    """Certified radii of the model itself by interval bounds, and of its smoothed version.

    Args:
        builder: The plan so far.
        model: The model.
    """
    examples = builder.config.table(CertificationConfig).examples
    for metric in CERTIFICATES:
        builder.metric_cells("certification", metric, model, builder.chunks(examples))
