"""A run logged by Weights & Biases, or by trackio, whose functions have the same names."""

from __future__ import annotations

import os
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

from audit.core.errors import SetupError, fault_line
from audit.report.trackers.tracked_run import TrackedRun


def log_to_wandb(run: TrackedRun, *, address: str, experiment: str) -> str:
    """Log a run to a project of Weights & Biases: online, or as WANDB_MODE says.

    Args:
        run: The run.
        address: The folder for its files; empty for the current one.
        experiment: Name of the project.

    Returns:
        Where the run is: its address, or its folder where it is offline.

    Raises:
        SetupError: The package is missing, or the run is not taken.
    """
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    wandb = _module("wandb")
    try:
        logged = wandb.init(
            project=experiment,
            name=run.name,
            config={**run.parameters, **run.tags},
            notes=run.tags.get("audit.sentence", ""),
            dir=address or None,
            settings=wandb.Settings(silent=True, console="off", disable_git=True, save_code=False),
        )
        _log_numbers(wandb, run)
        logged.summary.update(dict(run.metrics))
        with tempfile.TemporaryDirectory() as folder:
            artifact = wandb.Artifact("audit", type="report")
            for name, text in run.files.items():
                Path(folder, name).write_text(text, encoding="utf-8")
            artifact.add_dir(folder)
            logged.log_artifact(artifact)
            location = str(logged.url or Path(logged.dir).parent)
            wandb.finish()
    except Exception as fault:
        raise _refused("wandb", fault, "Log in with `wandb login`, or set WANDB_MODE=offline.") from fault
    return location


def log_to_trackio(run: TrackedRun, *, address: str, experiment: str) -> str:
    """Log a run to a project of trackio: on this machine, or to a Space of the Hub.

    Args:
        run: The run.
        address: The Space, as OWNER/NAME; empty for this machine.
        experiment: Name of the project.

    Returns:
        Where the run is.

    Raises:
        SetupError: The package is missing, or the run is not taken.
    """
    trackio = _module("trackio")
    try:
        trackio.init(
            project=experiment,
            name=run.name,
            config={**run.parameters, **run.tags},
            space_id=address or None,
            embed=False,
        )
        _log_numbers(trackio, run)
        trackio.log({"summary": trackio.Markdown(run.summary)})
        trackio.finish()
    except Exception as fault:
        raise _refused("trackio", fault, "Leave --at out to log on this machine.") from fault
    return address or f"trackio, project {experiment}"


def _module(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as fault:
        raise SetupError(f"--to {name} needs {name}; install it with pip install 'audit[{name}]'.") from fault


def _log_numbers(tracker: Any, run: TrackedRun) -> None:
    """The trainings epoch by epoch, then what the audit measured, at the step after the last epoch."""
    epochs: dict[int, dict[str, float]] = {}
    for name, row in run.series.items():
        for step, value in row:
            epochs.setdefault(step, {})[name] = value
    for step in sorted(epochs):
        tracker.log(epochs[step], step=step)
    tracker.log(dict(run.metrics), step=max(epochs, default=-1) + 1)


def _refused(name: str, fault: Exception, advice: str) -> SetupError:
    return SetupError(f"{name} did not take the run: {fault_line(fault)}. {advice}")
