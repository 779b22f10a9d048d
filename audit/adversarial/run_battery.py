"""A battery of attacks over a sweep of eps: the worst case an example, at a fraction of the naive cost.

What is broken at a small eps is broken at a larger one of the same norm, and what one attack broke needs no other: so
eps rises over the survivors, and cheap attacks come before strong ones. The verifier alone judges.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace

from audit.adversarial.attack_result import AttackResult
from audit.adversarial.battery import Battery
from audit.adversarial.battery_job import BatteryJob, battery_job
from audit.adversarial.battery_notes import battery_notes
from audit.adversarial.battery_run import BatteryRun, Progress, Stopping
from audit.adversarial.eot import eot_samples, expectation_over_transformation, flip_rate, logit_noise
from audit.adversarial.gradient_reach import flat_face_flag
from audit.adversarial.result import BatteryResult
from audit.adversarial.sanity import SanityReport, images_for_noise, model_red_flags, sanity_report
from audit.adversarial.worst_case import BatteryCheckpoint, WorstCase
from audit.core.threat import Norm
from audit.core.types import Batch, PassCount
from audit.models.autotune import tune_execution
from audit.models.pass_counter import PassCounter
from audit.models.under_test import ModelUnderTest
from audit.storage.checkpoint import CellCheckpoint


def run_battery(
    model: ModelUnderTest,
    batch: Batch,
    norm: Norm,
    eps: Sequence[float],
    *,
    battery: str | Battery = "quick",
    seed: int = 0,
    headline: float | None = None,
    surrogate: ModelUnderTest | None = None,
    sanity_checks: bool = True,
    progress: Progress | None = None,
    stopping: Stopping | None = None,
    unfinished: CellCheckpoint | None = None,
) -> BatteryResult:
    """Run a battery on every example at every eps.

    Args:
        model: The model under attack.
        batch: N examples: images float32 (N, C, H, W) in [0, 1], labels, and which predictions count as misclassified.
        norm: Which norm bounds the change.
        eps: The sizes of the ball, in any order.
        battery: A battery, its name, or names of attacks with commas between them.
        seed: Root of the random draws.
        headline: The eps of the verdict, the largest by default.
        surrogate: Where transferred attacks are made (see `audit.training.surrogate`); without one they do not run.
        sanity_checks: Whether to look for weak evidence too (`audit.adversarial.sanity`), which one run of the same
            battery on the same model need not do again.
        progress: Called with the attack runs done and their total.
        stopping: When it turns true, Interrupted is raised between two attack runs.
        unfinished: Where the runs so far are kept, and from where the same battery goes on to the same answer; on a
            model that is not deterministic it begins anew, for the random numbers are one sequence.

    Raises:
        UsageError: For an eps, a norm or a battery that cannot be used.
        DataError: For images or labels that cannot be used.
        Interrupted: When `stopping` turned true.
    """
    job = battery_job(model, batch, norm, eps, battery=battery, headline=headline, seed=seed)
    with model.count() as counter, counted(surrogate) as surrogate_counter, ExitStack() as averaged:
        noise = logit_noise(model, images_for_noise(batch, sanity_checks=sanity_checks), seed)
        draws = eot_samples(noise)
        averaged.enter_context(expectation_over_transformation(model, draws, seed))
        report = sanity_report(model, batch, norm, seed, noise, sanity_checks=sanity_checks)
        worst_case = job.worst_case()
        run = BatteryRun(model, batch, worst_case, seed, report.no_gradient_reason, surrogate)
        checkpoint = BatteryCheckpoint(worst_case, run.passes_so_far, unfinished if draws == 1 else None)
        run.run(job.schedule, checkpoint, progress, stopping)
        result = concluded(job, worst_case, checkpoint.rows, report)
    return replace(result, passes=counter.passes + surrogate_counter.passes)


def concluded(
    job: BatteryJob, worst_case: WorstCase, rows: Sequence[AttackResult], report: SanityReport
) -> BatteryResult:
    """What a battery measured, once all its attacks have run: distances are sharpened, doubts are told.

    Args:
        job: The battery and its images.
        worst_case: What the attacks led to.
        rows: What each attack did.
        report: What the sanity checks of the model measured.

    Returns:
        The result; its `passes` are not told.
    """
    model, draws = job.model, eot_samples(report.logit_noise)
    if draws == 1:
        worst_case.refine(job.battery.refine_steps)
    else:  # On the boundary, where shrinking ends, a random model decides by a coin.
        rate = flip_rate(model, job.batch, worst_case.nearest, worst_case.distance.isfinite())
        report = replace(report, flip_rate=rate)
    flat = [flag] if (flag := flat_face_flag(model, job.norm)) else []
    flags = (*model_red_flags(report, iterative=job.battery.iterative), *flat)
    return BatteryResult(
        norm=job.norm,
        eps=tuple(threat.eps for threat in job.threats),
        headline=job.headline.eps,
        battery=job.battery.name,
        protocol=job.battery.protocol,
        attacks=worst_case.attacks,
        survived=worst_case.survived(),
        first_broken_by=worst_case.first_broken_by,
        minimal_eps=worst_case.distance,
        clean=job.batch.images,
        nearest=worst_case.nearest,
        rounding=worst_case.rounding,
        margin=worst_case.headline_margin,
        rows=tuple(rows),
        doubts=tuple(flag.sentence for flag in flags),
        notes=battery_notes(model, job.norm, rows, draws),
        health=report.health,
        draws=draws,
        passes=PassCount(),
    )


@contextmanager
def counted(surrogate: ModelUnderTest | None) -> Iterator[PassCounter]:
    """The passes of a surrogate within the block, none where there is none.

    Args:
        surrogate: Where transferred attacks are made; None without one.
    """
    if surrogate is None:
        yield PassCounter()
        return
    tune_execution(surrogate)
    with surrogate.count() as counter:
        yield counter
