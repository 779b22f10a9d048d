"""A battery in parts that join to the answer of the whole: the images cut into chunks, the attacks into stretches.

Within a stretch (`audit.adversarial.battery_schedule`) every image is asked by itself, so its chunks run apart. Between
two stretches the next attack's images are chosen among those of all chunks (`audit.adversarial.chosen_images`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from audit.adversarial.attack_result import AttackResult
from audit.adversarial.battery_job import BatteryJob
from audit.adversarial.battery_run import BatteryRun, Progress, Stopping
from audit.adversarial.eot import eot_samples, expectation_over_transformation, logit_noise
from audit.adversarial.result import BatteryResult
from audit.adversarial.run_battery import concluded, counted
from audit.adversarial.sanity import SanityReport, images_for_noise, sanity_report
from audit.adversarial.worst_case import BatteryCheckpoint
from audit.core.threat import Norm
from audit.core.types import Batch, Images, PassCount
from audit.models.under_test import ModelUnderTest
from audit.storage.checkpoint import CellCheckpoint


@dataclass(frozen=True)
class StretchResult:
    """What a stretch of a battery led to on a chunk of n images.

    Attributes:
        state: What `WorstCase.state` gives, without the images.
        changed: Positions in the chunk of the images that got a nearer adversarial example, int64 (m,), ascending.
        nearest: Those adversarial examples, float32 (m, C, H, W).
        rows: What each attack of the stretch did.
        passes: The cost.
    """

    state: Mapping[str, Tensor]
    changed: Tensor
    nearest: Images
    rows: tuple[AttackResult, ...]
    passes: PassCount


def examined_model(model: ModelUnderTest, batch: Batch, norm: Norm, seed: int, *, sanity_checks: bool) -> SanityReport:
    """What a battery measures of the model before its attacks, as `run_battery` does.

    Args:
        model: The model under attack.
        batch: The examples of the battery, or the first `IMAGES_EXAMINED` of them.
        norm: Which norm bounds the change.
        seed: Root of the random draws.
        sanity_checks: Whether to look for weak evidence too.
    """
    noise = logit_noise(model, images_for_noise(batch, sanity_checks=sanity_checks), seed)
    with expectation_over_transformation(model, eot_samples(noise), seed):
        return sanity_report(model, batch, norm, seed, noise, sanity_checks=sanity_checks)


def run_stretch(
    job: BatteryJob,
    runs: tuple[int, int],
    report: SanityReport,
    before: Mapping[str, Tensor] | None,
    chosen: Tensor | None,
    *,
    surrogate: ModelUnderTest | None = None,
    progress: Progress | None = None,
    stopping: Stopping | None = None,
    unfinished: CellCheckpoint | None = None,
) -> StretchResult:
    """Run a stretch of a battery on a chunk of images.

    Args:
        job: The battery and the images of the chunk.
        runs: Position in the schedule of the first run, and that after the last.
        report: What the sanity checks of the model measured.
        before: `StretchResult.state` of the stretch before on these images; None for the first.
        chosen: Positions in the chunk of the images that the first run takes, int64; None where it takes all.
        surrogate: Where transferred attacks are made; without one they do not run.
        progress: Called with the attack runs done and their total.
        stopping: When it turns true, Interrupted is raised between two attack runs.
        unfinished: Where the runs so far are kept; of no use on a model that is not deterministic.

    Raises:
        Interrupted: When `stopping` turned true.
    """
    model, draws = job.model, eot_samples(report.logit_noise)
    with (
        model.count() as counter,
        counted(surrogate) as surrogate_counter,
        expectation_over_transformation(model, draws, job.seed),
    ):
        worst_case = job.worst_case()
        worst_case.restore(before or {})
        distance = worst_case.distance.clone()
        run = BatteryRun(model, job.batch, worst_case, job.seed, report.no_gradient_reason, surrogate)
        checkpoint = BatteryCheckpoint(worst_case, run.passes_so_far, unfinished if draws == 1 else None)
        run.run(job.schedule[slice(*runs)], checkpoint, progress, stopping, chosen)
    changed = (worst_case.distance < distance).nonzero().flatten()
    state = {name: value for name, value in worst_case.state().items() if name != "nearest"}
    passes = counter.passes + surrogate_counter.passes
    return StretchResult(state, changed, worst_case.nearest[changed], tuple(checkpoint.rows), passes)


def joined(
    job: BatteryJob,
    chunks: Sequence[Sequence[StretchResult]],
    report: SanityReport,
) -> BatteryResult:
    """The stretches of every chunk as the result of the whole.

    Args:
        job: The battery and the images of all chunks.
        chunks: Of each chunk in order, its stretches in order.
        report: What the sanity checks of the model measured.

    Returns:
        The result. Its `passes` are those of joining alone; the rows hold those of the attacks.
    """
    model = job.model
    with model.count() as counter, expectation_over_transformation(model, eot_samples(report.logit_noise), job.seed):
        worst_case = job.worst_case()
        last = [chunk[-1].state for chunk in chunks]
        worst_case.restore({name: torch.cat([state[name] for state in last], dim=-1) for name in last[0]})
        start = 0
        for chunk in chunks:
            for stretch in chunk:
                index = (start + stretch.changed).to(worst_case.nearest.device)
                worst_case.nearest[index] = stretch.nearest.to(worst_case.nearest)
            start += len(chunk[-1].state["distance"])
        rows = [row for stretch in zip(*chunks, strict=True) for row in _summed([part.rows for part in stretch])]
        result = concluded(job, worst_case, rows, report)
    return replace(result, passes=counter.passes)


def _summed(parts: Sequence[Sequence[AttackResult]]) -> list[AttackResult]:
    """The rows of one stretch over its chunks."""
    rows = []
    for first, *others in zip(*parts, strict=True):
        row = first
        for other in others:
            row = row.plus(other)
        rows.append(row)
    return rows
