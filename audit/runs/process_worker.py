"""A worker in a process of this machine: it reads cells from a pipe, and writes evidence to it."""

from __future__ import annotations

import logging
import os
import pickle
import signal
import threading
import time
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Any

from audit.core.startup import prepare_process

PROGRESS_SECONDS = 0.2
"""So often a worker tells how far it is, at most."""


def serve(descriptor: int) -> None:
    """Compute the cells that come through a pipe until it is closed.

    The first message is a `WorkerOrder`, the others are `Job`s and the word "stop". The answers are pairs of a word and
    what it is about: "ready", "progress", "computed", "fault" and "log".

    Args:
        descriptor: The file descriptor of this end of the pipe.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the driver, which decides
    prepare_process()
    pipe: Connection[Any, Any] = Connection(descriptor)
    try:
        _compute(pipe.recv(), pipe, _Answers(pipe))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        os._exit(0)  # the driver is gone


class _Answers:
    """What this worker tells its driver, from whichever thread."""

    def __init__(self, pipe: Connection[Any, Any]) -> None:
        self.pipe, self.lock, self.next_at = pipe, threading.Lock(), 0.0

    def give(self, word: str, about: Any = None) -> None:
        with self.lock:
            self.pipe.send((word, about))

    def progress(self, done: int, total: int) -> None:
        """Tell how far the cell is, not too often."""
        if time.monotonic() >= self.next_at:
            self.next_at = time.monotonic() + PROGRESS_SECONDS
            self.give("progress", (done, total))


def _compute(order: Any, pipe: Connection[Any, Any], answers: _Answers) -> None:
    from audit.runs.worker import Worker
    from audit.storage.store import Store

    logging.getLogger("audit").addHandler(_ToDriver(answers))
    try:
        worker = Worker(order, Store(order.store), answers.progress)
    except Exception as fault:
        answers.give("fault", portable(fault))
        return
    jobs: SimpleQueue[Any] = SimpleQueue()
    threading.Thread(target=_listen, args=(pipe, jobs, worker), daemon=True).start()
    answers.give("ready")
    while True:
        job = jobs.get()
        try:
            evidence = worker.compute(job)
        except Exception as fault:
            answers.give("fault", portable(fault))
        else:
            answers.give("computed", evidence) if evidence is not None else answers.give("ready")


def _listen(pipe: Connection[Any, Any], jobs: SimpleQueue[Any], worker: Any) -> None:
    """Pass on what the driver sends; a driver that is gone ends the process, in the middle of a cell too."""
    while True:
        try:
            message = pipe.recv()
        except (EOFError, OSError):
            os._exit(0)
        if message == "stop":
            worker.stop()
        else:
            jobs.put(message)


class _ToDriver(logging.Handler):
    """Passes warnings on to the driver, which knows where they are shown."""

    def __init__(self, answers: _Answers) -> None:
        super().__init__(logging.WARNING)
        self.answers = answers

    def emit(self, record: logging.LogRecord) -> None:
        self.answers.give("log", (record.levelno, record.getMessage()))


def portable(fault: Exception) -> Exception:
    """An error that another process can read: itself where it pickles, else its type and message.

    Args:
        fault: The error.

    Returns:
        The error, with its traceback as a note.
    """
    import traceback

    text = "".join(traceback.format_exception(fault))
    try:
        copy = pickle.loads(pickle.dumps(fault))
        same = type(copy) is type(fault) and str(copy) == str(fault)
    except Exception:
        same = False
    carried = copy if same else RuntimeError(f"{type(fault).__name__}: {fault}")
    carried.add_note(f"In a worker:\n{text}")
    return carried
