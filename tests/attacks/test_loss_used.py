"""The row of an attack names the loss that was climbed: DLR is the margin where a model has too few classes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import audit
from audit.adversarial.loss_used import MARGIN_FOR_DLR


def subject(classes: int) -> tuple[audit.ModelUnderTest, torch.Tensor, torch.Tensor]:
    net = nn.Sequential(nn.Flatten(), nn.Linear(36, classes))
    model = audit.wrap(net, classes=classes, input_shape=(1, 6, 6), device="cpu")
    images = torch.rand(6, 1, 6, 6)
    return model, images, model.predictions(images)


@pytest.mark.parametrize(
    ("classes", "attack", "margin"),
    [
        (2, "apgd-dlr", True),
        (3, "apgd-dlr", False),
        (2, "apgd-t", True),
        (3, "apgd-t", True),
        (4, "apgd-t", False),
        (2, "apgd-ce", False),
        (2, "pgd", False),
    ],
)
def test_the_row_and_a_note_name_the_margin_where_it_stood_in_for_dlr(classes: int, attack: str, margin: bool) -> None:
    model, images, labels = subject(classes)
    found = audit.robustness(model, images, labels, audit.ThreatModel("linf", 0.002), attacks=[attack])
    (row,) = found.attacks
    assert row.tried and (row.settings.get("loss") == MARGIN_FOR_DLR) == margin
    assert any("DLR" in sentence and attack in sentence for sentence in found.notes) == margin


def test_a_named_class_needs_four() -> None:
    model, images, labels = subject(3)
    found = audit.robustness(
        model, images, labels, audit.ThreatModel("linf", 0.002), attacks=["apgd-dlr"], targets=(labels + 1) % 3
    )
    assert found.attacks[0].settings["loss"] == MARGIN_FOR_DLR


def test_the_curve_has_the_notes_too() -> None:
    model, images, labels = subject(2)
    curve = audit.robustness_curve(model, images, labels, "linf", [0.001, 0.002], attacks=["apgd-dlr"])
    assert any("DLR" in sentence for sentence in curve.notes)
