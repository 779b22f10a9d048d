"""A training's history for TensorBoard: event files in a folder of their own."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from audit.core.errors import SetupError

History = Sequence[Mapping[str, Any]]


def require_tensorboard() -> None:
    """Raises SetupError where the package is missing."""
    if find_spec("tensorboard") is None:
        raise SetupError(
            "Event files for TensorBoard need the package tensorboard; install it with pip install "
            "'audit[tensorboard]', or leave --tensorboard out."
        )


@contextmanager
def tensorboard_writer(folder: Path | None) -> Iterator[Callable[[History], None]]:
    """Yields `record(history)`, which adds the rows it has not seen yet, one step an epoch; it does nothing for None.

    Files of an earlier attempt in `folder` are replaced: the first history of a resumed training holds their rows.
    """
    if folder is None:
        yield lambda history: None
        return
    require_tensorboard()
    from torch.utils.tensorboard import SummaryWriter

    shutil.rmtree(folder, ignore_errors=True)
    writer, written = SummaryWriter(str(folder)), 0

    def record(history: History) -> None:
        nonlocal written
        for row in history[written:]:
            for name, value in row.items():
                if isinstance(value, int | float) and name != "epoch":
                    writer.add_scalar(name, value, row["epoch"])
        written = len(history)
        writer.flush()

    try:
        yield record
    finally:
        writer.close()
