"""What changes during a training, all of it in a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from audit.core.note import Note
from audit.core.types import PassCount
from audit.models.load_state import load_state
from audit.training.checkpoint import (
    MEMORY,
    TrainingCheckpoint,
    load_training_checkpoint,
    optimizer_tensors,
    restore_optimizer,
)
from audit.training.distributed import WorkerGroup
from audit.training.memory import IN_PARTS
from audit.training.optimisation import ModelEma
from audit.training.setup import TrainingSetup
from audit.training.training_module import TrainingModule
from audit.training.validation import selection_score


@dataclass(frozen=True)
class TrainingResult:
    """The best weights of a training, and its history.

    Attributes:
        weights: The state dict of the epoch that was kept, float32 on the CPU.
        history: One row an epoch: its number from 1, recipe, loss, accuracies in [0, 1] and learning rate.
        kept_epoch: The epoch that was kept, from 1.
        passes: What the training cost, in examples.
        seconds: The time each epoch took.
        mean: Mean of each channel that images were normalised with, in units of [0, 1].
        std: Standard deviation of each channel likewise.
        stopped: Why the training ended before its last epoch; "" where it did not.
        notes: Sentences about the training for its reader.
    """

    weights: Mapping[str, Tensor]
    history: tuple[Mapping[str, Any], ...]
    kept_epoch: int
    passes: PassCount
    seconds: tuple[float, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    stopped: str = ""
    notes: tuple[Note, ...] = ()


@dataclass
class TrainingState:
    """How far a training has come.

    Attributes:
        net: The net.
        optimizer: Its optimiser.
        recipe: The name of the present recipe, which catastrophic overfitting may change.
        epochs: The number of epochs planned.
        ema: The average of weights, where the settings ask for one.
        epoch: The next epoch to take, from 0.
        step: The next step of that epoch, from 0.
        losses: The loss of each step of the running epoch, scalars.
        correct: The sum over those steps of the share of the batch classified right, a scalar; None before the first.
        recipe_states: Tensors that the recipe keeps from one batch to the next, by share of this process.
        history: One row an epoch: its number from 1, recipe, loss, accuracies in [0, 1] and learning rate.
        seconds: The time each epoch took.
        best_weights: The state dict of the epoch kept so far.
        best_epoch: That epoch, from 1; 0 before there is one. See `update_best`.
        stopped: Why the training ended before its last epoch; "" where it did not.
        notes: Sentences about the training for its reader.
    """

    net: TrainingModule
    optimizer: Optimizer
    recipe: str
    epochs: int
    ema: ModelEma | None = None
    epoch: int = 0
    step: int = 0
    losses: list[Tensor] = field(default_factory=list)
    correct: Tensor | None = None
    recipe_states: dict[int, dict[str, Tensor]] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    best_epoch: int = 0
    stopped: str = ""
    notes: list[Note] = field(default_factory=list)

    def note_parts(self, workers: WorkerGroup) -> None:
        """Note whether memory made any process take a batch in parts; all processes of the group must call this.

        Args:
            workers: The processes.
        """
        (processes,) = workers.total((int(bool(self.net.memory.most)),))
        if processes and IN_PARTS not in self.notes:
            self.notes.append(IN_PARTS)

    def finished(self) -> bool:
        """Whether no epoch is left to take."""
        return bool(self.stopped) or self.epoch >= self.epochs

    def steps_done(self, setup: TrainingSetup) -> int:
        """Count the batches learnt since the start.

        Args:
            setup: The setup of the training.
        """
        return self.epoch * setup.steps_per_epoch + self.step

    def total_steps(self, setup: TrainingSetup) -> int:
        """Count the batches of the whole training.

        Args:
            setup: The setup of the training.
        """
        return self.epochs * setup.steps_per_epoch

    def evaluated_weights(self) -> dict[str, Tensor]:
        """Copy the state dict that is validated and kept: the average where there is one."""
        source = self.net.net.state_dict() if self.ema is None else self.ema.weights
        return {name: value.detach().clone() for name, value in source.items()}

    def epochs_without_improvement(self) -> int:
        """Count the epochs since the best score was first reached."""
        scores = [selection_score(row) for row in self.history]
        return len(scores) - 1 - scores.index(max(scores))

    def update_best(self, row: dict[str, Any], error: float = 0.0) -> None:
        """Keep the present weights when the newest epoch is at least as good as the best before.

        Args:
            row: The newest row of the history.
            error: How much less the share that chooses may be for all that, in [0, 1], as `selection_error` says.
        """
        newest = selection_score(row)
        best = selection_score(self.history[self.best_epoch - 1]) if self.best_epoch else newest
        if newest >= best or (error > 0 and newest[0] >= best[0] - error):
            self.best_epoch = row["epoch"]
            self.best_weights = self.evaluated_weights()

    def to_checkpoint(self, setup: TrainingSetup) -> TrainingCheckpoint:
        """Collect everything; all processes of the group must call this, and rank 0 gets the whole.

        Args:
            setup: The setup of the training.

        Returns:
            The checkpoint, complete in rank 0.
        """
        tensors = {f"weights/{name}": value for name, value in self.net.net.state_dict().items()}
        tensors |= {f"best/{name}": value for name, value in self.best_weights.items()}
        for states in setup.workers.gather({share: _on_cpu(state) for share, state in self.recipe_states.items()}):
            for share, state in states.items():
                tensors |= {f"{MEMORY}{share}/{name}": value for name, value in state.items()}
        tensors |= {f"optimizer/{name}": value for name, value in optimizer_tensors(self.optimizer).items()}
        if self.ema is not None:
            tensors |= {f"average/{name}": value for name, value in self.ema.weights.items()}
        if self.correct is not None:
            tensors |= {"epoch/losses": torch.stack(self.losses), "epoch/right": self.correct}
        facts = {name: getattr(self, name) for name in _FACTS}
        forwards, backwards = setup.workers.total((self.net.forwards, self.net.backwards))
        facts |= {"forwards": forwards, "backwards": backwards}
        facts |= {"averaged_steps": self.ema.steps if self.ema else 0}
        return TrainingCheckpoint(tensors, facts, setup.identity())

    def resume(self, setup: TrainingSetup, folder: Path | None) -> bool:
        """Go on from the checkpoint in a folder; all processes of the group must call this, and rank 0 reads it.

        Args:
            setup: The setup of the training.
            folder: The folder; None where no checkpoint is kept.

        Returns:
            Whether there was a checkpoint.
        """
        workers = setup.workers
        stored = None if workers.rank else load_training_checkpoint(folder, setup.identity())
        count = setup.settings.shares
        own = workers.scatter(lambda rank: stored and stored.without_memories_but(workers.shares(count, rank)))
        if own is not None:
            self._restore(own, setup)
        return own is not None

    def _restore(self, checkpoint: TrainingCheckpoint, setup: TrainingSetup) -> None:
        for name in _FACTS:
            setattr(self, name, checkpoint.facts[name])
        self.notes = [Note.model_validate(sentence) for sentence in checkpoint.facts["notes"]]
        load_state(self.net.net, checkpoint.group("weights"))
        before = PassCount(checkpoint.facts["forwards"], checkpoint.facts["backwards"])
        self.net.passes = PassCount(0, 0) if setup.workers.rank else before
        restore_optimizer(self.optimizer, checkpoint.group("optimizer"))
        if self.ema is not None:
            self.ema.restore(checkpoint.group("average"), checkpoint.facts["averaged_steps"])
        self.best_weights = {name: value.to(setup.device) for name, value in checkpoint.group("best").items()}
        for share in setup.shares:
            memory = checkpoint.group(f"{MEMORY}{share}")
            self.recipe_states[share] = {name: value.to(setup.device) for name, value in memory.items()}
        running = checkpoint.group("epoch")
        self.losses = list(running["losses"].to(setup.device).unbind()) if running else []
        self.correct = running["right"].to(setup.device) if running else None

    def result(self, mean: tuple[float, ...], std: tuple[float, ...]) -> TrainingResult:
        """Give the best weights and the history.

        Args:
            mean: Mean of each channel that images were normalised with, in units of [0, 1].
            std: Standard deviation of each channel likewise.

        Returns:
            The result of the training.
        """
        return TrainingResult(
            weights={name: _float32_on_cpu(value) for name, value in self.best_weights.items()},
            history=tuple(self.history),
            kept_epoch=self.best_epoch,
            passes=self.net.passes,
            seconds=tuple(self.seconds),
            mean=mean,
            std=std,
            stopped=self.stopped,
            notes=tuple(self.notes),
        )


def _on_cpu(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.cpu() for name, value in tensors.items()}


def _float32_on_cpu(weight: Tensor) -> Tensor:
    weight = weight.detach().cpu().contiguous()
    return weight.float() if weight.is_floating_point() else weight


_FACTS = ("recipe", "epochs", "epoch", "step", "history", "seconds", "best_epoch", "stopped", "notes")
"""Fields that a checkpoint keeps as JSON."""
