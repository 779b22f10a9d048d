"""Grad-CAM against its formula written plainly, and where it has no meaning."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from audit.core.errors import UsageError
from audit.core.types import Batch
from audit.explanation.run import explain_images
from audit.models.architecture import build
from audit.models.under_test import ModelUnderTest


def test_map_equals_the_formula_and_captums(cnn_model: ModelUnderTest, cnn_batch: Batch) -> None:
    from captum.attr import LayerGradCam

    images, targets = cnn_batch.images, cnn_batch.labels
    features = cnn_model.net[:4](images).detach().requires_grad_(True)  # type: ignore[index]
    scores = cnn_model.net[4:](features)  # type: ignore[index]
    (gradient,) = torch.autograd.grad(scores.gather(1, targets[:, None]).sum(), features)
    coarse = (features * gradient.mean((2, 3), keepdim=True)).sum(1, keepdim=True).relu().detach()
    expected = functional.interpolate(coarse, size=(12, 12), mode="bilinear", align_corners=False)
    found = explain_images(cnn_model, images, method="grad-cam", targets=targets)
    assert found.facts["layer"] == "3"
    assert torch.allclose(found.attributions, expected, atol=1e-6)
    leaf = images.clone().requires_grad_(True)
    theirs = LayerGradCam(cnn_model.module, cnn_model.net[3]).attribute(leaf, target=targets, relu_attributions=True)  # type: ignore[index]
    assert torch.allclose(theirs.detach(), coarse, atol=1e-6)


def test_another_layer_can_be_named_and_an_unknown_one_lists_them(cnn_model: ModelUnderTest, cnn_batch: Batch) -> None:
    assert explain_images(cnn_model, cnn_batch.images, method="grad-cam", layer="0").facts["layer"] == "0"
    with pytest.raises(UsageError, match=r"Unknown layer '9'.*Known: 0, 1, 2, 3"):
        explain_images(cnn_model, cnn_batch.images, method="grad-cam", layer="9")


def test_no_spatial_layer_is_not_applicable_with_its_reason(linear_model: ModelUnderTest) -> None:
    found = explain_images(linear_model, torch.rand(2, 1, 6, 6), method="grad-cam")
    assert found.status == "not_applicable"
    assert found.attributions is None
    assert "no convolution" in str(found.reason)


class Patches(nn.Module):
    """A patch embedding followed by attention, as vision transformers have."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(1, 8, 3, stride=3)
        self.attend = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        tokens = self.embed(images).flatten(2).mT
        mixed: torch.Tensor = self.head(self.attend(tokens, tokens, tokens)[0].mean(1))
        return mixed


def test_attention_after_the_last_convolution_is_not_applicable() -> None:
    torch.manual_seed(0)
    model = ModelUnderTest(Patches(), classes="abc", input_shape=(1, 12, 12), device="cpu")
    found = explain_images(model, torch.rand(2, 1, 12, 12), method="grad-cam")
    assert found.status == "not_applicable"
    assert "attention-rollout" in str(found.reason)


@pytest.mark.parametrize(
    ("name", "size"), [("timm:test_vit", 160), ("timm:deit_tiny_patch16_224", 224), ("torchvision:swin_t", 64)]
)
def test_the_patch_embedding_of_a_librarys_transformer_is_no_explanation(name: str, size: int) -> None:
    if name.startswith("timm:"):
        pytest.importorskip("timm")
    net = build(name, classes=3, input_shape=(3, size, size), seed=0)
    model = ModelUnderTest(net, classes="abc", input_shape=(3, size, size), device="cpu")
    found = explain_images(model, torch.rand(1, 3, size, size), method="grad-cam", targets=0)
    assert found.status == "not_applicable" and "follows the last convolution" in str(found.reason)


def test_a_net_of_convolutions_with_channel_attention_keeps_its_map() -> None:
    net = build("torchvision:mobilenet_v3_small", classes=3, input_shape=(3, 64, 64), seed=0)
    model = ModelUnderTest(net, classes="abc", input_shape=(3, 64, 64), device="cpu")
    assert explain_images(model, torch.rand(1, 3, 64, 64), method="grad-cam", targets=0).status == "measured"
