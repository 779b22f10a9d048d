"""Every configuration that ships runs, on less data."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from audit.config import load_config, merge
from audit.core.registry import methods
from audit.core.resources import resource_dir
from audit.runs.pipeline import run_audit
from tests.runs.conftest import SMALL

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
LESS = {
    "corruptions": {"names": ["gaussian-noise"]},
    "explanations": {"methods": ["saliency"]},
    "attribution_quality": {"enabled": False},
}


def photographs(root: Path) -> Path:
    draw = np.random.default_rng(0)
    for split, count in (("train", 40), ("test", 6)):
        for name, tone in (("cat", 60), ("dog", 180)):
            place = root / split / name
            place.mkdir(parents=True)
            for index in range(count):
                pixels = draw.normal(tone, 40, (50, 60, 3)).clip(0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(place / f"{index:03}.jpg")
    return root


def test_the_defaults_and_the_folder_of_pictures_run(tmp_path: Path) -> None:
    pictures = {"data": {"source": f"folder:{photographs(tmp_path / 'pets')}", "train_examples": None}}
    smaller = {"data": {"image_size": 64}, "training": {"epochs": 1, "batch_size": 16}, "hardening": {"batch_size": 16}}
    few = {"robustness": {"examples": 8}, "corruptions": {"examples": 8}}
    for name, changes in (("audit.toml", {}), ("folder.toml", merge(merge(pictures, smaller), few))):
        config = load_config(resource_dir("samples") / name, overrides=merge(merge(SMALL, LESS), changes))
        outcome = run_audit(config, tmp_path / name)
        assert outcome.results.complete, [e.reason for e in outcome.results.evidence.values() if e.status == "failed"]


def test_every_method_is_judged_drifts_and_is_compared_on_less(tmp_path: Path) -> None:
    """One that does not apply to the net has its reason and takes nothing from the others."""
    fewer = {"examples": 2, "settings": {"rise": {"samples": 100}}}
    less = {"training": SMALL["training"], "hardening": {"enabled": False}, "only": ["explanations"]}
    asked = merge({"data": SMALL["data"], "robustness": {"examples": 8}, "report": {"gallery": 2}}, less)
    topics = {"shortcuts": {"examples": 100}, "self_test": {"enabled": False}}
    overrides = merge(asked, {"explanations": fewer} | topics)
    found = run_audit(load_config(resource_dir("samples") / "every-method.toml", overrides=overrides), tmp_path / "run")
    names = {method.name for method in methods("attribution")}
    (compared,) = found.document.agreements
    assert set(compared.methods) == names - {"attention-rollout"} and compared.left_out == ["attention-rollout"]
    assert {part.method: part.status for part in found.document.explanations} == {
        name: "not_applicable" if name == "attention-rollout" else "measured" for name in names
    }
    for study in ("attribution-quality", "drift"):
        assert {row.method for row in found.document.measures if row.study == study} == set(compared.methods)


@pytest.mark.skipif(not DEBIAN.is_dir(), reason="Debian's dataset-fashion-mnist is not installed")
@pytest.mark.slow
def test_the_whole_fashion_mnist_runs(tmp_path: Path) -> None:
    few = {"attack_controls": 8, "certification": 4, "backdoor": 0, "other_threats": 0, "shortcuts": 0}
    changes = {name: {"examples": count} for name, count in few.items()}
    changes |= {"robustness": {"battery": "quick"}, "drift": {"enabled": False}}
    overrides = merge(merge(SMALL, LESS), changes)
    config = load_config(resource_dir("samples") / "full-fashion-mnist.toml", overrides=overrides)
    outcome = run_audit(config, tmp_path / "run")
    assert outcome.results.complete
    assert outcome.document.accuracy[0].accuracy.n == 10_000
