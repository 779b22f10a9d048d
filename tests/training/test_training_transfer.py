"""Transfer: weights that fit are taken, the rest is the new head; what is frozen does not move by a bit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from audit.config import TrainingConfig
from audit.core.errors import ModelError
from audit.core.threat import ThreatModel
from audit.core.types import Batch
from audit.models.architecture import build
from audit.training.callbacks import TrainingCallbacks
from audit.training.fit import fit
from audit.training.transfer import (
    cached_torchvision_weights,
    head_of,
    load_pretrained,
    parameter_groups,
    pretrained_note,
    schedule_notes,
)
from tests.training.toy import same_weights, tiny_net


def test_all_but_the_head_is_adopted() -> None:
    source, target = tiny_net(seed=1), tiny_net(seed=2)
    target[7] = nn.Linear(24, 5)
    head = target[7].weight.clone()
    fresh = load_pretrained(target, source.state_dict())
    assert fresh == ("7.weight", "7.bias")
    assert torch.equal(target[4].weight, source[4].weight)
    assert torch.equal(target[7].weight, head)


def test_weights_saved_by_a_wrapper_are_adopted_too() -> None:
    source, target = tiny_net(seed=1), tiny_net(seed=2)
    target[7] = nn.Linear(24, 5)
    wrapped = {f"module.{name}": value for name, value in source.state_dict().items()}
    assert load_pretrained(target, wrapped) == ("7.weight", "7.bias")
    assert torch.equal(target[4].weight, source[4].weight)


def test_weights_of_another_architecture_are_refused() -> None:
    with pytest.raises(ModelError, match=r"0 of 8 tensors agree in name and shape; the first .* is 'conv1.weight'"):
        load_pretrained(build("cnn-28", classes=3, input_shape=(1, 12, 12), seed=0), tiny_net().state_dict())


@pytest.mark.parametrize("name", ["cnn-28", "row-lstm", "self-attention", "resnet-18-small"])
def test_the_head_is_the_layer_that_gives_the_logits(name: str) -> None:
    head = head_of(build(name, classes=7, input_shape=(1, 28, 28), seed=0))
    assert isinstance(head, nn.Linear) and head.out_features == 7


def test_what_was_adopted_and_frozen_is_told() -> None:
    net, many = tiny_net(), [f"{n}.weight" for n in range(7)]
    total = len(net.state_dict())
    assert str(pretrained_note(net, ("7.weight", "7.bias"))) == (
        f"The pretrained weights gave {total - 2} of {total} tensors; new are 7.weight, 7.bias."
    )
    assert (
        str(pretrained_note(net, ()))
        == f"The pretrained weights gave all {total} tensors, those of the last layer too."
    )
    assert str(pretrained_note(net, many)).endswith(", 5.weight, ... (7).")
    settings = TrainingConfig(epochs=4, frozen_epochs=1, backbone_rate=0.3)
    assert [str(told) for told in schedule_notes(net, settings)] == [
        "The last layer, 7, learnt alone in the first 1 of 4 epochs.",
        "All layers but the last, 7, learnt at 0.3 times its rate.",
    ]
    assert len(list(schedule_notes(net, settings.model_copy(update={"frozen_epochs": 9})))) == 1
    assert not list(schedule_notes(net, TrainingConfig()))


def test_groups_share_the_parameters_without_overlap() -> None:
    net = tiny_net()
    backbone, head = parameter_groups(net, 0.1)
    assert (backbone["factor"], head["factor"]) == (0.1, 1.0)
    assert len(backbone["params"]) + len(head["params"]) == len(list(net.parameters()))
    assert {id(p) for p in head["params"]} == {id(p) for p in net[7].parameters()}


@pytest.mark.parametrize("recipe", ["standard", "fgsm-rs"])
def test_frozen_epochs_move_the_head_alone_and_later_ones_everything(
    recipe: str, examples: Batch, short: TrainingConfig
) -> None:
    net = tiny_net(norm=True)
    start = {name: value.clone() for name, value in net.state_dict().items()}
    seen: list[dict[str, Tensor]] = []

    def record(history: Sequence[Mapping[str, Any]]) -> None:
        seen.append({name: value.clone() for name, value in net.state_dict().items()})

    settings = short.model_copy(update={"recipe": recipe, "frozen_epochs": 2, "backbone_rate": 0.1})
    threat = ThreatModel("linf", 0.05)
    fit(net, examples, settings, classes=3, threat=threat, callbacks=TrainingCallbacks(on_epoch=record))
    backbone = [name for name in start if not name.startswith("7.")]
    assert all(torch.equal(seen[1][name], start[name]) for name in backbone)
    assert not torch.equal(seen[0]["7.weight"], start["7.weight"])
    assert not any(torch.equal(seen[2][name], start[name]) for name in backbone)
    assert all(parameter.requires_grad for parameter in net.parameters())


def test_a_transfer_resumes_bit_for_bit(examples: Batch, short: TrainingConfig, tmp_path: Path) -> None:
    settings = short.model_copy(update={"frozen_epochs": 1, "backbone_rate": 0.3})

    def cut(done: int, total: int) -> None:
        if done >= 14:
            raise KeyboardInterrupt

    whole = fit(tiny_net(), examples, settings, classes=3)
    with pytest.raises(KeyboardInterrupt):
        fit(tiny_net(), examples, settings, classes=3, callbacks=TrainingCallbacks(tmp_path, cut))
    assert same_weights(
        fit(tiny_net(), examples, settings, classes=3, callbacks=TrainingCallbacks(tmp_path)).weights, whole.weights
    )


def test_pretrained_weights_come_from_the_cache_or_a_sentence_says_where_to_put_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(ModelError, match=r"torchvision:resnet18 are not in torch's cache.*resnet18-f37072fd.pth"):
        cached_torchvision_weights("resnet18")
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    (folder / "resnet18-f37072fd.pth").touch()
    assert cached_torchvision_weights("resnet18") == folder / "resnet18-f37072fd.pth"
