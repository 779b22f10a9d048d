"""A study's work in named steps: a cell that was cut off goes on with the step it was at."""

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
    """Runs `total` steps that ask `model`, `doing` what a message calls them, and keeps what each gave, with `facts`
    (small JSON values) that steps may add to.

    The model is charged with what the steps of an earlier process have cost. Between two steps a stop takes effect, and
    progress shows.
    """

    def __init__(self, context: Context, model: ModelUnderTest, total: int, doing: str) -> None:
        self.context, self.model, self.total, self.doing = context, model, total, doing
        self.unfinished = context.unfinished()
        self.found: dict[str, dict[str, Tensor]] = {}
        self.facts: dict[str, Any] = {}
        self.done, self.spent = 0, PassCount()
        kept = self.unfinished.load()
        if kept is not None:
            tensors, facts = kept
            self.facts = facts["facts"]
            self.spent = PassCount(**facts["passes"])
            model.charge(self.spent)
            self.found = {name: {} for name in facts["steps"]}
            for key, tensor in tensors.items():
                step, name = key.split("/", 1)
                self.found[step][name] = tensor

    def run(self, step: str, compute: Callable[[], Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """The tensors of `compute()`, on the CPU, or those it gave before; `step` is its name, without a slash.

        torch's own generators begin anew in each step. Raises Interrupted when the user asked to stop.
        """
        if step not in self.found:
            try:
                self._begin(step, compute)
            except Interrupted:
                self._keep()
                raise
            if self.unfinished.is_due:
                self._keep()
        self.done += 1
        self.context.progress(self.done, self.total)
        return self.found[step]

    def _begin(self, step: str, compute: Callable[[], Mapping[str, Tensor]]) -> None:
        if self.context.stopping():
            raise Interrupted(f"Stopped while {self.doing}; the same command resumes.")
        before = self.model.passes
        with fork_global_rng(self.context.device, self.context.task.cell.key, step):
            self.found[step] = {name: tensor.detach().cpu() for name, tensor in compute().items()}
        self.spent += self.model.passes - before

    def _keep(self) -> None:
        if not self.found:
            return
        tensors = {f"{step}/{name}": tensor for step, given in self.found.items() for name, tensor in given.items()}
        self.unfinished.save(tensors, {"steps": list(self.found), "facts": self.facts, "passes": asdict(self.spent)})


def concatenate_steps(steps: Sequence[Mapping[str, Tensor]], prefix: str = "") -> dict[str, Tensor]:
    """The tensors of steps over stretches of the examples as those of all examples, of names that begin with `prefix`,
    without it."""
    names = steps[0] if steps else {}
    return {
        name.removeprefix(prefix): torch.cat([step[name] for step in steps])
        for name in names
        if name.startswith(prefix)
    }
