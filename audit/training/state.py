"""What changes while a net is trained, all of it in a checkpoint."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from audit.core.types import PassCount
from audit.training.checkpoint import Checkpoint, optimizer_tensors, restore_optimizer
from audit.training.ema import ModelEma
from audit.training.setup import TrainingSetup
from audit.training.training_module import TrainingModule
from audit.training.validation import selection_score


@dataclass
class TrainingState:
    """`epoch` and `step` are the next to take, `epochs` how many are planned; `losses` and `right` belong to the
    running epoch; `best` are the weights of `best_epoch` (from 1; 0 before there is one); `memory` is the
    recipe's own; `recipe` its name, which the guard may change; `stopped` why the training ended early."""

    net: TrainingModule
    optimizer: Optimizer
    recipe: str
    epochs: int
    average: ModelEma | None = None
    epoch: int = 0
    step: int = 0
    losses: list[Tensor] = field(default_factory=list)
    right: Tensor | None = None
    memory: dict[str, Tensor] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)
    best_epoch: int = 0
    stopped: str = ""
    notes: list[str] = field(default_factory=list)

    def finished(self) -> bool:
        """Whether nothing is left to do."""
        return bool(self.stopped) or self.epoch >= self.epochs

    def steps_done(self, course: TrainingSetup) -> int:
        """Batches learnt since the start."""
        return self.epoch * course.steps_per_epoch + self.step

    def total_steps(self, course: TrainingSetup) -> int:
        """Batches of the whole training."""
        return self.epochs * course.steps_per_epoch

    def evaluated_weights(self) -> dict[str, Tensor]:
        """The weights that are measured and kept: the average where there is one."""
        source = self.net.net.state_dict() if self.average is None else self.average.weights
        return {name: value.detach().clone() for name, value in source.items()}

    def epochs_without_gain(self) -> int:
        """How many epochs ago the best score was first reached."""
        scores = [selection_score(row) for row in self.history]
        return len(scores) - 1 - scores.index(max(scores))

    def keep_if_best(self, row: dict[str, Any]) -> None:
        """Keep the weights when `row`, the newest of the history, is at least as good as the best before."""
        if not self.best_epoch or selection_score(row) >= selection_score(self.history[self.best_epoch - 1]):
            self.best_epoch = row["epoch"]
            self.best = self.evaluated_weights()

    def pack(self, course: TrainingSetup) -> Checkpoint:
        """Everything, for the disk: complete in the first process of a team, which all must call."""
        tensors = {f"weights/{name}": value for name, value in self.net.net.state_dict().items()}
        tensors |= {f"best/{name}": value for name, value in self.best.items()}
        tensors |= self._memories(course)
        tensors |= {f"optimizer/{name}": value for name, value in optimizer_tensors(self.optimizer).items()}
        if self.average is not None:
            tensors |= {f"average/{name}": value for name, value in self.average.weights.items()}
        if self.losses:
            tensors |= {"epoch/losses": torch.stack(self.losses), "epoch/right": self._right()}
        facts = {name: getattr(self, name) for name in _FACTS}
        facts |= {"forwards": self.net.forwards, "backwards": self.net.backwards}
        facts |= {"averaged_steps": self.average.steps if self.average else 0}
        return Checkpoint(tensors, facts, course.identity())

    def unpack(self, checkpoint: Checkpoint, course: TrainingSetup) -> None:
        """Go on from `checkpoint`."""
        for name in _FACTS:
            setattr(self, name, checkpoint.facts[name])
        self.net.net.load_state_dict(checkpoint.group("weights"))
        self.net.passes = PassCount(checkpoint.facts["forwards"], checkpoint.facts["backwards"])
        restore_optimizer(self.optimizer, checkpoint.group("optimizer"))
        if self.average is not None:
            self.average.restore(checkpoint.group("average"), checkpoint.facts["averaged_steps"])
        self.best = {name: value.to(course.device) for name, value in checkpoint.group("best").items()}
        memory = checkpoint.group(f"memory/{course.team.rank}")
        self.memory = {name: value.to(course.device) for name, value in memory.items()}
        running = checkpoint.group("epoch")
        self.losses = list(running["losses"].to(course.device).unbind()) if running else []
        self.right = running["right"].to(course.device) if running else None

    def _memories(self, course: TrainingSetup) -> dict[str, Tensor]:
        """What the recipe keeps in each process: about the images it learns from."""
        own = {name: value.cpu() for name, value in self.memory.items()}
        everyone = enumerate(course.team.gathered(own))
        return {f"memory/{rank}/{name}": value for rank, memory in everyone for name, value in memory.items()}

    def _right(self) -> Tensor:
        assert self.right is not None
        return self.right


_FACTS = ("recipe", "epochs", "epoch", "step", "history", "seconds", "best_epoch", "stopped", "notes")
