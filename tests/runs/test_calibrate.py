"""`audit calibrate`: a planted temperature is found, kept in the weights, and applied by whatever loads them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from audit.cli.app import app
from audit.config import RunConfig, load_config
from audit.core.errors import DataError, ModelError, UsageError
from audit.data.load import load_dataset
from audit.metrics.temperature import fit_temperature
from audit.models.architecture import build
from audit.models.under_test import ModelUnderTest
from audit.runs import calibrate
from audit.runs.calibrate import calibrate_checkpoint
from audit.runs.checkpoint_metadata import read_metadata

PLANTED = 2.5


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A net for digits, its last layer fitted by least squares to random features, and too sure by a planted factor."""
    digits = load_dataset("digits", image_size=28)
    assert digits.train is not None
    module = build("cnn-28", classes=10, input_shape=(1, 28, 28), seed=0).eval()
    batch = digits.train.batch(slice(None))
    last = [layer for layer in module.modules() if isinstance(layer, torch.nn.Linear)][-1]
    kept: list[torch.Tensor] = []
    handle = last.register_forward_pre_hook(lambda _, given: kept.append(given[0]))
    with torch.no_grad():
        module(batch.images)
        rows = torch.cat([kept[0], torch.ones(len(batch), 1)], 1).double()
        goal = torch.nn.functional.one_hot(batch.labels, 10).double() - 0.1
        weights = torch.linalg.solve(rows.T @ rows + torch.eye(rows.shape[1]).double(), rows.T @ goal)
        last.weight.copy_(weights[:-1].T)
        last.bias.copy_(weights[-1])
        handle.remove()
        test = digits.test.batch(slice(None))
        fitted = fit_temperature(module(test.images).double().numpy(), test.labels.numpy())
        last.weight.mul_(PLANTED / fitted)
        last.bias.mul_(PLANTED / fitted)
    path = tmp_path_factory.mktemp("digits") / "sure.safetensors"
    save_file(module.state_dict(), path)
    return path


def config_of(path: Path, **model: object) -> RunConfig:
    return load_config(
        overrides={
            "data": {"source": "digits", "image_size": 28},
            "model": {"weights": str(path), **model},
            "device": "cpu",
        }
    )


def test_the_planted_temperature_is_found_and_predictions_stay(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "calibrated.safetensors"
    outcome = calibrate_checkpoint(config_of(checkpoint, architecture="cnn-28"), out)
    assert outcome.temperature == pytest.approx(PLANTED, rel=0.15)  # that of all images, found on half of them
    assert outcome.likelihood_after.estimate < outcome.likelihood_before.estimate
    assert outcome.error_before.n == 180 and outcome.fitted_on == 180
    images = load_dataset("digits", image_size=28).test.batch(slice(None)).images
    logits = []
    for path in (checkpoint, out):
        module = build("cnn-28", classes=10, input_shape=(1, 28, 28), seed=1)
        module.load_state_dict(load_file(path))
        model = ModelUnderTest(module, classes=tuple("0123456789"), input_shape=(1, 28, 28), device="cpu")
        logits.append(model.logits(images).numpy())
    np.testing.assert_allclose(logits[1], logits[0] / outcome.temperature, rtol=1e-3, atol=1e-4)
    assert (logits[0].argmax(1) == logits[1].argmax(1)).all()
    assert float(json.loads(read_metadata(str(out))["temperature"])) == pytest.approx(outcome.temperature)


def test_what_is_calibrated_stays_as_it_is(checkpoint: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    once = calibrate_checkpoint(config_of(checkpoint, architecture="cnn-28"), first)
    again = calibrate_checkpoint(config_of(first), second)
    assert again.temperature == pytest.approx(1.0, abs=1e-3) and again.notes == ()
    assert float(json.loads(read_metadata(str(second))["temperature"])) == pytest.approx(once.temperature, rel=1e-3)
    twice = tmp_path / "same.safetensors"
    calibrate_checkpoint(config_of(checkpoint, architecture="cnn-28"), twice)
    assert twice.read_bytes() == first.read_bytes()


def test_the_command_writes_the_file_and_says_what_changed(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "by-command.safetensors"
    words = [
        "calibrate",
        str(checkpoint),
        "--data",
        "digits",
        "--image-size",
        "28",
        "--architecture",
        "cnn-28",
        "-o",
        str(out),
        "--json",
    ]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["weights"] == str(out) and out.is_file()
    before, after = (document["negative_log_likelihood"][when]["estimate"] for when in ("before", "after"))
    assert after < before and document["judged_on"] == 180
    change = document["negative_log_likelihood"]["change"]
    assert change["estimate"] == pytest.approx(after - before) and change["high"] < 0
    assert document["notes"] == []


def test_a_temperature_that_does_not_help_on_the_other_images_is_told(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The images are ordered by whether the net is right: where it is fitted on it always is, elsewhere not."""
    config = config_of(checkpoint, architecture="cnn-28")
    right = answered_right(checkpoint)
    monkeypatch.setattr(calibrate, "halves", lambda count, seed: np.arange(count) < 180)
    monkeypatch.setattr(calibrate, "balanced_order", lambda split, seed: np.argsort(~right, kind="stable"))
    outcome = calibrate_checkpoint(config, tmp_path / "worse.safetensors")
    assert outcome.likelihood_after.estimate > outcome.likelihood_before.estimate and outcome.path.is_file()
    change = outcome.likelihood_after.estimate - outcome.likelihood_before.estimate
    assert outcome.likelihood_change.estimate == pytest.approx(change)
    (sentence,) = outcome.notes
    assert "The temperature did not help: on the 180 images" in sentence and f"changed by {change:+.2g} (" in sentence
    words = ["calibrate", str(checkpoint), "--data", "digits", "--image-size", "28", "--architecture", "cnn-28"]
    words += ["--device", "cpu", "-o", str(tmp_path / "again.safetensors")]
    said = CliRunner().invoke(app, words)
    assert said.exit_code == 0 and sentence in said.stdout
    assert json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)["notes"] == [sentence]


def answered_right(path: Path) -> NDArray[np.bool_]:
    """Which test images of the data the net in a file is right on, bool (N,)."""
    digits = load_dataset("digits", image_size=28).test.batch(slice(None))
    module = build("cnn-28", classes=10, input_shape=(1, 28, 28), seed=0).eval()
    module.load_state_dict(load_file(path))
    with torch.no_grad():
        return np.asarray(module(digits.images).argmax(1) == digits.labels)


def test_what_cannot_be_calibrated_is_refused_and_nothing_is_written(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "never.safetensors"
    few = load_config(
        overrides={"data": {"source": "shapes:size=16"}, "model": {"weights": str(checkpoint)}, "device": "cpu"}
    )
    with pytest.raises(UsageError, match=r"must end in \.safetensors"):
        calibrate_checkpoint(config_of(checkpoint, architecture="cnn-28"), tmp_path / "net.pt")
    with pytest.raises(UsageError, match="is the checkpoint itself"):
        calibrate_checkpoint(config_of(checkpoint, architecture="cnn-28"), checkpoint)
    with pytest.raises((DataError, ModelError, UsageError)):
        calibrate_checkpoint(few, out)
    code = tmp_path / "net.py"
    code.write_text(
        "from torch import nn\nclass Double(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.inner = nn.Linear(784, 10)\n    def forward(self, x):\n"
        "        return self.inner(x.flatten(1)) ** 3\n"
        "def make(classes, input_shape):\n    return Double()\n"
    )
    import hashlib

    sha = hashlib.sha256(code.read_bytes()).hexdigest()
    weights = tmp_path / "cubed.safetensors"
    save_file({"inner.weight": torch.randn(10, 784, generator=torch.Generator().manual_seed(0)) / 9,
               "inner.bias": torch.zeros(10)}, weights)  # fmt: skip
    cubed = config_of(weights, architecture=f"{code}:make", trust=[{"path": str(code), "sha256": sha}])
    with pytest.raises(ModelError, match="something follows that layer"):
        calibrate_checkpoint(cubed, out)
    assert not out.exists()
