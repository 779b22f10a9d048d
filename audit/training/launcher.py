"""Train in several processes of this machine, which torch's elastic launcher starts, watches and starts again."""

from __future__ import annotations

import json
import logging
import os
import pickle
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import cloudpickle
import torch
from torch import nn

from audit.core.errors import SetupError
from audit.models.load_state import load_state
from audit.training.callbacks import TrainingCallbacks
from audit.training.distributed import require_cards
from audit.training.job import TrainingJob, pickled
from audit.training.member import ENDED, EVENTS, IMAGES, JOB, LOG, OUTCOME, STOP
from audit.training.state import TrainingResult
from audit.training.training_data import SplitImages

log = logging.getLogger("audit")

STARTED_AGAIN = 3
"""How often all processes are started again after one of them has failed."""
_LISTENING = 0.1
"""Seconds between two looks at what the processes have told."""
_STARTER = (
    "import json,os,sys;o=open(os.path.join(sys.argv[1],'{log}'+os.environ['RANK']),'ab');os.dup2(o.fileno(),1);"
    "os.dup2(o.fileno(),2);sys.path[:]=json.loads(sys.argv[2]);from audit.training.member import run_member;"
    "run_member(sys.argv[1],int(sys.argv[3]))"
)
"""The program of a process: its output goes to a file, and it imports from where this process does."""


def train_in_processes(
    count: int, job: TrainingJob, module: nn.Module, images: SplitImages, callbacks: TrainingCallbacks
) -> TrainingResult:
    """Train in other processes, and wait for them.

    When a process dies, all are started again and go on from the last checkpoint, to the same weights.

    Args:
        count: The number of processes.
        job: The training.
        module: The net, trained in place.
        images: All images.
        callbacks: What to call on the way, in this process.

    Raises:
        SetupError: When there is no GPU for each process, or a process failed more often than they are started again.
        AuditError: As the training itself has it.
    """
    require_cards(count, job.device)
    with tempfile.TemporaryDirectory(prefix="audit-training-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        _write(folder, job, module, images, callbacks)
        launch = _Launch(folder, count)
        try:
            launch.thread.start()
            _listen(folder, launch.thread, callbacks)
        finally:
            (folder / ENDED).touch()
            launch.thread.join()
        return _outcome(folder, launch, module)


def _write(
    folder: Path, job: TrainingJob, module: nn.Module, images: SplitImages, callbacks: TrainingCallbacks
) -> None:
    own = replace(callbacks, scratch=callbacks.scratch or folder / "scratch")
    told = {"job": job, "module": pickled(module), "scratch": own.scratch, "role": own.role}
    (folder / JOB).write_bytes(cloudpickle.dumps(told))
    torch.save(images.packed(), folder / IMAGES)
    (folder / EVENTS).touch()


class _Launch:
    """The elastic launcher, in a thread: what it does with signals it does in the main thread alone.

    Attributes:
        thread: The thread.
        fault: What it raised in the end; None where all processes ended well.
    """

    def __init__(self, folder: Path, count: int) -> None:
        self.fault: Exception | None = None
        self.thread = threading.Thread(target=self._run, args=(folder, count), name="launcher", daemon=True)

    def _run(self, folder: Path, count: int) -> None:
        from torch.distributed.launcher.api import LaunchConfig, elastic_launch

        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=count,
            run_id=uuid.uuid4().hex,
            rdzv_backend="c10d",
            rdzv_endpoint=str(folder / "rendezvous"),
            rdzv_configs={"store_type": "file"},
            local_addr="127.0.0.1",
            max_restarts=STARTED_AGAIN,
            monitor_interval=0.1,
        )
        paths = json.dumps([path or os.getcwd() for path in sys.path])
        program = ("-c", _STARTER.replace("{log}", LOG), str(folder), paths, str(os.getpid()))
        try:
            with _quiet_launcher():
                elastic_launch(config, sys.executable)(*program)
        except Exception as fault:
            self.fault = fault


@contextmanager
def _quiet_launcher() -> Iterator[None]:
    """What the launcher logs is said in the error where it matters, and its settings leave the environment again."""
    logger, before = logging.getLogger("torch.distributed.elastic"), dict(os.environ)
    handler, propagates = logging.NullHandler(), logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagates
        for name in [name for name in os.environ if name.startswith("TORCHELASTIC_") and name not in before]:
            del os.environ[name]


def _listen(folder: Path, thread: threading.Thread, callbacks: TrainingCallbacks) -> None:
    """Pass on what rank 0 tells, until the launcher has ended; ask it to stop when that is asked for."""
    with (folder / EVENTS).open(encoding="utf-8") as events:
        rest, alive = "", True
        while alive:
            alive = thread.is_alive()
            *lines, rest = (rest + events.read()).split("\n")
            for line in lines:
                _pass_on(json.loads(line), callbacks)
            if callbacks.stopping():
                (folder / STOP).touch()
            if alive:
                time.sleep(_LISTENING)


def _pass_on(event: dict[str, Any], callbacks: TrainingCallbacks) -> None:
    if "progress" in event:
        callbacks.progress(*event["progress"])
    elif "history" in event:
        callbacks.on_epoch(event["history"])
    else:
        log.log(event["level"], "%s", event["message"])


def _outcome(folder: Path, launch: _Launch, module: nn.Module) -> TrainingResult:
    if not (folder / OUTCOME).exists():
        raise SetupError(_failure(folder, launch.fault)) from launch.fault
    kind, value, weights = pickle.loads((folder / OUTCOME).read_bytes())
    if kind == "fault":
        raise value
    load_state(module, weights)
    result: TrainingResult = value
    return result


def _failure(folder: Path, fault: Exception | None) -> str:
    """What to say of processes that failed each time."""
    failures = getattr(fault, "failures", {})
    if not failures:
        return f"The processes of the training could not be started ({fault}). Leave --nproc out."
    rank, failure = next(iter(sorted(failures.items(), key=lambda item: item[1].timestamp)))
    said = (folder / f"{LOG}{rank}").read_text(errors="replace").strip().rsplit("\n", 1)[-1][:300]
    return (
        f"Process {rank + 1} of a training in {len(list(folder.glob(LOG + '*')))} ended with code {failure.exitcode} "
        f"({said or 'it said nothing'}), again after {STARTED_AGAIN} new starts. The same command goes on from the "
        "last checkpoint."
    )
