"""--architecture auto: found from the shapes, ambiguity told."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from audit.config import ModelConfig
from audit.core.errors import ModelError
from audit.models import architecture_detection as inference
from audit.models.architecture import build
from audit.models.load import load_model
from audit.models.loaded import InputShape, LoadedModel


def auto(path: Path, classes: int, shape: InputShape) -> LoadedModel:
    names = tuple(f"c{i}" for i in range(classes))
    return load_model(ModelConfig(weights=str(path)), classes=names, input_shape=shape, device="cpu", seed=0)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("cnn-28", (1, 28, 28)),
        ("cnn-32", (3, 32, 32)),
        ("torchvision:resnet18", (3, 64, 64)),
        ("torchvision:mobilenet_v3_small", (1, 64, 64)),
        ("torchvision:squeezenet1_1", (3, 64, 64)),
        ("timm:test_resnet", (3, 32, 32)),
        ("timm:mobilenetv3_small_050", (3, 64, 64)),
    ],
)
@pytest.mark.parametrize("prefix", ["", "module."])
def test_the_architecture_is_found_from_the_weights(name: str, shape: InputShape, prefix: str, tmp_path: Path) -> None:
    original = build(name, classes=7, input_shape=shape, seed=1)
    torch.save({prefix + key: tensor for key, tensor in original.state_dict().items()}, tmp_path / "net.pt")
    loaded = auto(tmp_path / "net.pt", 7, shape)
    assert loaded.architecture == name and loaded.origin == f"net.pt ({name})"
    assert any("found from the shapes" in str(note) for note in loaded.notes)
    images = torch.rand(2, *shape)
    assert torch.equal(loaded.module(images), original.eval()(images))


@pytest.mark.parametrize("name", ["torchvision:mobilenet_v3_small", "timm:mobilenetv3_small_050"])
def test_the_order_of_the_tensors_does_not_matter(name: str, tmp_path: Path) -> None:
    """A safetensors file keeps none: what stands first or last in it says nothing of the first or last layer."""
    original = build(name, classes=7, input_shape=(1, 64, 64), seed=1)
    torch.save(dict(sorted(original.state_dict().items(), reverse=True)), tmp_path / "net.pt")
    assert auto(tmp_path / "net.pt", 7, (1, 64, 64)).architecture == name
    save_file({key: tensor.contiguous() for key, tensor in original.state_dict().items()}, tmp_path / "net.safetensors")
    assert auto(tmp_path / "net.safetensors", 7, (1, 64, 64)).architecture == name


def test_timm_twins_are_listed_and_not_chosen_between(tmp_path: Path) -> None:
    original = build("timm:efficientnet_lite0", classes=7, input_shape=(3, 64, 64), seed=1)
    torch.save(original.state_dict(), tmp_path / "net.pt")
    with pytest.raises(ModelError, match="several architectures: timm:efficientnet_lite0, timm:tf_efficientnet_lite0"):
        auto(tmp_path / "net.pt", 7, (3, 64, 64))


@pytest.mark.parametrize("name", ["resnet18", "test_vit", "lcnet_050", "ghostnet_100"])
def test_the_table_of_timms_sizes_is_what_timm_builds(name: str) -> None:
    import timm

    module = timm.create_model(name)
    assert inference.timm_sizes()[name] == sum(parameter.numel() for parameter in module.parameters())


def test_weights_of_nothing_known_are_told_so(tmp_path: Path) -> None:
    torch.save(nn.Linear(3, 4).state_dict(), tmp_path / "net.pt")
    with pytest.raises(ModelError, match=r"fits no architecture .* 4 classes .*weight"):
        auto(tmp_path / "net.pt", 4, (1, 28, 28))


def test_several_that_fit_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "ZOO", {"cnn-28": None, "torchvision:resnet18": None})
    monkeypatch.setattr(inference, "build", lambda name, **_: nn.Linear(3, 4))
    torch.save(nn.Linear(3, 4).state_dict(), tmp_path / "net.pt")
    with pytest.raises(ModelError, match="fits several architectures: cnn-28, torchvision:resnet18"):
        auto(tmp_path / "net.pt", 4, (1, 28, 28))
