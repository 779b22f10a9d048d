import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import audit
from audit.config import RunConfig, load_config
from audit.core.errors import Interrupted, SetupError, UsageError
from audit.core.evidence import Evidence
from audit.execution.runner import RunCallback
from audit.planning.cost import estimate_cost, max_task_passes
from audit.planning.plan import Task
from audit.report.document import to_json
from audit.runs.folder import open_run
from audit.runs.pipeline import AuditRun, run_audit
from audit.runs.setup import set_up
from tests.runs.conftest import SMALL, TINY


@pytest.fixture(scope="module")
def finished(small_config: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> AuditRun:
    return run_audit(small_config, tmp_path_factory.mktemp("run"))


class Computed(RunCallback):
    """Remembers what was not found in the store."""

    def __init__(self) -> None:
        self.tasks: list[Task] = []

    def finished(self, task: Task, evidence: Evidence, *, stored: bool) -> None:
        if not stored:
            self.tasks.append(task)


def test_the_whole_job_ends_in_a_document_a_report_and_two_models(finished: AuditRun) -> None:
    root = finished.folder.root
    document = json.loads((root / "audit.json").read_text())
    assert document["summary"]["complete"] is True
    assert {model["role"] for model in document["models"]} == {"standard", "hardened"}
    assert {part["role"] for part in document["robustness"]} == {"standard", "hardened"}
    assert len(document["gallery"]) == 3
    assert "<html" in (root / "report.html").read_text()
    assert (root / "models" / "hardened.safetensors").stat().st_size > 100_000
    assert finished.results.complete


def test_no_cell_takes_more_passes_than_the_plan_foretells(finished: AuditRun, small_config: RunConfig) -> None:
    subject, told = set_up(small_config).subject, set()
    for task in finished.results.plan.tasks:
        most, found = max_task_passes(task, subject), finished.results.evidence[task.cell.key]
        if most is not None and found.status == "measured":
            told.add((task.cell.study, task.cell.method))
            assert found.forwards <= most.forwards, task.label
            assert found.backwards <= most.backwards, task.label
    assert {("robustness", "quick"), ("explanation", "lime"), ("faithfulness", "lime"), ("corruption", "fog")} <= told
    whole = estimate_cost(finished.results.plan.tasks, subject)
    assert whole.passes.forwards == sum(part.forwards for part in whole.by_study.values())
    assert whole.unknown == sum(max_task_passes(task, subject) is None for task in finished.results.plan.tasks)


def test_a_second_run_computes_nothing_and_writes_the_same_bytes(finished: AuditRun, small_config: RunConfig) -> None:
    before = {
        path.name: path.read_bytes() for path in finished.folder.root.iterdir() if path.suffix in (".json", ".html")
    }
    watcher = Computed()
    run_audit(small_config, finished.folder.root, callback=watcher)
    assert watcher.tasks == []
    for name in ("audit.json", "report.html"):
        assert (finished.folder.root / name).read_bytes() == before[name], name


def test_another_folder_gives_the_same_document(finished: AuditRun, small_config: RunConfig, tmp_path: Path) -> None:
    again = run_audit(small_config, tmp_path / "again")
    assert again.folder.document.read_bytes() == finished.folder.document.read_bytes()


def test_the_document_names_no_folder_user_or_time(finished: AuditRun) -> None:
    text = finished.folder.document.read_text() + finished.folder.report.read_text()
    assert str(Path.home()) not in text
    assert str(finished.folder.root) not in text


def test_the_exported_model_is_the_audited_one(finished: AuditRun, small_config: RunConfig, tmp_path: Path) -> None:
    weights = str(finished.folder.model("standard"))
    changes = {"model": {"weights": weights}, "hardening": {"enabled": False}}
    config = audit.config.load_config(overrides=audit.config.merge(SMALL, changes))
    loaded = run_audit(config, tmp_path / "loaded")
    for study in ("accuracy", "robustness"):
        measurement = {"accuracy": "correct", "robustness": "robust"}[study]
        ours = loaded.results.per_example(study, measurement, role="standard")
        assert (ours == finished.results.per_example(study, measurement, role="standard")).all()


def test_a_run_stopped_before_there_is_anything_to_report_says_so(small_config: RunConfig, tmp_path: Path) -> None:
    watcher = Computed()
    with pytest.raises(Interrupted, match="Stopped as asked before there was anything to report"):
        run_audit(small_config, tmp_path / "run", callback=watcher, should_stop=lambda: len(watcher.tasks) >= 1)
    assert len(watcher.tasks) == 1
    assert not (tmp_path / "run" / "audit.json").exists()


@pytest.mark.parametrize("by", ["user", "time"])
def test_a_run_that_is_cut_reports_what_is_there_and_goes_on(
    by: str, small_config: RunConfig, finished: AuditRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut after more and more cells; its clock counts them, so that no machine is too slow for the test."""
    total = len(finished.results.plan.tasks)
    for cells in (0.2, 0.5, 0.9):
        watcher, most = Computed(), int(cells * total)
        monkeypatch.setattr("audit.runs.clock.time", SimpleNamespace(monotonic=lambda w=watcher: float(len(w.tasks))))
        root = tmp_path / "run"
        done = len(list(root.glob("store/*/*/evidence.json")))
        options: dict[str, Any] = {"within": most - done + 0.9} if by == "time" else {}
        stop = (lambda w=watcher, n=most - done: len(w.tasks) >= n) if by == "user" else (lambda: False)
        cut = run_audit(small_config, root, callback=watcher, should_stop=stop, **options)
        summary = cut.document.summary
        assert (summary.cut_by, summary.complete, cut.faults) == (by, False, ())
        assert not [gap for gap in cut.document.gaps if gap.status == "failed"]
        assert sum(row.cells for row in cut.document.unfinished) == len(cut.results.unfinished) > 0
        assert summary.verdict not in ("pass", "warn")
        page = cut.folder.report.read_text()
        assert 'id="unfinished"' in page and page.count("<section") > 4
        sure = {(f.role, f.check): f for f in cut.document.findings if f.verdict == "pass"}
        assert all(f == sure.get((f.role, f.check), f) for f in finished.document.findings if f.check in ACCURACY)
    monkeypatch.undo()
    resumed = run_audit(small_config, tmp_path / "run")
    assert resumed.folder.document.read_bytes() == finished.folder.document.read_bytes()
    assert resumed.folder.report.read_bytes() == finished.folder.report.read_bytes()


ACCURACY = ("clean-accuracy", "calibration")


def test_a_changed_setting_recomputes_only_what_it_touches(finished: AuditRun) -> None:
    changed = audit.config.load_config(
        overrides=audit.config.merge(SMALL, {"explanations": {"methods": ["grad-cam", "occlusion"]}})
    )
    watcher = Computed()
    run_audit(changed, finished.folder.root, callback=watcher)
    assert {task.cell.method for task in watcher.tasks if task.cell.study != "agreement"} == {"occlusion"}
    assert {task.cell.study for task in watcher.tasks} == {"explanation", "faithfulness", "agreement"}


def test_lime_computed_later_spends_what_the_store_keeps_of_shap(
    finished: AuditRun, small_config: RunConfig, tmp_path: Path
) -> None:
    root = shutil.copytree(finished.folder.root, tmp_path / "again")
    explained = [t for t in finished.results.plan.tasks if t.cell.study == "explanation" and t.cell.method == "lime"]
    assert len(explained) == 4
    for task in explained:
        shutil.rmtree(root / "store" / task.cell.key[:2] / task.cell.key)
    watcher = Computed()
    again = run_audit(small_config, root, callback=watcher)
    assert [task.cell.key for task in watcher.tasks] == [task.cell.key for task in explained]
    assert again.folder.document.read_text() == to_json(finished.document)
    assert "asked_" not in to_json(finished.document)
    shared = {part.method: part.shared for part in finished.document.explanations}
    assert shared["lime"]["shap"] > 0 and not any(shared[name] for name in shared if name != "lime")


def test_lime_stands_alone_where_shap_fails(finished: AuditRun, tmp_path: Path) -> None:
    changes = {"explanations": {"settings": {"shap": {"algorithm": "kernel", "samples": 5}}}}
    config = audit.config.load_config(overrides=audit.config.merge(SMALL, changes))
    run = run_audit(config, shutil.copytree(finished.folder.root, tmp_path / "run"))
    parts = {part.method: part for part in run.document.explanations if part.role == "standard"}
    assert parts["shap"].status == "failed" and "5 samples cannot settle" in str(parts["shap"].reason)
    assert parts["lime"].status == "measured" and parts["lime"].shared == {} and parts["lime"].cost.forwards > 100


def test_two_runs_may_not_share_a_folder(small_config: RunConfig, tmp_path: Path) -> None:
    with open_run(tmp_path), pytest.raises(SetupError, match=r"Another run \(process \d+\)"):
        run_audit(small_config, tmp_path)


def test_a_folder_of_another_version_is_refused(small_config: RunConfig, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"format": 99}')
    with pytest.raises(UsageError, match="another version"):
        run_audit(small_config, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def test_a_file_where_the_folder_should_be_is_refused(small_config: RunConfig, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UsageError, match="is a file"):
        run_audit(small_config, tmp_path / "file")


def test_the_public_run_returns_findings_and_shows_itself(finished: AuditRun, small_config: RunConfig) -> None:
    found = audit.run(small_config, out=finished.folder.root)
    assert {finding.role for finding in found.findings} >= {"standard", "hardened"}
    assert found.to_json() == finished.folder.document.read_text()
    assert found.to_html() == finished.folder.report.read_text()
    assert found._repr_html_().startswith("<iframe")


def test_the_users_own_code_is_trained_and_audited_when_trusted(tmp_path: Path) -> None:
    net = tmp_path / "net.py"
    net.write_text(
        "from torch import nn\n"
        "def tiny(classes, input_shape):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(784, 16), nn.ReLU(), nn.Linear(16, classes))\n"
    )
    changes = {
        "model": {"architecture": f"{net}:tiny", "trust": [{"path": str(net)}]},
        "hardening": {"enabled": False},
        "explanations": {"methods": ["saliency", "grad-cam"]},
    }
    config = audit.config.load_config(overrides=audit.config.merge(SMALL, changes))
    outcome = run_audit(config, tmp_path / "run")
    document = outcome.document
    assert document.models[0].parameters == 784 * 16 + 16 + 16 * 10 + 10
    assert document.protocol.trusted[0]["path"] == "net.py"
    assert len(document.protocol.trusted[0]["sha256"]) == 64
    (cam,) = [part for part in document.explanations if part.method == "grad-cam"]
    assert cam.status == "not_applicable" and cam.reason
    assert str(tmp_path) not in outcome.folder.document.read_text()


def test_global_randomness_is_not_used(finished: AuditRun, small_config: RunConfig, tmp_path: Path) -> None:
    torch.manual_seed(12345)
    state = torch.get_rng_state()
    config = audit.config.load_config(
        overrides=audit.config.merge(SMALL, {"hardening": {"enabled": False}, "seed": 3, "training": {"epochs": 1}})
    )
    run_audit(config, tmp_path / "run")
    assert torch.equal(torch.get_rng_state(), state)


def test_open_images_asked_further_end_in_the_bytes_of_a_run_that_asked_all_at_once(tmp_path: Path) -> None:
    """The cells of the smaller effort are found in the store; a run without them computes the same ones."""
    little = {
        "robustness": {"examples": 2, "battery": "fgsm", "eps": 0.01, "curve": []},
        "hardening": {"enabled": False},
    }

    def run(folder: Path, effort: str) -> tuple[AuditRun, list[Task]]:
        settings = TINY | little | {"only": ["robustness"], "certification": {"examples": 1, "effort": effort}}
        watcher = Computed()
        return run_audit(load_config(overrides=settings), folder, callback=watcher), watcher.tasks

    run(tmp_path / "further", "bounds")
    further, asked = run(tmp_path / "further", "optimised")
    at_once, _ = run(tmp_path / "at-once", "optimised")
    assert [task.cell.method for task in asked] == ["linear-bounds"]
    assert all("robustness" not in task.cell.inputs for task in asked)
    for name in ("audit.json", "report.html"):
        assert (tmp_path / "further" / name).read_bytes() == (tmp_path / "at-once" / name).read_bytes(), name
    document = json.loads(at_once.folder.document.read_text())
    (bracket,) = document["brackets"]
    assert bracket["n"] == 1
    assert further.results.complete and "asks the open images further" in (tmp_path / "further/report.html").read_text()
