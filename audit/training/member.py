"""A process of a training that several share, started by the launcher."""

from __future__ import annotations

import json
import logging
import os
import pickle
import shutil
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from audit.core.errors import AuditError
from audit.training.callbacks import TrainingCallbacks, TrainingHistory
from audit.training.distributed import WorkerGroup
from audit.training.job import TrainingJob, follow, lead
from audit.training.meeting import loopback
from audit.training.training_data import SplitImages
from audit.training.world import member_device, process_group

JOB, IMAGES, EVENTS, OUTCOME = "job.pickle", "images.pt", "events.jsonl", "outcome.pickle"
"""Files in the folder of a training: what it is, its images, what rank 0 tells on the way, and how it ended."""
STOP, ENDED, LOG = "stop", "ended", "log-"
"""The first asks for a checkpoint and an end, the second for an end at once; the output of each process."""
_WATCHING = 0.2
_LOST = 9
"""Exit code of a process that nobody waits for any longer."""


def run_member(name: str, parent: int) -> None:
    """Train along with the others, and write down how it ended.

    An error that a user is meant to read, or that is no broken exchange, ends the training; after any other the
    launcher starts all processes again.

    Args:
        name: The folder of the training.
        parent: The process that started it.
    """
    folder = Path(name)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process, and the one that began decides
    threading.Thread(target=_watch, args=(folder, parent), daemon=True).start()
    if (folder / OUTCOME).exists() or (folder / ENDED).exists():
        return
    if interface := loopback():
        os.environ.setdefault("GLOO_SOCKET_IFNAME", interface)
    try:
        _train(folder)
    except RuntimeError:
        if not (folder / OUTCOME).exists():
            raise
    except Exception as fault:
        _write_outcome(folder, "fault", fault)


def _train(folder: Path) -> None:
    workers = WorkerGroup(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))
    told: dict[str, Any] = pickle.loads((folder / JOB).read_bytes())
    job: TrainingJob = told["job"]
    device = member_device(job.device.type)
    stores: Any = distributed  # torch exports them without naming them
    meeting = folder / f"meeting-{os.environ['TORCHELASTIC_RESTART_COUNT']}"
    with process_group(stores.FileStore(str(meeting), workers.world_size), workers, device):
        if workers.rank:
            follow(workers, device)
            return
        images = SplitImages.unpacked(torch.load(folder / IMAGES, mmap=True, weights_only=True))
        module = pickle.loads(told["module"])
        events = _Events(folder / EVENTS)
        callbacks = TrainingCallbacks(
            told["scratch"], events.progress, (folder / STOP).exists, events.history, told["role"]
        )
        result = lead(workers, replace(job, device=device), module, images, callbacks)
        _write_outcome(folder, "result", result, {name: value.cpu() for name, value in module.state_dict().items()})


class _Events(logging.Handler):
    """What rank 0 tells the process that began, a line of JSON each."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        logging.getLogger("audit").addHandler(self)

    def progress(self, done: int, total: int) -> None:
        self._tell({"progress": [done, total]})

    def history(self, history: TrainingHistory) -> None:
        self._tell({"history": [dict(row) for row in history]})

    def emit(self, record: logging.LogRecord) -> None:
        self._tell({"level": record.levelno, "message": record.getMessage()})

    def _tell(self, event: dict[str, Any]) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(event) + "\n")


def _write_outcome(folder: Path, kind: str, value: Any, weights: Any = None) -> None:
    """The first process that has one writes it; an error that cannot be pickled is told in words."""
    try:
        body = pickle.dumps((kind, value, weights))
        pickle.loads(body)
    except Exception:
        body = pickle.dumps((kind, AuditError(f"{type(value).__name__}: {value}"), None))
    own = folder / f"{OUTCOME}.{os.getpid()}"
    own.write_bytes(body)
    if not (folder / OUTCOME).exists():
        own.replace(folder / OUTCOME)


def _watch(folder: Path, parent: int) -> None:
    """End this process when the one that began is gone or done; the images of one that was killed go with it."""
    while True:
        if os.getppid() != parent:
            shutil.rmtree(folder, ignore_errors=True)
            os._exit(_LOST)
        if (folder / ENDED).exists():
            os._exit(0)
        time.sleep(_WATCHING)
