"""What trackers are told, read back by the trackers themselves; the MLflow server is a real one."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from made_run import made_document
from typer.testing import CliRunner

from audit.cli.app import app
from audit.core.errors import SetupError
from audit.document.schema import AuditDocument
from audit.report.document import to_json
from audit.report.trackers.log_to import TRACKERS, log_to
from audit.report.trackers.tracked_run import TrackedRun, tracked_run


@pytest.fixture(scope="module")
def document() -> AuditDocument:
    return made_document()


@pytest.fixture(scope="module")
def run(document: AuditDocument) -> TrackedRun:
    return tracked_run(document)


def test_every_number_stands_between_its_bounds(document: AuditDocument, run: TrackedRun) -> None:
    finding = next(f for f in document.findings if f.check == "robust-accuracy" and f.role == "standard")
    assert finding.interval is not None
    name = "standard/robust-accuracy_linf_0.1"
    assert [run.metrics[name + end] for end in ("", "_low", "_high")] == [finding.estimate, *finding.interval]
    lower = [name for name in run.metrics if name.endswith("_low")]
    assert len(lower) > 20
    for name in lower:
        middle = name.removesuffix("_low")
        assert run.metrics[name] <= run.metrics[middle] <= run.metrics[f"{middle}_high"]


def test_no_number_of_the_document_is_lost_to_another_of_the_same_name(
    document: AuditDocument, run: TrackedRun
) -> None:
    estimates = [finding.estimate for finding in document.findings if finding.estimate is not None]
    assert set(estimates) <= set(run.metrics.values())
    curve = [point.robust.estimate for part in document.robustness for point in part.curve]  # type: ignore[attr-defined]
    assert curve and set(curve) <= set(run.metrics.values())


def test_names_are_such_as_every_tracker_takes(run: TrackedRun) -> None:
    for name in [*run.metrics, *run.series]:
        assert re.fullmatch(r"[\w.-]+/[\w.-]+", name), name
    assert all(len(value) <= 500 for value in [*run.parameters.values(), *run.tags.values()])
    assert run.series["standard/training_loss"][0] == (0, 0.9)
    assert run.files.keys() == {"report.html", "audit.json", "summary.md", "model-card.md"}


def test_tensorboard_reads_the_event_files(run: TrackedRun, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = log_to("tensorboard", run, address=str(tmp_path), experiment="audit")
    events = EventAccumulator(folder, size_guidance={"tensors": 0, "scalars": 0}).Reload()
    read = {tag: events.Scalars(tag)[0].value for tag in events.Tags()["scalars"]}
    assert read.keys() == run.metrics.keys() | run.series.keys()
    for name, value in run.metrics.items():
        assert read[name] == pytest.approx(value, rel=1e-6)
    assert [(e.step, e.value) for e in events.Scalars("standard/training_loss")] == [
        (step, pytest.approx(value)) for step, value in run.series["standard/training_loss"]
    ]
    assert run.summary.encode() in events.Tensors("summary")[0].tensor_proto.string_val


def test_an_unknown_tracker_is_told_those_there_are(document: AuditDocument, tmp_path: Path) -> None:
    (tmp_path / "audit.json").write_text(to_json(document), encoding="utf-8")
    shown = CliRunner().invoke(app, ["log", str(tmp_path), "--to", "mlfow"])
    assert shown.exit_code == 2 and "Did you mean 'mlflow'" in shown.output
    assert all(name in shown.output for name in TRACKERS)


def test_without_an_address_there_is_a_sentence(
    document: AuditDocument, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "audit.json").write_text(to_json(document), encoding="utf-8")
    shown = CliRunner().invoke(app, ["log", str(tmp_path)])
    assert shown.exit_code == 2 and "--at http://127.0.0.1:5000" in shown.output


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_without_a_server_there_is_one_sentence_and_exit_5(document: AuditDocument, tmp_path: Path) -> None:
    pytest.importorskip("mlflow")
    (tmp_path / "audit.json").write_text(to_json(document), encoding="utf-8")
    address = f"http://127.0.0.1:{free_port()}"
    before = dict(os.environ)
    shown = CliRunner().invoke(app, ["log", str(tmp_path), "--at", address])
    assert shown.exit_code == 5 and shown.output.count("\n") == 1, shown.output
    assert f"The MLflow server at {address} did not take the run: Connection refused. Give" in shown.output
    assert dict(os.environ) == before


def test_a_missing_package_is_named_with_its_extra(run: TrackedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    for name in ("wandb", "trackio"):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(SetupError, match=rf"pip install 'audit\[{name}\]'"):
            log_to(name, run, address="", experiment="audit")


def test_trackio_has_the_numbers(run: TrackedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path))
    trackio = pytest.importorskip("trackio")
    log_to("trackio", run, address="", experiment="nets")
    (logged,) = trackio.Api().runs("nets")
    rows = trackio.sqlite_storage.SQLiteStorage.get_logs("nets", logged.name)
    read = {name: value for row in rows for name, value in row.items()}
    assert {name: read[name] for name in run.metrics} == pytest.approx(run.metrics)


def test_wandb_writes_the_run_where_it_is_offline(
    run: TrackedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    folder = Path(log_to("wandb", run, address=str(tmp_path), experiment="nets"))
    (records,) = folder.glob("*.wandb")
    assert folder.is_relative_to(tmp_path) and b"standard/robust-accuracy_linf_0.1_low" in records.read_bytes()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real MLflow server on this machine; MLFLOW_SERVER names its program, in an environment of its own."""
    program = os.environ.get("MLFLOW_SERVER")
    if not program:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("MLFLOW_SERVER names no mlflow (pip install mlflow)")
    folder, port = tmp_path_factory.mktemp("mlflow"), free_port()
    words = [program, "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    words += [
        "--backend-store-uri",
        f"sqlite:///{folder}/mlflow.db",
        "--artifacts-destination",
        str(folder / "artifacts"),
    ]
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
    environment.pop("PYTHONPATH", None)
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(words, stdout=log, stderr=log, cwd=folder, env=environment, start_new_session=True)
    try:
        address, deadline = f"http://127.0.0.1:{port}", time.monotonic() + 200
        while True:
            try:
                urlopen(f"{address}/health", timeout=5).close()
                break
            except (URLError, OSError):
                assert process.poll() is None and time.monotonic() < deadline, (folder / "log").read_text()
                time.sleep(0.5)
        yield address
    finally:
        os.killpg(process.pid, 15)
        process.wait(30)


def test_an_mlflow_server_has_the_run_with_numbers_parameters_tags_and_report(
    document: AuditDocument, run: TrackedRun, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow: Any = pytest.importorskip("mlflow")
    (tmp_path / "audit.json").write_text(to_json(document), encoding="utf-8")
    for _ in range(2):  # the second time into an experiment that exists
        shown = CliRunner().invoke(
            app, ["log", str(tmp_path), "--at", server, "--experiment", "nets", "--name", "mine"]
        )
        assert shown.exit_code == 0 and server in shown.output, shown.output
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)  # where the client of MLflow 3.0 fetches files
    client = mlflow.MlflowClient(tracking_uri=server)
    experiment = client.get_experiment_by_name("nets")
    logged, earlier = client.search_runs([experiment.experiment_id])
    assert logged.info.run_name == "mine" and logged.info.status == earlier.info.status == "FINISHED"
    last = {name: rows[-1][1] for name, rows in run.series.items()}
    assert logged.data.metrics == pytest.approx({**run.metrics, **last})
    assert [
        (m.step, m.value)
        for m in sorted(client.get_metric_history(logged.info.run_id, "standard/training_loss"), key=lambda m: m.step)
    ] == (run.series["standard/training_loss"])
    assert logged.data.params == dict(run.parameters)
    assert logged.data.tags["audit.verdict"] == document.summary.verdict
    report = client.download_artifacts(logged.info.run_id, "report.html", str(tmp_path))
    assert Path(report).read_text("utf-8") == run.files["report.html"]
