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
from audit.runs.pipeline import AuditRun
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


# Long enough that a worker, which tells how far it is five times a second, does so in between.
HARDENED: dict[str, Any] = {
    "only": ["accuracy"],
    "hardening": {"enabled": True, "epochs": 12, "shares": 2, "recipe": "fgsm-rs", "recipe_settings": {}},
}


def shared(folder: Path, nproc: int = 2, **changes: Any) -> RunConfig:
    """A given net, hardened in two shares of a batch, by as many processes as are said."""
    return configured(folder, **merge(merge(HARDENED, {"hardening": {"nproc": nproc}}), changes))


def bytes_of(finished: AuditRun) -> tuple[bytes, bytes]:
    return finished.folder.document.read_bytes(), finished.folder.model("hardened").read_bytes()


class KillsMember(RunCallback):
    """Ends a worker by SIGKILL after the first epoch of the training, once."""

    def __init__(self, rank: int, pids: dict[int, int]) -> None:
        self.rank, self.pids = rank, pids
        self.steps: list[int] = []
        self.killed_at = 0

    def progress(self, task: Task, done: int, total: int) -> None:
        if task.cell.study == "training":
            self.steps.append(done)
            if not self.killed_at and 0 < done < total:
                self.killed_at = len(self.steps)
                os.kill(self.pids[self.rank], signal.SIGKILL)


def noting_members(
    pool: type[Any], process: Callable[[Any, int], int], pids: dict[int, int]
) -> Callable[[Any, int, Job], None]:
    """In place of `send`: it notes who shares the training under way.

    Args:
        pool: The kind of pool.
        process: Gives the process of a worker.
        pids: Where the processes are noted, by rank.
    """
    send = pool.send

    def send_and_note(self: Any, worker: int, job: Job) -> None:
        if job.membership is not None:
            pids[job.membership.rank] = process(self, worker)
        send(self, worker, job)

    return send_and_note
