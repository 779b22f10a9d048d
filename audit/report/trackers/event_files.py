"""A run logged as event files, which TensorBoard reads."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from audit.core.errors import SetupError
from audit.report.trackers.tracked_run import TrackedRun
from audit.storage.store import disk_faults


def log_to_tensorboard(run: TrackedRun, *, address: str, experiment: str) -> str:
    """Write an event file: scalars, and the summary and the parameters as texts.

    Args:
        run: The run.
        address: The folder of event files.
        experiment: The sub-folder of this run.

    Returns:
        The folder written to.

    Raises:
        SetupError: The package is missing, or the disk refuses.
    """
    try:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.plugins.text.metadata import create_summary_metadata
        from tensorboard.summary.writer.event_file_writer import EventFileWriter
        from tensorboard.util.tensor_util import make_tensor_proto
    except ImportError as fault:
        raise SetupError(
            "--to tensorboard needs tensorboard; install it with pip install 'audit[tensorboard]'."
        ) from fault
    folder = Path(address) / experiment
    points = [(name, 0, value) for name, value in run.metrics.items()]
    points += [(name, step, value) for name, row in run.series.items() for step, value in row]
    with disk_faults(folder, "--at"):
        folder.mkdir(parents=True, exist_ok=True)
        writer, now = EventFileWriter(str(folder)), time.time()

        def add(step: int, tag: str, **value: Any) -> None:
            writer.add_event(Event(wall_time=now, step=step, summary=Summary(value=[Summary.Value(tag=tag, **value)])))

        for name, step, value in points:
            add(step, name, simple_value=value)
        for name, text in (("summary", run.summary), ("parameters", _table({**run.parameters, **run.tags}))):
            metadata = create_summary_metadata(display_name=name, description="")
            add(0, name, tensor=make_tensor_proto([text.encode()]), metadata=metadata)
        writer.close()
    return str(folder)


def _table(rows: Any) -> str:
    lines = [f"| {key} | {value.replace('|', '/')} |" for key, value in rows.items()]
    return "\n".join(["| key | value |", "| --- | --- |", *lines])
