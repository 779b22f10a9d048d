"""The families that tutorials name, from torchvision and timm: an epoch of training, a whole audit, a report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from audit.config import load_config, merge
from audit.runs.pipeline import run_audit
from tests.training.toy import thirds

FAMILIES = {
    "torchvision:alexnet": 64,
    "torchvision:vgg11_bn": 32,
    "torchvision:resnet18": 32,
    "torchvision:inception_v3": 80,
    "torchvision:densenet121": 32,
    "torchvision:mobilenet_v3_small": 32,
    "torchvision:efficientnet_b0": 32,
    "timm:test_vit": 160,
}
"""By name, the side of image that the net takes at least, or was made for."""
QUICK = ("torchvision:mobilenet_v3_small",)
"""The others have five to a hundred million weights to copy, pack and hash."""
RUN: dict[str, Any] = {
    "training": {
        "epochs": 1,
        "batch_size": 8,
        "learning_rate": 1e-4,
        "optimizer": "sgd",
        "momentum": 0.0,
        "probe_examples": 2,
        "probe_steps": 1,
    },
    "hardening": {"enabled": False},
    "robustness": {"examples": 2, "eps": 0.2},
    "corruptions": {"examples": 2, "severities": [1], "names": ["gaussian-noise"]},
    "explanations": {"examples": 2, "methods": ["saliency", "grad-cam"], "calibration": False},
    "report": {"gallery": 2},
    "device": "cpu",
}


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", [pytest.param(n, marks=[] if n in QUICK else [pytest.mark.slow]) for n in FAMILIES])
def test_every_family_is_trained_audited_and_reported(name: str, tmp_path: Path) -> None:
    if name.startswith("timm:"):
        pytest.importorskip("timm")
    train, test = thirds(18, size=FAMILIES[name]), thirds(6, seed=3, size=FAMILIES[name])
    arrays = {
        f"x_{part}": batch.images.repeat(1, 3, 1, 1).numpy() for part, batch in (("train", train), ("test", test))
    }
    labels = {f"y_{part}": batch.labels.numpy() for part, batch in (("train", train), ("test", test))}
    np.savez(tmp_path / "thirds.npz", **arrays, **labels)
    source = {"data": {"source": f"npz:{tmp_path / 'thirds.npz'}"}, "model": {"architecture": name}}
    outcome = run_audit(load_config(overrides=merge(RUN, source)), tmp_path / "run")
    assert outcome.results.complete
    document = json.loads(outcome.folder.document.read_text())
    assert document["models"][0]["architecture"] == name and len(document["models"][0]["history"]) == 1
    assert np.isfinite(document["models"][0]["history"][0]["loss"])
    assert document["accuracy"][0]["accuracy"]["n"] == 6 and document["robustness"] and document["corruptions"]
    said = {row["method"]: row["status"] for row in document["explanations"]}
    assert said["saliency"] == "measured"
    assert said["grad-cam"] == ("not_applicable" if "vit" in name else "measured")
    assert f"{name}" in outcome.folder.report.read_text()
