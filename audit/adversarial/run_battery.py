"""A battery of attacks over a sweep of eps: the worst case an example, at a fraction of the naive cost.

What is broken at a small eps is broken at a larger one of the same norm, and what one attack broke needs no other: so
eps rises over the survivors, and cheap attacks come before strong ones. The verifier alone judges.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial

from torch import Tensor

from audit.adversarial.attack_result import AttackResult
from audit.adversarial.batteries import battery_named
from audit.adversarial.battery import AttackSpec, Battery, require_norm
from audit.adversarial.battery_notes import battery_notes
from audit.adversarial.eot import eot_samples, expectation_over_transformation, flip_rate, logit_noise
from audit.adversarial.gradient_reach import flat_face_flag
from audit.adversarial.loss_used import with_loss_used
from audit.adversarial.propose import propose
from audit.adversarial.result import BatteryResult, unfit_reason
from audit.adversarial.sanity import FEW, SAMPLE, battery_red_flags, run_sanity_checks, without_checks
from audit.adversarial.targets import check_examples
from audit.adversarial.verify import verify
from audit.adversarial.worst_case import BatteryCheckpoint, WorstCase
from audit.core.errors import Interrupted, NotApplicable, UsageError
from audit.core.note import NO_NOTE, Note, note
from audit.core.registry import Method
from audit.core.seeding import Generators
from audit.core.threat import Norm, ThreatModel
from audit.core.types import Batch, PassCount
from audit.models.autotune import tune_execution
from audit.models.batching import ExecutionLayout, in_batches
from audit.models.normalised_model import PassCounter
from audit.models.search_form import search_form
from audit.models.under_test import ModelUnderTest
from audit.storage.checkpoint import CellCheckpoint

Progress = Callable[[int, int], None]
Stopping = Callable[[], bool]

WINDOWS = 4
PIXELS = 2**20
"""An attack gets at least so many batches, or images of so many values, at a time: what it holds beside the images does
not grow with their number."""


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
    chosen = battery_named(battery) if isinstance(battery, str) else battery
    threats = _threats(norm, eps)
    require_norm(chosen, norm)
    at = _headline(threats, headline)
    check_examples(model, batch)
    tune_execution(model)
    with model.count() as counter, _counted(surrogate) as surrogate_counter, ExitStack() as averaged:
        noise = logit_noise(model, batch.images[: SAMPLE if sanity_checks else FEW], seed)
        draws = eot_samples(noise)
        averaged.enter_context(expectation_over_transformation(model, draws, seed))
        checked = run_sanity_checks(model, batch, norm, seed, noise) if sanity_checks else None
        report = without_checks(model, batch, noise) if checked is None else checked
        worst_case = WorstCase(model, batch, threats, ("clean", *(entry.title for entry in chosen.entries)), at)
        battery_run = _BatteryRun(model, batch, chosen, worst_case, at, seed, report.no_gradient_reason, surrogate)
        checkpoint = BatteryCheckpoint(worst_case, battery_run.passes_so_far, unfinished if draws == 1 else None)
        battery_run.run(checkpoint, progress, stopping)
        rows = tuple(checkpoint.rows)
        if draws == 1:
            worst_case.refine(chosen.refine_steps)
        else:  # On the boundary, where shrinking ends, a random model decides by a coin.
            rate = flip_rate(model, batch, worst_case.nearest, worst_case.distance.isfinite())
            report = replace(report, flip_rate=rate)
    flat = [flag] if (flag := flat_face_flag(model, norm)) else []
    return BatteryResult(
        norm=norm,
        eps=tuple(threat.eps for threat in threats),
        headline=at.eps,
        battery=chosen.name,
        protocol=chosen.protocol,
        attacks=worst_case.attacks,
        survived=worst_case.survived(),
        first_broken_by=worst_case.first_broken_by,
        minimal_eps=worst_case.distance,
        clean=batch.images,
        nearest=worst_case.nearest,
        rounding=worst_case.rounding,
        margin=worst_case.headline_margin,
        rows=rows,
        inconclusive=tuple(
            flag.sentence for flag in (*battery_red_flags(report, rows, len(batch), iterative=chosen.iterative), *flat)
        ),
        notes=battery_notes(model, norm, rows, draws),
        health=report.health,
        draws=draws,
        passes=counter.passes + surrogate_counter.passes,
    )


def _searched(method: Method, model: ModelUnderTest) -> ModelUnderTest:
    """What an attack asks. One that ends on the boundary itself asks the model as the verifier does: what crosses by a
    rounding in another form of it need not cross there.
    """
    exact = method.facts["minimal"] or method.facts["needs"] == "decisions"
    return model if exact else search_form(model)


@contextmanager
def _counted(surrogate: ModelUnderTest | None) -> Iterator[PassCounter]:
    """The passes of a surrogate, none where there is none."""
    if surrogate is None:
        yield PassCounter()
        return
    tune_execution(surrogate)
    with surrogate.count() as counter:
        yield counter


def _threats(norm: Norm, eps: Sequence[float]) -> tuple[ThreatModel, ...]:
    if len(eps) == 0:
        raise UsageError("No eps was given: name at least one, such as 8/255.")
    return tuple(ThreatModel(norm, size) for size in sorted({float(value) for value in eps}))


def _headline(threats: tuple[ThreatModel, ...], eps: float | None) -> ThreatModel:
    for threat in threats:
        if eps is None or threat.eps == eps:
            return threats[-1] if eps is None else threat
    raise UsageError(f"The headline eps {eps:g} is not among {[t.eps for t in threats]}: add it to the list.")


@dataclass(frozen=True)
class _BatteryRun:
    model: ModelUnderTest
    batch: Batch
    battery: Battery
    worst_case: WorstCase
    headline: ThreatModel
    seed: int
    no_gradient_reason: Note
    surrogate: ModelUnderTest | None = None

    def passes_so_far(self) -> PassCount:
        """What the models have cost so far."""
        return self.model.passes if self.surrogate is None else self.model.passes + self.surrogate.passes

    def run(self, checkpoint: BatteryCheckpoint, progress: Progress | None, stopping: Stopping | None) -> None:
        """One row of the record for each attack at each eps, in order, after those it holds."""
        schedule = list(self.schedule())
        for entry, threat, at in schedule[len(checkpoint.rows) :]:
            if stopping is not None and stopping():
                checkpoint.keep()
                raise Interrupted("The attacks were stopped; the same command resumes with what is stored.")
            checkpoint.add(self.row(entry, threat, at))
            if progress is not None:
                progress(len(checkpoint.rows), len(schedule))

    def schedule(self) -> Iterator[tuple[AttackSpec, ThreatModel, ThreatModel]]:
        """Each run: the entry, what binds the attack, and the eps whose survivors it sees."""
        threats = self.worst_case.threats
        for at in threats:
            for entry in self.battery.entries:
                if entry.method.facts["minimal"] and not entry.control_sample:
                    if at is threats[0]:
                        yield entry, threats[-1], at
                elif not entry.control_sample or at is self.headline:
                    yield entry, at, at

    def row(self, entry: AttackSpec, threat: ThreatModel, at: ThreatModel) -> AttackResult:
        """Run one entry on the survivors and book what the verifier makes of it."""
        method = entry.method
        survivors = self.worst_case.robust_indices(at)
        # Evidence stores the fields that are set, so all of them are.
        row = AttackResult(
            name=entry.title,
            attack=method.name,
            needs=_needs(entry, method),
            settings=method.settings(entry.settings),
            eps=at.eps,
            survivors=len(survivors),
            tried=0,
            broke=0,
            faults=0,
            reason=self.refusal(entry, method, threat),
            forwards=0,
            backwards=0,
        )
        index = (
            self.sample(survivors, entry.control_sample)
            if entry.control_sample
            else self.worst_case.hardest(survivors, entry.hardest_fraction)
        )
        if row.reason or len(index) == 0:
            return row
        try:
            goal = self.batch.target_mask(len(self.model.classes))
            return with_loss_used(self.attack(entry, row, index, threat), goal)
        except NotApplicable as fault:
            return row.model_copy(update={"reason": fault.reason})

    def refusal(self, entry: AttackSpec, method: Method, threat: ThreatModel) -> Note:
        """Why an attack cannot run, empty where it can."""
        if not entry.transferred:
            return unfit_reason(method, threat, self.no_gradient_reason)
        if self.surrogate is None:
            return note(
                "no_surrogate",
                "There is no surrogate to transfer from: one is taught on at least 64 images of two classes or more.",
            )
        return unfit_reason(method, threat, NO_NOTE)

    def attack(self, entry: AttackSpec, row: AttackResult, index: Tensor, threat: ThreatModel) -> AttackResult:
        """One attack on one piece of the examples after another. The passes of a surrogate count with the model's."""
        surrogate = self.surrogate if entry.transferred else None
        attacked = surrogate or self.model
        with self.model.count() as counter, attacked.count() as surrogate_counter:
            judged = partial(self.chunk, entry, row, threat, attacked, index)
            counts = list(in_batches(len(index), self.at_a_time(), judged))
        broke, faults = (sum(column) for column in zip(*counts, strict=True))
        passes = counter.passes + surrogate_counter.passes if surrogate else counter.passes
        return row.model_copy(update={"tried": len(index), "broke": broke, "faults": faults, **asdict(passes)})

    def at_a_time(self) -> ExecutionLayout:
        """Examples that an attack gets at a time; fewer where memory runs out for what it holds of them."""
        batches, few = WINDOWS * self.model.layout.batch_size, PIXELS // math.prod(self.model.input_shape)
        return ExecutionLayout(batch_size=max(batches, few))

    def chunk(
        self,
        entry: AttackSpec,
        row: AttackResult,
        threat: ThreatModel,
        seen: ModelUnderTest,
        among: Tensor,
        rows: slice,
    ) -> tuple[int, int]:
        """Proposals, verdicts, books: how many broke, and how many proposals left the ball."""
        subset = self.batch.select(index := among[rows])
        purpose = f"{entry.seed_stream} {threat.norm} {threat.eps!r}"
        draws = Generators.of(subset.ids, seed=self.seed, purpose=purpose, device="cpu")
        proposals = propose(entry.method, _searched(entry.method, seen), subset, threat, draws, row.settings)
        verdicts = verify(self.model, subset, proposals, threat)
        return self.worst_case.update(row.name, index, verdicts), int(verdicts.faults.sum())

    def sample(self, survivors: Tensor, size: int) -> Tensor:
        """`size` of the survivors, drawn by their ids so that order does not matter."""
        if size >= len(survivors):
            return survivors
        ids = [self.batch.ids[i] for i in survivors.tolist()]
        draws = Generators.of(ids, seed=self.seed, purpose="control: sample", device="cpu")
        selected = draws.uniform(1).flatten().argsort(stable=True)[:size].sort().values
        return survivors[selected.to(survivors.device)]


def _needs(entry: AttackSpec, method: Method) -> str:
    return "surrogate" if entry.transferred else str(method.facts["needs"])
