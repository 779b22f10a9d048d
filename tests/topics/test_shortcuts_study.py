"""A planted shortcut is found, named and placed; honest models raise no finding."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from bare_context import bare_context
from made_entries import results_of
from made_run import built_rows
from torch import Tensor, nn

from audit.core.cell import Cell
from audit.core.evidence import Evidence
from audit.core.types import Batch
from audit.data.formats.shapes import SHAPE_NAMES, SHORTCUTS, Shapes, Shortcut, make_shapes
from audit.metrics.shortcuts import ShortcutCandidate, ShortcutTest, clusters
from audit.models.under_test import ModelUnderTest
from audit.planning.plan import Slice, Task
from audit.topics.shortcuts.study import shortcuts

SETTINGS = {"method": {"steps": 16, "max_steps": 16}, "baseline": "mean"}


class Wired(nn.Module):
    """Random features wherever they stand; class 1 only through the corner tag, and never without."""

    def __init__(self, cheats: bool) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.conv = nn.Conv2d(3, 4, 7)
        with torch.no_grad():
            self.conv.weight.copy_(torch.randn(4, 3, 7, 7, generator=generator) / 12)
            self.conv.bias.copy_(torch.tensor([0.0, -10.0 if cheats else 0.0, 0.0, 0.0]))  # type: ignore[union-attr]
        rows, columns = torch.arange(1, 5)[:, None], torch.arange(27, 31)[None]
        self.register_buffer("signs", ((rows + columns) % 2 == 0).float() * 2 - 1)
        self.cheats = cheats

    def forward(self, images: Tensor) -> Tensor:
        scores = self.conv(images).amax((2, 3))
        if not self.cheats:
            centred: Tensor = scores - scores.new_tensor([1.5, 1.5, 1.5, 1.5])
            return centred
        signs: Tensor = self.signs  # type: ignore[assignment]
        tag = (images[:, 0, 1:5, 27:31] * signs).mean((1, 2))
        return scores + nn.functional.one_hot(torch.tensor(1), 4) * 60 * (tag - 0.1).relu()[:, None]


def look(model: ModelUnderTest, batch: Batch) -> Evidence:
    cell = Cell("shortcuts", "integrated-gradients", settings=SETTINGS)
    return shortcuts(bare_context(model, batch, cell), cell)


def as_predicted(model: ModelUnderTest, made: Shapes) -> Batch:
    return replace(made.batch, labels=model.predictions(made.batch.images))


def test_the_planted_tag_is_found_named_and_placed() -> None:
    model = ModelUnderTest(Wired(True), classes=SHAPE_NAMES, input_shape=(3, 32, 32), device="cpu")
    made = make_shapes(160, shortcut="corner-tag", cheating_class=1)
    batch = as_predicted(model, made)
    assert torch.equal(batch.labels == 1, made.planted.flatten(1).any(1))
    found = look(model, batch)
    (row,) = found.facts["shortcuts"]
    assert row["class"] == "square"
    assert row["removed"] > 0.9 and row["transplanted"] > 0.9
    assert row["joined_anyway"] < 0.05 and row["left_anyway"] < 0.05
    region = torch.from_numpy(found.arrays["regions"][0]).bool()
    assert float((region & made.planted[1]).sum() / made.planted[1].sum()) > 0.6
    assert row["box"][0] <= 2 and row["box"][3] >= 30
    mass = found.measurement("mass").per_example
    assert mass[batch.labels.numpy() == 1].mean() > 0.3
    assert (mass[batch.labels.numpy() != 1] == 0).all()
    task = Task(found.cell, "standard", Slice("test", 0, len(batch)), 0)
    (shown,) = built_rows("shortcuts", results_of((task, found)))
    assert shown.label == "square" and shown.joined_anyway == row["joined_anyway"]


def test_an_honest_model_raises_no_finding() -> None:
    model = ModelUnderTest(Wired(False), classes=SHAPE_NAMES, input_shape=(3, 32, 32), device="cpu")
    found = look(model, as_predicted(model, make_shapes(160)))
    assert found.facts["shortcuts"] == []
    assert found.arrays["regions"].shape == (0, 32, 32)


@pytest.mark.parametrize(("side", "effect", "confirmed"), [(2, 0.4, True), (2, 0.3, False), (9, 0.4, False)])
def test_a_place_convicts_by_its_effect_and_by_more_than_its_size_explains(
    side: int, effect: float, confirmed: bool
) -> None:
    """9 x 9 of 28 x 28 pixels is a tenth of the image: an object that stands there, such as trousers, brings 0.4."""
    region = torch.zeros(28, 28, dtype=torch.bool)
    region[:side, :side] = True
    suspect = ShortcutCandidate(0, region, torch.arange(20), 0.5)
    assert ShortcutTest(suspect, effect + 0.02, 0.02, 0.2, 0.0).confirmed is confirmed


def test_clusters_tell_two_places_apart_and_need_enough_images() -> None:
    shares = torch.full((40, 16, 16), 1e-3)
    shares[:20, 2:6, 2:6] = 1
    shares[20:, 9:14, 9:14] = 1
    shares *= 1 + 0.1 * torch.rand(40, 16, 16, generator=torch.Generator().manual_seed(0))
    groups = [set(group.tolist()) for group in clusters(shares / shares.sum((1, 2), keepdim=True))]
    assert groups in ([set(range(20)), set(range(20, 40))], [set(range(20, 40)), set(range(20))])
    assert clusters(shares[:10]) == []


def trained(made: Shapes, epochs: int = 8) -> ModelUnderTest:
    torch.manual_seed(0)
    net = nn.Sequential(
        *(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 32, 3), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(32, 32, 3), nn.ReLU(), nn.Flatten(), nn.Linear(512, 4)),
    )
    optimiser = torch.optim.Adam(net.parameters(), 2e-3)
    images, labels = made.batch.images, made.batch.labels
    for _ in range(epochs):
        for part in torch.randperm(len(images)).split(64):
            optimiser.zero_grad()
            nn.functional.cross_entropy(net(images[part]), labels[part]).backward()
            optimiser.step()
    return ModelUnderTest(net, classes=SHAPE_NAMES, input_shape=(3, 32, 32), device="cpu")


@pytest.mark.slow
@pytest.mark.parametrize("cheating_class", [1, 3])
@pytest.mark.parametrize("shortcut", [None, *SHORTCUTS])
def test_trained_models_every_planted_shortcut_is_found_and_the_clean_data_stays_silent(
    shortcut: Shortcut | None, cheating_class: int
) -> None:
    options = {"shortcut": shortcut, "cheating_class": cheating_class, "planted_share": 0.95}
    model = trained(make_shapes(2000, **options))  # type: ignore[arg-type]
    made = make_shapes(400, split="test", **options)  # type: ignore[arg-type]
    found = look(model, made.batch).facts["shortcuts"]
    assert [row["class"] for row in found] == ([] if shortcut is None else [SHAPE_NAMES[cheating_class]])
