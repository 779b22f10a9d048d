"""Transfer learning as a job: weights from a local file under a new head, frozen first; and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import audit
from audit.config import RunConfig, load_config, merge
from audit.core.errors import ModelError, SetupError, UsageError
from audit.models.architecture import build
from audit.runs.pipeline import run_audit
from audit.runs.setup import set_up
from audit.runs.validation import with_suited_defaults
from audit.training.transfer import OWN_NORMALISATION
from tests.runs.conftest import SMALL
from tests.training.toy import thirds

NET: dict[str, Any] = {"classes": ("a", "b", "c"), "architecture": "cnn-28", "device": "cpu"}


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A net trained on three other classes of the same size of image, saved with its header."""
    batch = thirds(120, size=28)
    made = audit.train(batch.images, batch.labels, epochs=1, batch_size=30, **NET)
    path = tmp_path_factory.mktemp("elsewhere") / "thirds.safetensors"
    made.save(path)
    return path


def config_of(pretrained: object, **training: Any) -> RunConfig:
    changes = {
        "model": {"architecture": "cnn-28", "pretrained": str(pretrained)},
        "hardening": {"enabled": False},
        "training": {"epochs": 1, "precision": "float32", **training},
    }
    return load_config(overrides=merge(SMALL, changes))


def test_a_frozen_backbone_keeps_the_foreign_weights_and_the_head_is_new(elsewhere: Path, tmp_path: Path) -> None:
    outcome = run_audit(config_of(elsewhere, frozen_epochs=1), tmp_path / "run", scope="train")
    ours, theirs = load_file(outcome.folder.model("standard")), load_file(elsewhere)
    head = [name for name in ours if ours[name].shape != theirs[name].shape]
    assert {ours[name].shape[0] for name in head} == {10} and len(head) == 2
    assert all(torch.equal(ours[name], theirs[name]) for name in ours if name not in head)
    (model,) = outcome.document.models
    assert str(model.origin) == "trained here from thirds.safetensors"
    assert len(model.settings["pretrained"]) == 64
    adopted, frozen = map(str, model.notes)
    assert "; new are " in adopted and all(name in adopted for name in head)
    assert frozen.endswith(" learnt alone in the first 1 of 1 epoch.")


def test_an_unfrozen_backbone_learns_with_the_foreign_normalisation(elsewhere: Path, tmp_path: Path) -> None:
    outcome = run_audit(config_of(elsewhere, backbone_rate=0.1), tmp_path / "run", scope="train")
    ours, theirs = load_file(outcome.folder.model("standard")), load_file(elsewhere)
    moved = [
        name for name in ours if ours[name].shape == theirs[name].shape and not torch.equal(ours[name], theirs[name])
    ]
    assert len(moved) == len(ours) - 2
    (entry,) = outcome.results.entries("training")
    assert np.allclose(entry.evidence.facts["mean"], thirds(120, size=28).images.mean().item(), atol=1e-5)


def test_other_weights_are_another_training(elsewhere: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.pt"
    torch.save(build("cnn-28", classes=3, input_shape=(1, 28, 28), seed=9).state_dict(), other)
    outcomes = [
        run_audit(config_of(path), tmp_path / str(number), scope="train")
        for number, path in enumerate((elsewhere, other))
    ]
    assert len({outcome.results.entries("training")[0].task.cell.key for outcome in outcomes}) == 2
    named, bare = (outcome.document.models[0].notes for outcome in outcomes)
    assert OWN_NORMALISATION in bare and OWN_NORMALISATION not in named


def test_transfer_learns_faster_than_from_nothing_on_the_same_images(elsewhere: Path) -> None:
    batch = thirds(150, seed=4, size=28)
    rows = [
        audit.train(batch.images, batch.labels, epochs=1, batch_size=30, pretrained=start, **NET).history[0]
        for start in (elsewhere, None)
    ]
    assert rows[0]["loss"] < rows[1]["loss"]


def test_what_is_no_state_dict_of_this_architecture_is_refused(elsewhere: Path, tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.pt"
    torch.save(build("row-lstm", classes=3, input_shape=(1, 28, 28), seed=0).state_dict(), foreign)
    with pytest.raises(ModelError, match="do not fit the architecture"):
        run_audit(config_of(foreign), tmp_path / "run", scope="train")
    assert not (tmp_path / "run").exists()
    with pytest.raises(ModelError, match="is no file"):
        run_audit(config_of(tmp_path / "absent.pt"), tmp_path / "absent", scope="train")
    with pytest.raises(UsageError, match="goes with --architecture torchvision:NAME"):
        run_audit(config_of("torchvision"), tmp_path / "cache", scope="train")
    with pytest.raises(UsageError, match="without --pretrained they begin random"):
        run_audit(load_config(overrides=merge(SMALL, {"training": {"frozen_epochs": 1}})), tmp_path / "frozen")
    bare = tmp_path / "bare.pt"
    torch.save(build("cnn-28", classes=10, input_shape=(1, 28, 28), seed=0).state_dict(), bare)
    both = merge(SMALL, {"model": {"weights": str(bare), "pretrained": str(elsewhere)}})
    with pytest.raises(UsageError, match="one of the two"):
        run_audit(load_config(overrides=both), tmp_path / "both")


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")
def test_a_whole_model_is_neither_pretrained_weights_nor_trained_from_scratch(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="needs the extra onnx")
    whole = tmp_path / "whole.onnx"
    net = build("cnn-28", classes=10, input_shape=(1, 28, 28), seed=0).eval()
    named = {"input_names": ["input"], "dynamic_axes": {"input": {0: "n"}}}
    torch.onnx.export(net, (torch.rand(2, 1, 28, 28),), whole, dynamo=False, **named)
    with pytest.raises(ModelError, match="holds a whole model"):
        run_audit(config_of(whole), tmp_path / "run", scope="train")
    changes = {"model": {"weights": str(whole)}, "hardening": {"from_scratch": True}}
    with pytest.raises(UsageError, match="leave --from-scratch out"):
        run_audit(load_config(overrides=merge(SMALL, changes)), tmp_path / "scratch")
    changes = {"model": {"weights": str(whole)}, "hardening": {"enabled": False}, "compression": {"enabled": True}}
    changes["compression"]["method"] = "distill"
    with pytest.raises(UsageError, match="--student"):
        run_audit(load_config(overrides=merge(SMALL, changes)), tmp_path / "student")


def test_a_recipe_with_a_teacher_needs_one_and_takes_the_standard_model(tmp_path: Path) -> None:
    alone = merge(SMALL, {"training": {"recipe": "distill"}})
    with pytest.raises(UsageError, match="audit compress --method distill"):
        run_audit(load_config(overrides=alone), tmp_path / "run")
    from audit.planning.build import build_plan
    from audit.planning.run_identity import RunIdentity

    subject = RunIdentity(("a", "b"), (1, 28, 28), "test", 100, "cnn-28", "train", 200)
    plan = build_plan(load_config(overrides={"hardening": {"recipe": "distill"}}), subject)
    first, second = (task for task in plan.tasks if task.cell.study == "training")
    assert second.cell.model == f"cell:{first.cell.key}" and second.wave == first.wave + 1
    assert not second.cell.inputs


def test_event_files_hold_the_rows_of_the_history(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    config = load_config(overrides=merge(SMALL, {"training": {"tensorboard": True}}))
    outcome = run_audit(config, tmp_path / "run", scope="train")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(outcome.folder.models / "standard.tensorboard"))
    read.Reload()
    rows = [json.loads(line) for line in outcome.folder.history("standard").read_text().splitlines()]
    for name in ("loss", "clean_accuracy", "learning_rate"):
        events = read.Scalars(name)
        assert [event.step for event in events] == [1, 2]
        assert [event.value for event in events] == pytest.approx([row[name] for row in rows])
    again = run_audit(load_config(overrides=SMALL), tmp_path / "run", scope="train")
    assert again.results.entries("training")[0].task.cell == outcome.results.entries("training")[0].task.cell


def test_without_tensorboard_one_sentence_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("audit.training.callbacks.find_spec", lambda name: None)
    config = load_config(overrides=merge(SMALL, {"training": {"tensorboard": True}}))
    with pytest.raises(SetupError, match=r"pip install 'audit\[tensorboard\]'"):
        run_audit(config, tmp_path / "run", scope="train")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("architecture", "given", "rate"),
    [
        ("cnn-28", {}, 12e-3),
        ("torchvision:resnet18", {}, 1e-3),
        ("torchvision:resnet18", {"learning_rate": 4e-3}, 4e-3),
    ],
)
def test_nets_that_are_not_the_zoos_are_hardened_more_gently(
    architecture: str, given: dict[str, float], rate: float
) -> None:
    config = load_config(overrides={"model": {"architecture": architecture}, "hardening": given})
    assert set_up(config).config.hardening.learning_rate == rate


@pytest.mark.parametrize(
    ("hardening", "images", "epochs", "optimizer"),
    [
        ({}, 6000, 3, "muon"),
        ({}, 60000, 3, "muon"),
        ({}, 2000, 7, "muon"),
        ({}, 300, 16, "muon"),
        ({"epochs": 2}, 300, 2, "muon"),
        ({"recipe": "ibp"}, 6000, 6, "adam"),
        ({"recipe": "pgd"}, 6000, 3, "muon"),
        ({"recipe": "ibp", "optimizer": "muon"}, 6000, 6, "muon"),
    ],
)
def test_few_images_are_hardened_on_for_more_epochs_and_other_recipes_by_adam(
    hardening: dict[str, Any], images: int, epochs: int, optimizer: str
) -> None:
    config = load_config(overrides={"model": {"architecture": "cnn-28"}, "hardening": hardening})
    suited = with_suited_defaults(config, images).hardening
    assert (suited.epochs, suited.optimizer) == (epochs, optimizer)


def test_other_nets_than_the_smallest_are_hardened_by_pgd_unless_the_configuration_says_otherwise() -> None:
    config = load_config(overrides={"model": {"architecture": "cnn-32"}, "hardening": {"epochs": 2}})
    suited = with_suited_defaults(config, 6000).hardening
    assert (suited.recipe, suited.optimizer, suited.learning_rate, suited.epochs) == ("pgd", "adam", 4e-3, 2)


@pytest.mark.parametrize(
    ("architecture", "training"),
    [("cnn-28", ("muon", 6e-3, 3)), ("row-lstm", ("adam", 2e-3, 8)), ("timm:resnet18", ("adam", 2e-3, 8))],
)
def test_muon_trains_the_net_it_was_measured_on(architecture: str, training: tuple[str, float, int]) -> None:
    config = load_config(overrides={"model": {"architecture": architecture}})
    suited = with_suited_defaults(config, 6000).training
    assert (suited.optimizer, suited.learning_rate, suited.epochs) == training
