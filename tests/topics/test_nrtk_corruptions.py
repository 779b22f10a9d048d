"""Corruptions of nrtk's in a run: their parameter swept, the same draws at every severity, named with their values."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from audit.config import load_config, merge
from audit.core.errors import SetupError, UsageError
from audit.core.registry import find
from audit.core.seeding import Generators
from audit.corruptions import nrtk_perturbers
from audit.planning.builder import select_methods
from audit.runs.pipeline import run_audit
from audit.topics.corruptions.section import CorruptionRow
from tests.runs.conftest import SMALL


def generators(count: int) -> Generators:
    return Generators.of(map(str, range(count)), seed=0, purpose="test", device="cpu")


def test_haze_is_the_mean_of_image_and_sky_in_the_shares_that_were_asked() -> None:
    pytest.importorskip("nrtk")
    method = find("corruption", "nrtk:haze:factor=0.5,2")
    assert method.name == "nrtk:haze:factor=0.5,2" and method.facts["severities"] == 2
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)).mul(255).round().div(255)
    weak, strong = (method.function(images, severity, generators(2)) for severity in (1, 2))
    sky = images.mean((2, 3), keepdim=True)  # nrtk's default colour of the sky: the image's own mean
    for changed, factor in ((weak, 0.5), (strong, 2.0)):
        share = 1 - np.exp(-factor)
        assert (changed - ((1 - share) * images + share * sky)).abs().max() < 2.1 / 255


def test_noise_draws_the_same_for_an_image_at_every_severity_and_wherever_it_stands() -> None:
    pytest.importorskip("nrtk")
    method = find("corruption", "nrtk:gaussian-noise")
    assert method.name == "nrtk:gaussian-noise:var=0.005,0.01,0.02,0.05,0.1"
    grey = torch.full((3, 1, 16, 16), 0.5)
    once, again = (method.function(grey, 2, generators(3)) for _ in range(2))
    assert torch.equal(once, again) and not torch.equal(once[0], once[1])
    assert torch.equal(method.function(grey[1:2], 2, generators(3).select(torch.tensor([1]))), once[1:2])
    stronger = method.function(grey, 4, generators(3))
    moved, further = (once - grey).flatten(), (stronger - grey).flatten()
    assert torch.corrcoef(torch.stack([moved, further]))[0, 1] > 0.97 and further.std() > 1.8 * moved.std()
    assert abs(float(moved.std()) - 0.01**0.5) < 0.01


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nrtk:hase", "Did you mean"),
        ("nrtk:", "nrtk perturber"),
        ("nrtk:haze:strength=1", "parameter of nrtk:haze"),
        ("nrtk:haze:factor=", "one to 5 numbers"),
        ("nrtk:haze:factor=much", "one to 5 numbers"),
        ("nrtk:haze:factor=1,2,3,4,5,6", "one to 5 numbers"),
        ("nrtk:haze:factor=inf", "one to 5 numbers"),
        ("nrtk:radial-distortion", "no usual values.*k"),
    ],
)
def test_what_is_no_sweep_is_refused_in_a_sentence(name: str, words: str) -> None:
    pytest.importorskip("nrtk")
    with pytest.raises(UsageError, match=words):
        find("corruption", name)


def test_what_a_perturber_cannot_do_with_an_image_is_said() -> None:
    pytest.importorskip("nrtk")
    method = find("corruption", "nrtk:radial-distortion:k=1")
    with pytest.raises(UsageError, match=r"RadialDistortionPerturber does not take images of shape \(8, 8, 3\)"):
        method.function(torch.rand(1, 3, 8, 8), 1, generators(1))


def test_without_nrtk_the_extra_is_named_before_anything_is_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    real = importlib.import_module

    def without(name: str, *args: Any) -> Any:
        if name.startswith("nrtk"):
            raise ImportError(name)
        return real(name, *args)

    monkeypatch.setattr(nrtk_perturbers, "import_module", without)
    nrtk_perturbers._perturbers.cache_clear()
    with pytest.raises(SetupError, match=r"pip install 'audit\[nrtk\]'"):
        select_methods("corruption", ("fog", "nrtk:haze"))
    with pytest.raises(SetupError, match="nrtk"):
        run_audit(load_config(overrides=merge(SMALL, {"corruptions": {"names": ["nrtk:haze"]}})), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    nrtk_perturbers._perturbers.cache_clear()


def test_a_run_measures_the_sweep_beside_the_other_corruptions(tmp_path: Path) -> None:
    pytest.importorskip("nrtk")
    small = {
        "only": ["corruptions"],
        "training": {"epochs": 1},
        "hardening": {"enabled": False},
        "corruptions": {"names": ["nrtk:contrast:factor=0.9,0.0", "fog"], "severities": [1, 2, 5], "examples": 24},
    }
    outcome = run_audit(load_config(overrides=merge(SMALL, small)), tmp_path / "run")
    rows = outcome.document.rows(CorruptionRow)
    measured = {(row.name, row.severity): row.accuracy.estimate for row in rows}
    name = "nrtk:contrast:factor=0.9,0"
    assert set(measured) == {(name, 1), (name, 2), ("fog", 1), ("fog", 2), ("fog", 5)}
    assert measured[name, 2] < measured[name, 1]  # without contrast an image is one grey
    assert name in outcome.folder.report.read_text()
