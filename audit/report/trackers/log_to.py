"""The trackers by name."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module

from audit.core.errors import unknown_name
from audit.report.trackers.tracked_run import TrackedRun

TRACKERS: Mapping[str, str] = {
    "mlflow": "mlflow_server:log_to_mlflow",
    "tensorboard": "event_files:log_to_tensorboard",
    "wandb": "wandb_like:log_to_wandb",
    "trackio": "wandb_like:log_to_trackio",
}
"""By name, the function that logs to it, as module:function of this package."""


def log_to(tracker: str, run: TrackedRun, *, address: str, experiment: str) -> str:
    """Log a run.

    Args:
        tracker: Name of the tracker.
        run: The run.
        address: Where the tracker is; what it means depends on the tracker.
        experiment: Name of the experiment, the project or the sub-folder.

    Returns:
        Where the run is now.

    Raises:
        UsageError: The tracker is unknown.
    """
    if tracker not in TRACKERS:
        raise unknown_name("tracker", tracker, TRACKERS)
    module, name = TRACKERS[tracker].split(":")
    function = getattr(import_module(f"audit.report.trackers.{module}"), name)
    location: str = function(run, address=address, experiment=experiment)
    return location
