"""The cells of certificates."""

from __future__ import annotations

from collections.abc import Iterator

from audit.core.types import PassCount
from audit.planning.builder import ModelRef, PlanBuilder
from audit.planning.plan import Slice, Task
from audit.planning.run_identity import RunIdentity, curve_eps
from audit.topics.certification import CertificationConfig
from audit.topics.certification.facts import BEFORE, LINEAR_BOUNDS, BoundsSettings, next_problems

CERTIFICATES = ("interval-bounds", "smoothing")
RUNGS_OF_EFFORT = {
    "bounds": ("interval-bounds", "crown", "alpha-crown"),
    "optimised": ("crown-tightened", "alpha-crown"),
    "complete": ("crown-tightened", "alpha-crown", "branch-and-bound"),
}
"""By effort, the bounds that are tried on what the efforts before left open."""


def proof_stages(config: CertificationConfig) -> Iterator[BoundsSettings]:
    """What is tried in turn, each on what those before left open, whatever was asked before.

    A larger effort, or more sub-problems, begins with the stages of a smaller one, whose cells may be stored already:
    so only open images are asked further. Sub-problems grow tenfold from stage to stage, since a stage begins the
    search of an open image anew.

    Args:
        config: How far to go; `eps` is left to the plan.
    """
    for effort, rungs in RUNGS_OF_EFFORT.items():
        if effort != "complete":
            yield BoundsSettings(rungs=rungs)
        else:
            for problems in _problems_of_stages(config.problems):
                yield BoundsSettings(rungs=rungs, problems=problems)
        if effort == config.effort:
            return


def _problems_of_stages(problems: int) -> Iterator[int]:
    stage = next_problems(0)
    while stage < problems:
        yield stage
        stage = next_problems(stage)
    yield problems


def plan(builder: PlanBuilder, model: ModelRef) -> None:
    """Certified radii of the model itself by intervals and by linear bounds, and of its smoothed version.

    Linear bounds get what attacks broke on the same images, which then needs no proof, and go on from stage to stage.

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
        inputs = {"robustness": attacked} if attacked else {}
        before = chunk.start - attacked.examples.start if attacked else 0
        of_attacks = {"attacked_before": before} if before else {}
        for stage in proof_stages(config):
            task = builder.add(
                "certification",
                LINEAR_BOUNDS,
                model,
                chunk,
                settings={**stage.dump(), "eps": curve_eps(builder.config, builder.identity), **of_attacks},
                threat=builder.threat,
                inputs=inputs,
            )
            inputs, of_attacks = {BEFORE: task}, {}


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
