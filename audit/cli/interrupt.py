"""Ctrl-C once: finish the batch, write, stop. Twice: abort at once."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from audit.cli.terminal import Terminal


@contextmanager
def graceful_interrupts(voice: Terminal) -> Iterator[Callable[[], bool]]:
    """Yields `stopping()`, true after the first SIGINT or SIGTERM; the second raises KeyboardInterrupt."""
    asked = False

    def ask(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        voice.say("[yellow]Stopping after this batch; press Ctrl-C again to abort at once.[/]")

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
