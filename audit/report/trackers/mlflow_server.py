"""A run logged to an MLflow server."""

from __future__ import annotations

import os
import re
import tempfile
import textwrap
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from audit.core.errors import SetupError, UsageError, one_line
from audit.report.trackers.tracked_run import TrackedRun

_METRICS_AT_ONCE, _PARAMETERS_AT_ONCE = 1000, 100  # what one request may hold
_SYSTEM = re.compile(r"\[Errno -?\d+\] ([A-Za-z ]+)")
_WORDS = 160
"""Characters of a server's answer that are shown."""
_QUICK = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "30"}
_QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true"}


def log_to_mlflow(run: TrackedRun, *, address: str, experiment: str) -> str:
    """Log a run as a new run of an experiment, which is made where it is missing.

    Args:
        run: The run.
        address: The tracking URI, such as http://127.0.0.1:5000; empty for that of MLFLOW_TRACKING_URI.
        experiment: Name of the experiment.

    Returns:
        Where the run is: the URI, the number of the experiment and the id of the run.

    Raises:
        UsageError: There is no address.
        SetupError: The package is missing, or the server refuses or does not answer.
    """
    address = address or os.environ.get("MLFLOW_TRACKING_URI", "")
    if not address:
        raise UsageError("No MLflow server is named: give its address, as in --at http://127.0.0.1:5000.")
    # The client of MLflow 3.0 sends files to the server that the environment names, not to its own.
    with _environment(_QUICK | _QUIET, {"MLFLOW_TRACKING_URI": address}):
        try:
            from mlflow import MlflowClient
            from mlflow.exceptions import MlflowException
        except ImportError as fault:
            raise SetupError("--to mlflow needs mlflow; install it with pip install 'audit[mlflow]'.") from fault
        try:
            client = MlflowClient(tracking_uri=address)
            found = client.get_experiment_by_name(experiment)
            number = found.experiment_id if found else client.create_experiment(experiment)
            tags = {**run.tags, "mlflow.note.content": run.summary[:5000]}
            created = client.create_run(number, run_name=run.name, tags=tags).info.run_id
        except (MlflowException, OSError) as fault:
            raise SetupError(
                f"The MLflow server at {address} did not take the run: {_reason(fault)}. Give the address of a server "
                "that runs, as in --at http://127.0.0.1:5000."
            ) from fault
        try:
            _log(client, created, run)
            client.set_terminated(created)
        except BaseException as fault:
            with suppress(MlflowException, OSError):
                client.set_terminated(created, status="FAILED")
            if not isinstance(fault, MlflowException | OSError):
                raise
            raise SetupError(
                f"The MLflow server at {address} stopped taking the run {created}, which is marked as failed: "
                f"{_reason(fault)}. Log it again when the server answers."
            ) from fault
    return f"{address.rstrip('/')}/#/experiments/{number}/runs/{created}"


def _reason(fault: Exception) -> str:
    """Why a request failed: what the system said of the connection, else the first words of the server's answer."""
    said = _SYSTEM.findall(str(fault))
    return said[-1] if said else textwrap.shorten(one_line(fault), _WORDS, placeholder=" ...")


def _log(client: Any, run_id: str, run: TrackedRun) -> None:
    from mlflow.entities import Metric, Param

    now = int(1000 * time.time())
    metrics = [Metric(name, value, now, 0) for name, value in run.metrics.items()]
    metrics += [Metric(name, value, now, step) for name, row in run.series.items() for step, value in row]
    parameters = [Param(key, value) for key, value in run.parameters.items()]
    for start in range(0, len(metrics), _METRICS_AT_ONCE):
        client.log_batch(run_id, metrics=metrics[start : start + _METRICS_AT_ONCE])
    for start in range(0, len(parameters), _PARAMETERS_AT_ONCE):
        client.log_batch(run_id, params=parameters[start : start + _PARAMETERS_AT_ONCE])
    with tempfile.TemporaryDirectory() as folder:
        for name, text in run.files.items():
            Path(folder, name).write_text(text, encoding="utf-8")
        client.log_artifacts(run_id, folder)


@contextmanager
def _environment(defaults: Mapping[str, str], fixed: Mapping[str, str]) -> Iterator[None]:
    """Variables of the environment inside the block; of the defaults those that the user has not set."""
    before = {name: os.environ.get(name) for name in (*defaults, *fixed)}
    os.environ.update({name: value for name, value in defaults.items() if before[name] is None} | dict(fixed))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
