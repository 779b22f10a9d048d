"""A net that has no answer to a picture of one colour: its maps and their faithfulness say so."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from audit.explanation.run import explain_images
from audit.models.under_test import ModelUnderTest

IMAGES = torch.rand(2, 1, 20, 20, generator=torch.Generator().manual_seed(0))


class Standardised(nn.Module):
    """Divides each image by its own spread, as `tf.image.per_image_standardization` does without its lower bound."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        super().__init__()
        self.conv, self.fc = nn.Conv2d(1, 4, 5, stride=3), nn.Linear(4, 3)

    def forward(self, images: Tensor) -> Tensor:
        axes = (1, 2, 3)
        images = (images - images.mean(axes, keepdim=True)) / images.std(axes, keepdim=True)
        scores: Tensor = self.fc(self.conv(images).relu().mean((2, 3)))
        return scores


def model() -> ModelUnderTest:
    return ModelUnderTest(Standardised().eval(), classes="abc", input_shape=(1, 20, 20), device="cpu")


def test_a_reference_input_without_an_answer_is_named_and_another_serves() -> None:
    black = explain_images(model(), IMAGES, method="integrated-gradients")
    assert black.status == "not_applicable" and "explanations.baseline=blur" in str(black.reason)
    assert explain_images(model(), IMAGES, method="integrated-gradients", baseline="blur").status == "measured"


def test_methods_without_a_reference_input_explain_it() -> None:
    for method in ("saliency", "grad-cam"):
        assert explain_images(model(), IMAGES, method=method).status == "measured"
