"""What happens beside a training: progress, stopping, checkpoints, TensorBoard, an error for a loss that diverged."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from audit.core.errors import Interrupted, SetupError, TrainingDiverged
from audit.training.checkpoint import FILE, mismatched_checkpoints
from audit.training.optimisation import rate_factor
from audit.training.setup import TrainingSetup
from audit.training.state import TrainingState

log = logging.getLogger("audit")

_TABLES = {"standard": "training", "hardened": "hardening", "compressed": "compression"}
"""By role the table of the configuration that its training reads."""

STEPS_BETWEEN_CHECKS = 20
"""Reading the loss from the device and asking whether to stop waits for the device, so it is done this rarely."""

TrainingHistory = Sequence[Mapping[str, Any]]
"""One row an epoch, as `TrainingState.history` has them."""


@dataclass(frozen=True)
class TrainingCallbacks:
    """What the loop calls while it trains.

    Attributes:
        scratch: The folder of the checkpoint; None for a training that keeps none.
        progress: Called with the steps done and the steps in all.
        stopping: Becomes true when the training should save a checkpoint and end.
        on_epoch: Called with the history after each epoch.
        role: The role of the model in its run; "" where it has none.
    """

    scratch: Path | None = None
    progress: Callable[[int, int], None] = lambda done, total: None
    stopping: Callable[[], bool] = lambda: False
    on_epoch: Callable[[TrainingHistory], None] = lambda history: None
    role: str = ""

    def warn_if_settings_changed(self, setup: TrainingSetup) -> None:
        """Log how an unfinished training of the same role beside `scratch` differs, which this one will not resume.

        Args:
            setup: The setup of the training that begins.
        """
        if self.scratch is None or not self.role:
            return
        for difference in mismatched_checkpoints(self.scratch, setup.identity(), role=self.role):
            log.warning(
                "An unfinished training of the %s model in this run folder had %s. It is left as it is and this one "
                "begins anew; to go on from it, run the command as it was.",
                self.role,
                difference,
            )

    def on_step(self, setup: TrainingSetup, state: TrainingState) -> None:
        """Report progress, and check the loss and whether to stop; all processes of the group must call this.

        Args:
            setup: The setup of the training.
            state: Its state before a step.

        Raises:
            Interrupted: When `stopping` is true; a checkpoint has been saved.
            TrainingDiverged: When a loss of the epoch is not finite.
        """
        self.progress(state.steps_done(setup), state.total_steps(setup))
        self.require_finite(setup, state)
        if setup.workers.from_rank0(self.stopping):
            self.save(setup, state)
            raise Interrupted(
                f"Training stopped as asked in epoch {state.epoch + 1} of {state.epochs}; the same command goes on "
                "from there."
            )

    def finish_epoch(self, setup: TrainingSetup, state: TrainingState) -> None:
        """Save a checkpoint and report; all processes of the group must call this.

        Args:
            setup: The setup of the training.
            state: Its state after an epoch.
        """
        self.save(setup, state)
        self.on_epoch(state.history)
        self.progress(state.steps_done(setup), state.total_steps(setup))

    def save(self, setup: TrainingSetup, state: TrainingState) -> None:
        """Replace the checkpoint; all processes of the group must call this.

        Args:
            setup: The setup of the training.
            state: Its present state.
        """
        state.note_parts(setup.workers)
        if self.scratch is None and setup.workers.world_size == 1:
            return
        checkpoint = state.to_checkpoint(setup)
        if self.scratch is not None:
            replace(checkpoint, facts={**checkpoint.facts, "role": self.role}).write(self.scratch)

    def require_finite(self, setup: TrainingSetup, state: TrainingState) -> None:
        """Check the losses of the running epoch.

        Args:
            setup: The setup of the training.
            state: Its present state.

        Raises:
            TrainingDiverged: When one is not finite; the message names the step, the rate and the last checkpoint.
        """
        recent = state.losses[-STEPS_BETWEEN_CHECKS:]  # those before were looked at
        finite = torch.isfinite(torch.stack(recent)).tolist() if recent else []
        if all(finite):
            return
        step = state.epoch * setup.steps_per_epoch + len(state.losses) - len(recent) + finite.index(False)
        rate = setup.settings.learning_rate * rate_factor(setup.settings.schedule, step / state.total_steps(setup))
        checkpoint = "no checkpoint was reached"
        if state.epoch:
            location = f" in {self.scratch / FILE}" if self.scratch else ""
            checkpoint = f"the last good checkpoint{location} is that of epoch {state.epoch}"
        raise TrainingDiverged(
            f"The loss was not finite at step {step + 1} of {state.total_steps(setup)} (epoch {state.epoch + 1}) with "
            f"learning rate {rate:.2g}; {checkpoint}. "
            f"{calmer_training(self.role)}"
        )


def calmer_training(role: str) -> str:
    """What to change after a training that diverged, in the keys that this training reads.

    Args:
        role: The role of the model in its run; "" for a call from Python.

    Returns:
        A sentence.
    """
    if role not in _TABLES:
        return "Lower learning_rate, or clip the gradient, as with clip_gradient=1."
    table = _TABLES[role]
    return f"Lower {table}.learning_rate, or clip the gradient, as with --set {table}.clip_gradient=1."


def require_tensorboard() -> None:
    """Check that the package tensorboard is installed.

    Raises:
        SetupError: When it is missing.
    """
    if find_spec("tensorboard") is None:
        raise SetupError(
            "Event files for TensorBoard need the package tensorboard; install it with pip install "
            "'audit[tensorboard]', or leave --tensorboard out."
        )


@contextmanager
def tensorboard_writer(folder: Path | None) -> Iterator[Callable[[TrainingHistory], None]]:
    """Write a history to TensorBoard's event files.

    Args:
        folder: A folder for these files alone; those of an earlier attempt are removed, since the first history of a
            resumed training holds their rows. None writes nothing.

    Yields:
        A function of the history that adds the rows it has not seen yet, one step an epoch.
    """
    if folder is None:
        yield lambda history: None
        return
    require_tensorboard()
    from torch.utils.tensorboard import SummaryWriter

    shutil.rmtree(folder, ignore_errors=True)
    writer, rows_written = SummaryWriter(str(folder)), 0

    def add_rows(history: TrainingHistory) -> None:
        nonlocal rows_written
        for row in history[rows_written:]:
            for name, value in row.items():
                if isinstance(value, int | float) and name != "epoch":
                    writer.add_scalar(name, value, row["epoch"])
        rows_written = len(history)
        writer.flush()

    try:
        yield add_rows
    finally:
        writer.close()
