"""`audit compress` end to end: the variant beside its parent, in the document, on the page and as a file to load."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from audit.cli.app import app
from audit.config import RunConfig, load_config, merge
from audit.core.errors import UsageError
from audit.core.types import Batch
from audit.data.load import load_dataset
from audit.runs.pipeline import AuditRun, run_audit
from audit.topics.compression.section import read_latencies
from tests.runs.conftest import SMALL

TINY: dict[str, Any] = merge(
    SMALL,
    {
        "hardening": {"enabled": False},
        "training": {"epochs": 1},
        "robustness": {"examples": 12},
        "corruptions": {"examples": 12, "severities": [1], "names": ["fog"]},
        "explanations": {"examples": 3, "methods": ["saliency", "grad-cam"], "calibration": False},
    },
)


def config_of(**compression: Any) -> RunConfig:
    return load_config(overrides=merge(TINY, {"compression": {"enabled": True, "epochs": 1, **compression}}))


@pytest.fixture(scope="module")
def quantised(tmp_path_factory: pytest.TempPathFactory) -> AuditRun:
    return run_audit(config_of(method="int8"), tmp_path_factory.mktemp("int8"))


def test_the_document_holds_sizes_shares_with_intervals_and_agreement(quantised: AuditRun) -> None:
    document = json.loads(quantised.folder.document.read_text())
    (part,) = document["compression"]
    assert (part["role"], part["method"], part["amount"]) == ("compressed", "int8", None)
    assert part["variant"]["bytes"] < 0.3 * part["parent"]["bytes"]
    assert {row["quantity"].split()[0] for row in document["comparison"]} == {"clean", "robust"}
    assert all(row["after"]["n"] and row["after"]["low"] <= row["after"]["estimate"] for row in document["comparison"])
    moved = [row for row in document["measures"] if row["condition"] == "between-models"]
    assert {row["method"] for row in moved} == {"saliency", "grad-cam"}
    assert all(row["mean"] > 0.6 and row["n"] <= part["same_prediction"] for row in moved if row["name"] == "agreement")
    origins = {model["role"]: model["origin"]["text"] for model in document["models"]}
    assert origins == {"standard": "trained here", "compressed": "made here from the standard model"}


def test_the_page_shows_the_latency_that_the_document_leaves_out(quantised: AuditRun) -> None:
    page, document = quantised.folder.report.read_text(), quantised.folder.document.read_text()
    assert "What it weighs" in page and "batch of 64" in page and "Where it looks" in page
    assert "latency" not in json.loads(document) and '"seconds"' not in document
    (one, many) = read_latencies(quantised.folder.timing)
    assert (one.images, many.images) == (1, 64) and one.ratio.n == 15 and 0 < one.parent < many.parent
    assert one.ratio.low <= one.ratio.estimate <= one.ratio.high


def test_the_file_is_held_against_the_form_that_gives_gradients_on_every_test_image(quantised: AuditRun) -> None:
    (part,) = quantised.document.compression
    assert part.int8 is not None and part.int8.agreement is not None and part.int8.logit_difference is not None
    assert (part.int8.engine, part.int8.calibrated, part.int8.in_float) == ("onnxruntime", 256, [])
    assert part.int8.agreement.n == quantised.results.per_example("accuracy", "correct", role="compressed").size
    assert part.int8.agreement.estimate > 0.99 and 0 < part.int8.logit_difference < 0.2
    page = quantised.folder.report.read_text()
    assert "as onnxruntime runs it" in page and "computed with in float32, so" not in page
    assert not any(row.study == "int8-engine" for row in quantised.document.measures)


def test_without_training_images_only_the_weights_are_in_int8_and_the_page_says_so(
    quantised: AuditRun, tmp_path: Path
) -> None:
    images = np.random.default_rng(0).random((12, 28, 28)).astype(np.float32)
    np.savez(tmp_path / "few.npz", images=images, labels=np.arange(12) % 10)
    given = {
        "data": {"source": f"npz:{tmp_path / 'few.npz'}"},
        "model": {"weights": str(quantised.folder.model("standard"))},
        "compression": {"enabled": True, "method": "int8"},
    }
    classes = {"data": {"labels_map": str(_names(quantised, tmp_path))}}
    outcome = run_audit(load_config(overrides=merge(merge(TINY, given), classes)), tmp_path / "run")
    (part,) = outcome.document.compression
    assert part.int8 is not None and part.int8.calibrated == 0 and part.int8.agreement is None
    page = outcome.folder.report.read_text()
    assert "no training images to learn the range" in page and "computed with in float32, so" in page


def _names(outcome: AuditRun, folder: Path) -> Path:
    place = folder / "names.txt"
    place.write_text("\n".join(outcome.document.subject.classes) + "\n")
    return place


def test_without_its_timing_the_page_says_where_the_latency_stands(quantised: AuditRun, tmp_path: Path) -> None:
    (tmp_path / "audit.json").write_bytes(quantised.folder.document.read_bytes())
    for text in ("", "{}", '{"latency": [{}]}', "[1]"):
        (tmp_path / "timing.json").write_text(text)
        assert read_latencies(tmp_path / "timing.json") == ()
    for language, words in (("en", "timing.json, which was not beside"), ("zh", "该文件不在本文档旁边")):
        shown = CliRunner().invoke(app, ["report", str(tmp_path), "--lang", language])
        assert shown.exit_code == 0, shown.output
        assert words in (tmp_path / "report.html").read_text()


def test_the_same_seed_gives_the_same_document_in_another_folder(quantised: AuditRun, tmp_path: Path) -> None:
    again = run_audit(config_of(method="int8"), tmp_path / "again")
    assert again.folder.document.read_bytes() == quantised.folder.document.read_bytes()


def test_the_published_int8_file_is_a_third_and_answers_in_onnxruntime_as_was_audited(
    quantised: AuditRun, tmp_path: Path
) -> None:
    quantised.folder.release("compressed")
    file = quantised.folder.released_model
    assert file.name == "model.onnx" and not (quantised.folder.root / "model.safetensors").exists()
    assert file.stat().st_size < 0.3 * quantised.folder.model("standard").stat().st_size
    session = pytest.importorskip("onnxruntime").InferenceSession(str(file), providers=["CPUExecutionProvider"])
    test = load_images()
    (logits,) = session.run(None, {"images": test.images.numpy()})
    correct = quantised.results.per_example("accuracy", "correct", role="compressed")
    assert (logits.argmax(1) == test.labels.numpy()).mean() == correct.mean() and len(correct) == len(test)
    loaded = run_audit(load_config(overrides=merge(TINY, {"model": {"weights": str(file)}})), tmp_path / "loaded")
    again = loaded.results.per_example("accuracy", "correct", role="standard")
    assert (again == correct).mean() > 0.99


def load_images() -> Batch:
    return load_dataset("sample").test.batch(slice(None))


def test_a_loaded_model_is_compressed_without_being_trained_again(quantised: AuditRun, tmp_path: Path) -> None:
    parent = str(quantised.folder.model("standard"))
    config = load_config(
        overrides=merge(TINY, {"model": {"weights": parent}, "compression": {"enabled": True, "method": "clip"}})
    )
    outcome = run_audit(config, tmp_path / "clip")
    assert not outcome.results.entries("training")
    (part,) = outcome.document.compression
    assert part.amount == 2.5 and part.fine_tuned_epochs == 0
    assert part.variant.nonzero == part.parent.nonzero


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory) -> AuditRun:
    outcome = run_audit(config_of(method="structured", amount=0.4), tmp_path_factory.mktemp("structured"))
    outcome.folder.release("compressed")
    return outcome


def test_pruned_channels_are_gone_from_the_document_the_page_and_the_file(cut: AuditRun) -> None:
    (part,) = cut.document.compression
    assert part.cut and part.spared == []
    assert part.variant.parameters == part.variant.nonzero < 0.5 * part.parent.parameters
    assert cut.folder.released_model.stat().st_size < 0.5 * cut.folder.model("standard").stat().st_size
    page = cut.folder.report.read_text()
    assert "weakest 40% were taken out of the net" in page and "keep their shape" not in page


def test_the_file_of_a_cut_model_is_enough_to_audit_it_to_harden_it_and_to_compress_it_again(
    cut: AuditRun, tmp_path: Path
) -> None:
    given = merge(TINY, {"model": {"weights": str(cut.folder.released_model)}})
    loaded = run_audit(load_config(overrides=given), tmp_path / "loaded")
    for study, name in (("accuracy", "correct"), ("robustness", "robust")):
        ours = loaded.results.per_example(study, name, role="standard")
        assert (ours == cut.results.per_example(study, name, role="compressed")).all()
    hardening = {"hardening": {"enabled": True, "epochs": 1}}
    hardened = run_audit(load_config(overrides=merge(given, hardening)), tmp_path / "hard")
    hard = str(hardened.folder.model("hardened"))
    again = merge(given, {"compression": {"enabled": True, "method": "int8"}, "model": {"weights": hard}})
    packed = run_audit(load_config(overrides=again), tmp_path / "packed")
    (part,) = packed.document.compression
    assert part.parent.parameters == cut.document.compression[0].variant.parameters
    assert part.variant.bytes < 0.35 * part.parent.bytes
    packed.folder.release("compressed")
    last = load_config(overrides=merge(TINY, {"model": {"weights": str(packed.folder.released_model)}}))
    assert run_audit(last, tmp_path / "last", scope="train").results.complete


def test_a_net_that_no_channel_can_leave_is_refused_before_it_is_trained(tmp_path: Path) -> None:
    config = load_config(
        overrides=merge(
            TINY, {"model": {"architecture": "row-lstm"}, "compression": {"enabled": True, "method": "structured"}}
        )
    )
    with pytest.raises(UsageError, match="RowLstm's layers can lose"):
        run_audit(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("compression", "words"),
    [
        ({"method": "int8", "amount": 0.5}, "takes no amount"),
        ({"method": "structured", "amount": 2.0}, "between 0 and 1"),
        ({"method": "distill", "epochs": 0}, "Distillation is training"),
        ({"method": "magnitude", "student": "cnn-28"}, "Only distill"),
        ({"method": "distill", "student": "cnn-99"}, "Did you mean"),
        ({"method": "distill", "student": "net.py:make"}, "is code"),
        ({"recipe": "trade"}, "recipe"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_written(
    compression: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=words):
        run_audit(config_of(**compression), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_does_not_both_harden_and_compress(tmp_path: Path) -> None:
    both = load_config(overrides=merge(TINY, {"hardening": {"enabled": True}, "compression": {"enabled": True}}))
    with pytest.raises(UsageError, match="harden and compress"):
        run_audit(both, tmp_path / "run")
