"""A run small enough to be computed several times by several workers, and what is done to those on the way."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from audit.config import RunConfig, load_config, merge
from audit.core.evidence import Evidence
from audit.execution.runner import RunCallback
from audit.execution.workers import Job
from audit.models.architecture import build
from audit.planning.plan import Task
from tests.runs.conftest import TINY

GIVEN: dict[str, Any] = {
    **TINY,
    "hardening": {"enabled": False},
    "explanations": {"examples": 2, "methods": ["lime", "saliency"], "calibration": False},
    "only": ["accuracy", "robustness", "explanations", "corruptions"],
}


def configured(folder: Path, **changes: Any) -> RunConfig:
    """A model that is given, with weights as they are drawn.

    Args:
        folder: Where its weights are put.
        **changes: Keys of the configuration.
    """
    weights = folder / "net.safetensors"
    if not weights.exists():
        net = build("cnn-28", classes=10, input_shape=(1, 28, 28), seed=3)
        save_file(net.state_dict(), weights)
    model = {"model": {"weights": str(weights), "architecture": "cnn-28"}}
    return load_config(overrides=merge(merge(GIVEN, model), changes))


class Count(RunCallback):
    """How many cells were computed."""

    def __init__(self) -> None:
        self.computed = 0

    def finished(self, task: Task, evidence: Evidence, *, stored: bool) -> None:
        self.computed += not stored


def killing(pool: type[Any], study: str, process: Callable[[Any, int], int]) -> Callable[[Any, int, Job], None]:
    """In place of `send`: it ends the worker of the first cell of a study by SIGKILL, once, when it has the cell.

    Args:
        pool: The kind of pool.
        study: The study.
        process: Gives the process of a worker.
    """
    send = pool.send
    killed: list[int] = []

    def send_and_kill(self: Any, worker: int, job: Job) -> None:
        send(self, worker, job)
        if job.task.cell.study == study and not killed:
            killed.append(worker)
            os.kill(process(self, worker), signal.SIGKILL)

    return send_and_kill
