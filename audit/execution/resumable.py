"""A study's work in named steps: a cell that was cut off goes on with the step it had reached."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from audit.core.errors import Interrupted
from audit.core.seeding import fork_global_rng
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
