"""A study's work in named steps, or in the rounds of a loop: a cell that was cut off goes on where it had got to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from audit.core.errors import Interrupted
from audit.core.seeding import fork_global_rng, global_rng_state, set_global_rng_state
from audit.core.types import PassCount
from audit.execution.context import Context
from audit.models.under_test import ModelUnderTest


class ResumableSteps:
    """Runs the steps of a cell and keeps what each gave in the cell's checkpoint.

    `facts` holds small JSON values that steps may add to and that are kept too. The model is charged with the passes
    that the steps of an earlier process have cost. Between two steps progress is reported and a stop takes effect.
    """

    def __init__(self, context: Context, model: ModelUnderTest, total: int, description: str) -> None:
        """Load the cell's checkpoint, where there is one.

        Args:
            context: The context of the study.
            model: The model that the steps ask.
            total: The number of steps.
            description: What the study does, for the message of an interruption: "Stopped while {description}".
        """
        self.context, self.model, self.total, self.description = context, model, total, description
        self.checkpoint = context.checkpoint()
        self.outputs: dict[str, dict[str, Tensor]] = {}
        self.facts: dict[str, Any] = {}
        self.done, self.passes = 0, PassCount()
        stored = self.checkpoint.load()
        if stored is not None:
            tensors, facts = stored
            self.facts = facts["facts"]
            self.passes = PassCount(**facts["passes"])
            model.charge(self.passes)
            self.outputs = {step: {} for step in facts["steps"]}
            for key, tensor in tensors.items():
                step, name = key.split("/", 1)
                self.outputs[step][name] = tensor

    def run(self, step: str, compute: Callable[[], Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Run a step, unless the checkpoint holds what it gave.

        torch's own generators are seeded anew for each step.

        Args:
            step: The name of the step, without a slash.
            compute: The step.

        Returns:
            The tensors of the step by name, on the CPU.

        Raises:
            Interrupted: When the user asked to stop; the checkpoint has been saved.
        """
        if step not in self.outputs:
            try:
                self._compute(step, compute)
            except Interrupted:
                self._save()
                raise
            if self.checkpoint.is_due:
                self._save()
        self.done += 1
        self.context.progress(self.done, self.total)
        return self.outputs[step]

    def _compute(self, step: str, compute: Callable[[], Mapping[str, Tensor]]) -> None:
        if self.context.stopping():
            raise Interrupted(f"Stopped while {self.description}; the same command resumes.")
        before = self.model.passes
        with fork_global_rng(self.context.device, self.context.task.cell.key, step):
            self.outputs[step] = {name: tensor.detach().cpu() for name, tensor in compute().items()}
        self.passes += self.model.passes - before

    def _save(self) -> None:
        if not self.outputs:
            return
        tensors = {f"{step}/{name}": tensor for step, output in self.outputs.items() for name, tensor in output.items()}
        facts = {"steps": list(self.outputs), "facts": self.facts, "passes": asdict(self.passes)}
        self.checkpoint.save(tensors, facts)


class ResumableLoop:
    """Keeps the state of a loop in the cell's checkpoint, with what it cost and torch's own generators.

    Attributes:
        done: Rounds that an earlier process has done; 0 where the loop begins.
        state: Tensors that it kept, on the CPU, by name.
        facts: A JSON value that it kept beside them; None where the loop begins.
    """

    def __init__(self, context: Context, model: ModelUnderTest, total: int, description: str) -> None:
        """Load the cell's checkpoint, where there is one, and charge the model with what that cost.

        Args:
            context: The context of the study.
            model: The model that the loop asks.
            total: The number of rounds.
            description: What the study does, for the message of an interruption: "Stopped while {description}".
        """
        self.done, self.state, self.facts = 0, dict[str, Tensor](), None
        self._context, self._model, self._total, self._description = context, model, total, description
        self._checkpoint, self._before = context.checkpoint(), model.passes
        if (stored := self._checkpoint.load()) is not None:
            self.state, facts = stored
            self.done, self.facts = facts["done"], facts["facts"]
            random = tuple(self.state.pop(name) for name in sorted(self.state) if name.startswith(_RANDOM))
            if len(random) == len(global_rng_state(context.device)):  # else it was kept on another kind of device
                set_global_rng_state(context.device, random)
            model.charge(PassCount(**facts["passes"]))

    def round_done(self, done: int, state: Callable[[], Mapping[str, Tensor]], facts: Any = None) -> None:
        """Between two rounds: report progress, save what is due, stop where the user asked to.

        Args:
            done: Rounds done so far, those of earlier processes included.
            state: Gives the tensors that the rounds to come depend on.
            facts: A JSON value to keep beside them.

        Raises:
            Interrupted: When the user asked to stop; the checkpoint has been saved.
        """
        self._context.progress(done, self._total)
        if done == self._total:
            return
        stopping = self._context.stopping()
        if stopping or self._checkpoint.is_due:
            random = {f"{_RANDOM}{i}": kept for i, kept in enumerate(global_rng_state(self._context.device))}
            passes = asdict(self._model.passes - self._before)
            self._checkpoint.save({**state(), **random}, {"done": done, "passes": passes, "facts": facts})
        if stopping:
            raise Interrupted(f"Stopped while {self._description}; the same command resumes.")


_RANDOM = "random/"


def concatenate_steps(steps: Sequence[Mapping[str, Tensor]], prefix: str = "") -> dict[str, Tensor]:
    """Concatenate the tensors of steps that each covered a stretch of the examples.

    Args:
        steps: The tensors of each step by name, (n, ...) each.
        prefix: Only names that begin with it count.

    Returns:
        Tensors of all examples, (N, ...), by name without the prefix.
    """
    names = steps[0] if steps else {}
    return {
        name.removeprefix(prefix): torch.cat([step[name] for step in steps])
        for name in names
        if name.startswith(prefix)
    }
