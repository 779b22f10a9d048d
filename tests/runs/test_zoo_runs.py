"""Every architecture of the zoo, and every way to make it smaller, goes through a whole run and its report."""

from __future__ import annotations

import json
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from audit.config import load_config, merge
from audit.models.architecture import ZOO
from audit.runs.pipeline import AuditRun, run_audit
from tests.training.toy import thirds

METHODS = ["saliency", "grad-cam", "occlusion", "attention-rollout"]
RUN: dict[str, Any] = {
    "training": {"epochs": 1, "batch_size": 12, "learning_rate": 1e-3, "probe_examples": 4, "probe_steps": 1},
    "hardening": {"enabled": False},
    "robustness": {"examples": 2, "eps": 0.4},
    "corruptions": {"examples": 2, "severities": [1], "names": ["gaussian-noise"]},
    "explanations": {"examples": 2, "methods": METHODS, "calibration": False},
    "report": {"gallery": 2},
}
SIZES = {"cnn-8": 8, "cnn-32": 20, "cnn-150": 24, "resnet-18-small": 8, "self-attention": 14}
HEAVY = ("resnet-18-small",)
"""Eleven million weights are copied, packed and hashed for a while."""
COMPRESSIONS = {
    "magnitude": "self-attention",
    "structured": "cnn-28",
    "clip": "row-lstm",
    "int8": "cnn-32",
    "distill": "cnn-32",
}


def data_of(size: int, folder: Path) -> str:
    train, test = thirds(42, size=size), thirds(12, seed=3, size=size)
    pixels = {f"x_{part}": batch.images.numpy() for part, batch in (("train", train), ("test", test))}
    labels = {f"y_{part}": batch.labels.numpy() for part, batch in (("train", train), ("test", test))}
    np.savez(folder / "thirds.npz", **pixels, **labels)
    return f"npz:{folder / 'thirds.npz'}"


def audited(name: str, folder: Path, **changes: Any) -> AuditRun:
    source = {"data": {"source": data_of(SIZES.get(name, 12), folder)}, "model": {"architecture": name}}
    return run_audit(load_config(overrides=merge(merge(RUN, source), changes)), folder / "run")


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] if n in HEAVY else []) for n in ZOO])
def test_every_architecture_is_trained_audited_and_reported(name: str, tmp_path: Path) -> None:
    outcome = audited(name, tmp_path)
    assert outcome.results.complete
    document = json.loads(outcome.folder.document.read_text())
    assert document["models"][0]["architecture"] == name and len(document["models"][0]["history"]) == 1
    assert document["accuracy"][0]["accuracy"]["n"] == 12
    said = {row["method"]: row for row in document["explanations"]}
    assert set(said) == set(METHODS)
    assert all(bool(row["reason"]) == (row["status"] != "measured") for row in said.values())
    assert {name: said[name]["status"] for name in ("saliency", "occlusion")} == dict.fromkeys(
        ("saliency", "occlusion"), "measured"
    )
    assert (said["grad-cam"]["status"] == "measured") == name.startswith(("cnn", "resnet"))
    assert (said["attention-rollout"]["status"] == "measured") == (name == "self-attention")
    page = unescape(outcome.folder.report.read_text())
    assert all(row["reason"]["text"] in page for row in said.values() if row["status"] == "not_applicable")


@pytest.mark.parametrize("method", COMPRESSIONS)
def test_every_smaller_variant_is_audited_beside_its_parent(method: str, tmp_path: Path) -> None:
    name = COMPRESSIONS[method]
    student = {"student": "cnn-28"} if method == "distill" else {}
    chosen = {"enabled": True, "method": method, "epochs": 1, "batch_size": 12, **student}
    outcome = audited(name, tmp_path, compression=chosen)
    assert outcome.results.complete
    document = json.loads(outcome.folder.document.read_text())
    (part,) = document["compression"]
    assert {row["role"] for row in document["robustness"]} == {"standard", "compressed"}
    assert part["fine_tuned_epochs"] == (1 if method in ("magnitude", "structured", "distill") else 0)
    old, new = part["parent"], part["variant"]
    assert {
        "magnitude": 0.4 < new["nonzero"] / old["nonzero"] < 0.6,
        "structured": new["parameters"] < 0.6 * old["parameters"] and part["cut"],
        "clip": new["nonzero"] == old["nonzero"],
        "int8": new["bytes"] < 0.5 * old["bytes"],
        "distill": part["architecture"] == "cnn-28" and new["parameters"] != old["parameters"],
    }[method]
    assert 'id="compression"' in outcome.folder.report.read_text()


@pytest.mark.slow
def test_the_net_for_large_photographs_is_audited_at_its_own_size(tmp_path: Path) -> None:
    source = {"data": {"source": data_of(150, tmp_path)}, "model": {"architecture": "cnn-150"}}
    outcome = run_audit(load_config(overrides=merge(RUN, source)), tmp_path / "run")
    assert outcome.results.complete and outcome.document.subject.input_shape == (1, 150, 150)
