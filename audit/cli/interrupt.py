"""Ctrl-C once: finish the batch, write the report, stop. Twice: abort at once."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from audit.cli.terminal import Terminal


@contextmanager
def graceful_interrupts(terminal: Terminal) -> Iterator[Callable[[], bool]]:
    """Catch SIGINT and SIGTERM inside the block: the first is noted, the second raises KeyboardInterrupt.

    Args:
        terminal: Where the first is acknowledged.

    Yields:
        A function that says whether the first has come.
    """
    interrupted = False

    def on_signal(number: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        if interrupted:
            raise KeyboardInterrupt
        interrupted = True
        terminal.info(
            "[yellow]Stopping after this batch, then writing the report; press Ctrl-C again to abort at once.[/]"
        )

    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: interrupted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
