"""The cells of certificates."""

from __future__ import annotations

from audit.core.types import PassCount
from audit.planning.builder import ModelRef, PlanBuilder
from audit.planning.plan import Slice, Task
from audit.planning.run_identity import RunIdentity, curve_eps
from audit.topics.certification import CertificationConfig
from audit.topics.certification.facts import LINEAR_BOUNDS, BoundsSettings

CERTIFICATES = ("interval-bounds", "smoothing")
RUNGS_OF_EFFORT = {
    "bounds": ("interval-bounds", "crown", "alpha-crown"),
    "optimised": ("interval-bounds", "crown", "crown-tightened", "alpha-crown"),
    "complete": ("interval-bounds", "crown", "crown-tightened", "alpha-crown", "branch-and-bound"),
}
"""By effort, the bounds that are tried."""


def plan(builder: PlanBuilder, model: ModelRef) -> None:
    """Certified radii of the model itself by intervals and by linear bounds, and of its smoothed version.

    Linear bounds get what attacks broke on the same images, which then needs no proof.

    Args:
        builder: The plan so far.
        model: The model.
    """
    config = builder.config.table(CertificationConfig)
    for metric in CERTIFICATES:
        builder.metric_cells("certification", metric, model, builder.chunks(config.examples))
    attacks = builder.planned("robustness", model.role)
    attacks = attacks if builder.config.stop == "all" else attacks[:1]  # later ones may never be wanted
    for chunk in builder.chunks(config.examples):
        attacked = _covering(attacks, chunk)
        before = chunk.start - attacked.examples.start if attacked else 0
        builder.add(
            "certification",
            LINEAR_BOUNDS,
            model,
            chunk,
            settings=BoundsSettings(
                eps=curve_eps(builder.config, builder.identity),
                rungs=RUNGS_OF_EFFORT[config.effort],
                problems=config.problems,
                **({"attacked_before": before} if before else {}),
            ).dump(),
            threat=builder.threat,
            inputs={"robustness": attacked} if attacked else {},
        )


def _covering(attacks: tuple[Task, ...], chunk: Slice) -> Task | None:
    """The attacks on a slice that holds the chunk; None without one."""
    return next((t for t in attacks if t.examples.start <= chunk.start and chunk.stop <= t.examples.stop), None)


def max_passes(task: Task, identity: RunIdentity) -> PassCount | None:
    """The votes of smoothing, one interval propagation; None of linear bounds, which go as far as each image takes.

    Args:
        task: A cell of this topic.
        identity: Identities and sizes of the data and the model.
    """
    if task.cell.method == LINEAR_BOUNDS:
        return None
    if task.cell.method == "smoothing":
        return PassCount(task.cell.settings["selection"] + task.cell.settings["samples"], 0)
    bisections = task.cell.settings["bisections"] + 1
    return PassCount(2 * bisections + 4, bisections * len(identity.classes))
