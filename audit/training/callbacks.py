"""How a training meets the world while it runs: progress, stopping, saving, and a loss that is no number."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from audit.core.errors import Interrupted, TrainingDiverged
from audit.training.checkpoint import FILE, mismatched_checkpoints
from audit.training.schedule import rate_factor
from audit.training.setup import TrainingSetup
from audit.training.state import TrainingState

log = logging.getLogger("audit")


@dataclass(frozen=True)
class TrainingCallbacks:
    """`scratch` a folder for the checkpoint, `progress(done, total)` in steps, `stopping` true when the training
    should save and leave, `record` given the history after each epoch; `role` of the model in its run, ""
    for one that has none there."""

    scratch: Path | None = None
    progress: Callable[[int, int], None] = lambda done, total: None
    stopping: Callable[[], bool] = lambda: False
    record: Callable[[Sequence[Mapping[str, Any]]], None] = lambda history: None
    role: str = ""

    def begin_anew(self, course: TrainingSetup) -> None:
        """Say which settings an unfinished training of the same role beside `scratch` had, where there is one: whoever
        means to go on from it has changed something."""
        if self.scratch is None or not self.role:
            return
        for told in mismatched_checkpoints(self.scratch, course.identity(), role=self.role):
            log.warning(
                "An unfinished training of the %s model in this run folder had %s. It is left as it is and this one "
                "begins anew; to go on from it, run the command as it was.",
                self.role,
                told,
            )

    def look(self, course: TrainingSetup, state: TrainingState) -> None:
        """Report and check in the midst of an epoch. Raises Interrupted, when asked to stop, and Diverged."""
        self.progress(state.steps_done(course), state.total_steps(course))
        self.require_finite(course, state)
        if course.team.first(self.stopping):
            self.save(course, state)
            raise Interrupted(
                f"Training stopped as asked in epoch {state.epoch + 1} of {state.epochs}; the same command goes on "
                "from there."
            )

    def close_epoch(self, course: TrainingSetup, state: TrainingState) -> None:
        """Save and report after an epoch."""
        self.save(course, state)
        self.record(state.history)
        self.progress(state.steps_done(course), state.total_steps(course))

    def save(self, course: TrainingSetup, state: TrainingState) -> None:
        """Replace the checkpoint."""
        if self.scratch is None and course.team.size == 1:
            return
        packed = state.pack(course)
        if self.scratch is not None:
            replace(packed, facts={**packed.facts, "role": self.role}).write(self.scratch)

    def require_finite(self, course: TrainingSetup, state: TrainingState) -> None:
        """One look at all losses of the epoch so far. Raises Diverged."""
        finite = torch.isfinite(torch.stack(state.losses)).tolist() if state.losses else []
        if all(finite):
            return
        step = state.epoch * course.steps_per_epoch + finite.index(False)
        rate = course.settings.learning_rate * rate_factor(course.settings.schedule, step / state.total_steps(course))
        kept = "no checkpoint was reached"
        if state.epoch:
            where = f" in {self.scratch / FILE}" if self.scratch else ""
            kept = f"the last good checkpoint{where} is that of epoch {state.epoch}"
        raise TrainingDiverged(
            f"The loss was not finite at step {step + 1} of {state.total_steps(course)} (epoch {state.epoch + 1}) with "
            f"learning rate {rate:.2g}; {kept}. Lower --learning-rate, or clip the gradient with "
            "training.clip_gradient."
        )
