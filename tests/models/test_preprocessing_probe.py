"""A net that wants its images another way is found out; one that is fine is left alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from audit.core.types import Batch
from audit.models.preprocessing_probe import Preparation, candidates, probe_preprocessing

CLASSES = ("red", "green", "blue", "grey")


def scenes(n: int = 200, channels: int = 3) -> Batch:
    """Each class has a mean colour, or for grey images a brighter band, in noise."""
    generator = torch.Generator().manual_seed(5)
    labels = torch.arange(n) % 4
    images = torch.rand(n, channels, 8, 8, generator=generator) * 0.3 + 0.3
    for i, label in enumerate(labels.tolist()):
        if channels == 3 and label < 3:
            images[i, label] += 0.35
        elif channels == 1:
            images[i, 0, 2 * label : 2 * label + 2] += 0.35
    return Batch(images.clamp(0, 1), labels, tuple(f"test/{i}" for i in range(n)))


class NearestMean(nn.Module):
    """Scores by the distance to each class's mean image, as prepared by `wants`: right only for such images."""

    def __init__(self, batch: Batch, wants: Preparation, order: tuple[int, ...] = (0, 1, 2, 3)) -> None:
        super().__init__()
        prepared = wants(batch.images)
        means = torch.stack([prepared[batch.labels == label].mean(0) for label in range(4)])
        self.register_buffer("means", means[list(order)])
        self.dropout = nn.Dropout(0.5)

    def forward(self, images: Tensor) -> Tensor:
        assert isinstance(self.means, Tensor)
        return -(self.dropout(images)[:, None] - self.means[None]).flatten(2).pow(2).sum(2)


@pytest.mark.parametrize(
    "wanted",
    [candidate for candidate in candidates(3) if not candidate.swapped_sides],
    ids=lambda candidate: candidate.name,
)
def test_the_preparation_a_colour_net_wants_is_found_or_does_no_harm(wanted: Preparation) -> None:
    batch = scenes()
    net = NearestMean(batch, wanted)
    outcome = probe_preprocessing(net, batch, classes=CLASSES)
    best = {trial.preparation.name: trial.accuracy for trial in outcome.trials}
    assert best[wanted.name] == 1.0
    assert bool(outcome.warning) == (outcome.configured.accuracy < 0.9)


def test_reversed_channels_are_told_by_name() -> None:
    batch = scenes()
    bgr = next(candidate for candidate in candidates(3) if candidate.name == "BGR in 0 to 1")
    outcome = probe_preprocessing(NearestMean(batch, bgr), batch, classes=CLASSES)
    assert "50% of 200 images as given, and on 100% with BGR in 0 to 1." in str(outcome.warning)


def test_the_numbers_to_give_are_part_of_the_sentence() -> None:
    batch = scenes()
    outcome = probe_preprocessing(NearestMean(batch, Preparation("", (0.0,), (1 / 255,))), batch, classes=CLASSES)
    assert str(outcome.warning).endswith("with pixels in 0 to 255: give --mean 0 --std 0.003922.")


def test_swapped_sides_of_grey_images_are_found() -> None:
    batch = scenes(channels=1)
    swapped = next(candidate for candidate in candidates(1) if candidate.swapped_sides)
    outcome = probe_preprocessing(NearestMean(batch, swapped), batch, classes=CLASSES)
    assert outcome.configured.accuracy < 0.5 and "height and width swapped" in str(outcome.warning)


def test_a_net_that_gets_what_it_wants_is_left_alone_in_mode_and_word() -> None:
    batch = scenes()
    net = NearestMean(batch, Preparation("", (0.5,), (0.5,))).train()
    outcome = probe_preprocessing(net, batch, mean=(0.5,), std=(0.5,), classes=CLASSES)
    assert not outcome.warning and outcome.order == () and outcome.configured.accuracy == 1.0
    assert net.training and net.dropout.training


def test_outputs_in_another_order_are_found_and_named() -> None:
    batch = scenes()
    net = NearestMean(batch, Preparation(""), order=(2, 0, 1, 3))
    outcome = probe_preprocessing(net, batch, classes=CLASSES)
    assert outcome.order == (2, 0, 1, 3)
    assert "output 0 behaves as 'blue', output 1 behaves as 'red'" in str(outcome.warning)


@pytest.mark.parametrize("seed", range(8))
def test_an_untrained_net_or_one_of_chance_gets_no_false_warning(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    batch = replace(scenes(), labels=torch.randint(4, (200,), generator=generator))
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
    assert not probe_preprocessing(net, batch, classes=CLASSES).warning


def test_a_net_that_refuses_everything_is_told_apart_from_one_that_is_wrong() -> None:
    outcome = probe_preprocessing(nn.Conv2d(7, 2, 3), scenes(), classes=CLASSES)
    assert not outcome.configured.ran and not outcome.warning and not np.any(outcome.configured.correct)
