"""A function that returns a trained module is the model; one that draws its weights is trained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from audit.config import ModelConfig, RunConfig, load_config
from audit.core.errors import UsageError
from audit.models.own_weights import with_own_weights
from audit.runs.model_diagnostics import diagnose_model
from audit.runs.predict import load_for_prediction
from audit.runs.run_setup import RunSetup
from audit.runs.setup import set_up

SOURCE = """
import torch
from torch import nn, manual_seed

def plain():
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(400, 2))

SHARED = plain()

def trained():
    module = plain()
    module.load_state_dict(torch.load(WEIGHTS))
    return module

def seeded():
    torch.manual_seed(0)
    return plain()

def seeded_by_another_name():
    manual_seed(0)
    return plain()

def shared():
    return SHARED

def new_head():
    module = trained()
    module[3] = nn.Linear(400, 2)
    return module

class Fixed(nn.Module):
    def forward(self, images):
        return torch.stack([images.mean((1, 2, 3)), images.amax((1, 2, 3))], 1)

class Multi(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = trained()

    def forward(self, images):
        return self.net(images).sigmoid()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    draw = np.random.default_rng(0)
    arrays = {f"x_{part}": draw.uniform(0, 1, (40, 1, 12, 12)).astype("float32") for part in ("train", "test")}
    np.savez(tmp_path / "data.npz", **arrays, y_train=np.arange(40) % 2, y_test=np.arange(40) % 2)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(400, 2))
    torch.save(net.state_dict(), tmp_path / "mine.pt")
    (tmp_path / "net.py").write_text(SOURCE.replace("WEIGHTS", repr(str(tmp_path / "mine.pt"))))
    return tmp_path


def configured(folder: Path, function: str, **model: object) -> RunConfig:
    table = {"architecture": f"{folder / 'net.py'}:{function}", "trust": [str(folder / "net.py")], **model}
    return load_config(overrides={"data": {"source": f"npz:{folder / 'data.npz'}"}, "model": table})


def ready(folder: Path, function: str, **model: object) -> RunSetup:
    return set_up(configured(folder, function, **model))


@pytest.mark.parametrize("function", ["trained", "Fixed", "Multi"])
def test_weights_that_are_the_same_under_two_seeds_are_audited(folder: Path, function: str) -> None:
    setup = ready(folder, function)
    assert setup.loaded is not None and "--own-weights no" in setup.loaded.notes[0].text
    assert setup.loaded.origin == f"net.py:{function}" and setup.trusted
    if function == "trained":
        wanted = torch.load(folder / "mine.pt")
        assert all(torch.equal(value, wanted[name]) for name, value in setup.loaded.module.state_dict().items())


@pytest.mark.parametrize("function", ["plain", "seeded", "seeded_by_another_name", "shared"])
def test_drawn_weights_are_trained_even_where_the_code_sets_the_seed(folder: Path, function: str) -> None:
    """A module made once, or under a seed of the code's own, looks the same at each call and is not trained."""
    setup = ready(folder, function)
    assert setup.loaded is None and setup.notes == ()


@pytest.mark.parametrize(("function", "own", "alike"), [("new_head", None, 2), ("trained", False, 4)])
def test_training_that_starts_from_own_weights_says_so(
    folder: Path, function: str, own: bool | None, alike: int
) -> None:
    setup = ready(folder, function, own_weights=own)
    assert setup.loaded is None
    assert f"weights of its own in {alike} of 4 tensors" in setup.notes[0].text


def test_new_weights_in_the_file_that_a_function_reads_make_another_model(folder: Path) -> None:
    before = ready(folder, "trained").subject.loaded
    state = torch.load(folder / "mine.pt")
    torch.save({name: value + 1 for name, value in state.items()}, folder / "mine.pt")
    assert ready(folder, "trained").subject.loaded != before


def test_a_seed_set_after_the_comparison_is_the_users(folder: Path) -> None:
    config = configured(folder, "seeded_by_another_name").model
    with_own_weights(config, classes=2, input_shape=(1, 12, 12), seed=0)
    torch.manual_seed(3)
    one = torch.rand(2)
    torch.manual_seed(3)
    assert torch.equal(one, torch.rand(2))


def test_doctor_and_predict_take_such_a_module(folder: Path) -> None:
    assert diagnose_model(configured(folder, "trained")).n == 40
    (folder / "labels.txt").write_text("a\nb\n")
    config = configured(folder, "trained")
    data = config.data.model_copy(
        update={"labels_map": str(folder / "labels.txt"), "image_size": 12, "grayscale": True}
    )
    model = load_for_prediction(config.model, data, device="cpu", seed=0)
    assert model.logits(torch.rand(1, 1, 12, 12)).shape == (1, 2)
    with pytest.raises(UsageError, match="returns new weights"):
        load_for_prediction(configured(folder, "plain").model, data, device="cpu", seed=0)
    with pytest.raises(UsageError, match="weights of its own"):
        diagnose_model(configured(folder, "plain"))
    with pytest.raises(UsageError, match="--model"):
        load_for_prediction(ModelConfig(), data, device="cpu", seed=0)


def test_sigmoid_scores_get_no_calibration_error(folder: Path) -> None:
    """A softmax of sigmoids is nobody's confidence."""
    import json

    import audit

    config = configured(folder, "Multi").model_copy(update={"only": ("accuracy",)})
    config = config.model_copy(update={"hardening": config.hardening.model_copy(update={"enabled": False})})
    audit.run(config, out=folder / "run")
    document = json.loads((folder / "run" / "audit.json").read_text())
    part = document["accuracy"][0]
    assert part["calibration_error"] is None and part["reliability"] == []
    assert not any("confidence" in finding["title"] for finding in document["findings"])
    assert any("no distribution" in note["text"] for note in document["models"][0]["notes"])
