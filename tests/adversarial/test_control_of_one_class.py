"""A control that paints images grey, where most labels are of the class that the model says of grey."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import audit

SHAPE = (1, 4, 4)


class _Brightness(nn.Module):
    """Class 0 of all that is not bright; with `hidden`, its gradients are zero."""

    def __init__(self, hidden: bool) -> None:
        super().__init__()
        self.hidden = hidden

    def forward(self, images: Tensor) -> Tensor:
        bright = images.mean((1, 2, 3)) - 0.8
        logits = torch.stack([-bright, bright], 1)
        return logits.detach() + 0 * logits if self.hidden else logits


def _robustness(net: nn.Module, images: Tensor) -> audit.Robustness:
    model = audit.wrap(net, classes=2, input_shape=SHAPE)
    return audit.robustness(model, images, model.predictions(images), audit.ThreatModel("linf", 0.05))


def test_images_of_one_class_that_grey_is_too_are_no_sign_of_a_failing_attack() -> None:
    dark = 0.3 * torch.rand(32, *SHAPE, generator=torch.Generator().manual_seed(0))
    result = _robustness(_Brightness(hidden=False), dark)
    assert result.robust.all()
    assert not result.inconclusive


def test_images_of_another_class_than_grey_that_stay_unbroken_are_one() -> None:
    bright = 0.9 + 0.1 * torch.rand(32, *SHAPE, generator=torch.Generator().manual_seed(0))
    result = _robustness(_Brightness(hidden=True), bright)
    assert any("grey images would leave" in str(reason) for reason in result.inconclusive)
