"""A worker as a copy of the command's process: it has imported everything already, which takes another seconds."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import IO, Any

_LOOKS_A_SECOND = 100


class ForkedProcess:
    """A child of `os.fork`, asked as `subprocess.Popen` is.

    Attributes:
        pid: Its number.
    """

    def __init__(self, pid: int) -> None:
        """Nothing is asked yet.

        Args:
            pid: What `os.fork` gave.
        """
        self.pid = pid
        self._code: int | None = None

    def poll(self) -> int | None:
        """The exit code, the negative number of the signal that ended it, or None while it runs."""
        if self._code is None:
            ended, status = os.waitpid(self.pid, os.WNOHANG)
            self._code = os.waitstatus_to_exitcode(status) if ended else None
        return self._code

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end, and give the exit code.

        Args:
            timeout: Seconds; None for as long as it takes.

        Raises:
            TimeoutExpired: It still runs.
        """
        until = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if until is not None and time.monotonic() > until:
                raise subprocess.TimeoutExpired("worker", timeout or 0.0)
            time.sleep(1 / _LOOKS_A_SECOND)
        return code


def can_fork(threads: int, device: str) -> bool:
    """Whether a copy of this process can compute.

    OpenMP's threads do not survive the copy, so that it must do with its own, as the workers of torch's DataLoader do;
    nor does the driver of a card.

    Args:
        threads: Threads that the worker computes with.
        device: Type of the device.
    """
    return sys.platform == "linux" and threads == 1 and device == "cpu"


def fork_worker(pipe: Connection[Any, Any], others: Sequence[Connection[Any, Any]], errors: IO[bytes]) -> ForkedProcess:
    """Start a worker as a copy of this process.

    Args:
        pipe: Its end of the pipe.
        others: What it must not hold open: this process's ends of all pipes.
        errors: Where what it prints goes.
    """
    with warnings.catch_warnings():
        # Python 3.12 warns where other threads run: that of the progress bar holds nothing that a worker uses.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid:
        return ForkedProcess(pid)
    code = 1
    try:
        _become_worker(others, errors)
        from audit.runs.process_worker import serve

        serve(pipe.fileno())
        code = 0
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _become_worker(others: Sequence[Connection[Any, Any]], errors: IO[bytes]) -> None:
    os.setsid()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else signal.SIG_IGN)
    for connection in others:
        connection.close()
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (errors.fileno(), 1), (errors.fileno(), 2)):
        os.dup2(source, target)
    # New ones, as the progress bar may have held the locks of the old.
    sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
    for name in (None, "audit"):
        logging.getLogger(name).handlers.clear()
