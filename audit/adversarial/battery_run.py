"""Attacks of a battery on images: each on what those before it left unbroken. The verifier alone judges."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial

from torch import Tensor

from audit.adversarial.attack_result import AttackResult
from audit.adversarial.battery import AttackSpec
from audit.adversarial.battery_schedule import AttackRun
from audit.adversarial.chosen_images import chosen_images
from audit.adversarial.loss_used import with_loss_used
from audit.adversarial.propose import propose
from audit.adversarial.result import unfit_reason
from audit.adversarial.verify import verify
from audit.adversarial.worst_case import BatteryCheckpoint, WorstCase
from audit.core.errors import Interrupted, NotApplicable
from audit.core.note import NO_NOTE, Note, note
from audit.core.registry import Method
from audit.core.seeding import Generators
from audit.core.threat import ThreatModel
from audit.core.types import Batch, PassCount
from audit.models.batching import ExecutionLayout, in_batches
from audit.models.search_form import search_form
from audit.models.under_test import ModelUnderTest

Progress = Callable[[int, int], None]
Stopping = Callable[[], bool]

WINDOWS = 4
PIXELS = 2**20
"""An attack gets at least so many batches, or images of so many values, at a time: what it holds beside the images does
not grow with their number."""


@dataclass(frozen=True)
class BatteryRun:
    """Runs attacks on images and books what the verifier makes of them.

    Attributes:
        model: The model under attack.
        batch: The examples.
        worst_case: The books.
        seed: Root of the random draws.
        no_gradient_reason: Why the model has no gradient; empty where it has one.
        surrogate: Where transferred attacks are made; None without one.
    """

    model: ModelUnderTest
    batch: Batch
    worst_case: WorstCase
    seed: int
    no_gradient_reason: Note
    surrogate: ModelUnderTest | None = None

    def passes_so_far(self) -> PassCount:
        """What the models have cost so far."""
        return self.model.passes if self.surrogate is None else self.model.passes + self.surrogate.passes

    def run(
        self,
        schedule: Sequence[AttackRun],
        checkpoint: BatteryCheckpoint,
        progress: Progress | None,
        stopping: Stopping | None,
        chosen: Tensor | None = None,
    ) -> None:
        """One row of the record for each run, in order, after those it holds.

        Args:
            schedule: The runs.
            checkpoint: The record.
            progress: Called with the runs done and their total.
            stopping: When it turns true, Interrupted is raised between two runs.
            chosen: Positions of the images that the first run takes, int64, where it looks across images and these are
                not all of them; None to choose among these.

        Raises:
            Interrupted: When `stopping` turned true.
        """
        for number in range(len(checkpoint.rows), len(schedule)):
            if stopping is not None and stopping():
                checkpoint.keep()
                raise Interrupted("The attacks were stopped; the same command resumes with what is stored.")
            checkpoint.add(self._row(schedule[number], chosen if number == 0 else None))
            if progress is not None:
                progress(len(checkpoint.rows), len(schedule))

    def _row(self, run: AttackRun, chosen: Tensor | None) -> AttackResult:
        """Run one entry on the survivors and book what the verifier makes of it."""
        entry, method, norm = run.entry, run.entry.method, self.worst_case.headline.norm
        threat = ThreatModel(norm, run.bound)
        survivors = self.worst_case.robust_indices(ThreatModel(norm, run.at))
        # Evidence stores the fields that are set, so all of them are.
        row = AttackResult(
            name=entry.title,
            attack=method.name,
            needs=_needs(entry, method),
            settings=method.settings(entry.settings),
            eps=run.at,
            survivors=len(survivors),
            tried=0,
            broke=0,
            faults=0,
            reason=self._refusal(entry, method, threat),
            forwards=0,
            backwards=0,
        )
        index = self._chosen(entry, survivors) if chosen is None else chosen
        if row.reason or len(index) == 0:
            return row
        try:
            goal = self.batch.target_mask(len(self.model.classes))
            return with_loss_used(self._attack(entry, row, index, threat), goal)
        except NotApplicable as fault:
            return row.model_copy(update={"reason": fault.reason})

    def _chosen(self, entry: AttackSpec, survivors: Tensor) -> Tensor:
        return chosen_images(entry, survivors, self.worst_case.margin, self.batch.ids, self.seed)

    def _refusal(self, entry: AttackSpec, method: Method, threat: ThreatModel) -> Note:
        """Why an attack cannot run, empty where it can."""
        if not entry.transferred:
            return unfit_reason(method, threat, self.no_gradient_reason)
        if self.surrogate is None:
            return note(
                "no_surrogate",
                "There is no surrogate to transfer from: one is taught on at least 64 images of two classes or more.",
            )
        return unfit_reason(method, threat, NO_NOTE)

    def _attack(self, entry: AttackSpec, row: AttackResult, index: Tensor, threat: ThreatModel) -> AttackResult:
        """One attack on one piece of the examples after another. The passes of a surrogate count with the model's."""
        surrogate = self.surrogate if entry.transferred else None
        attacked = surrogate or self.model
        with self.model.count() as counter, attacked.count() as surrogate_counter:
            judged = partial(self._piece, entry, row, threat, attacked, index)
            counts = list(in_batches(len(index), self._at_a_time(), judged))
        broke, faults = (sum(column) for column in zip(*counts, strict=True))
        passes = counter.passes + surrogate_counter.passes if surrogate else counter.passes
        return row.model_copy(update={"tried": len(index), "broke": broke, "faults": faults, **asdict(passes)})

    def _at_a_time(self) -> ExecutionLayout:
        """Examples that an attack gets at a time; fewer where memory runs out for what it holds of them."""
        batches, few = WINDOWS * self.model.layout.batch_size, PIXELS // math.prod(self.model.input_shape)
        return ExecutionLayout(batch_size=max(batches, few))

    def _piece(
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


def _searched(method: Method, model: ModelUnderTest) -> ModelUnderTest:
    """What an attack asks. One that ends on the boundary itself asks the model as the verifier does: what crosses by a
    rounding in another form of it need not cross there.
    """
    exact = method.facts["minimal"] or method.facts["needs"] == "decisions"
    return model if exact else search_form(model)


def _needs(entry: AttackSpec, method: Method) -> str:
    return "surrogate" if entry.transferred else str(method.facts["needs"])
