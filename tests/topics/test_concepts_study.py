"""A planted texture is found, leads, and lies where it was stamped; foreign concepts move nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bare_context import bare_context
from made_entries import results_of
from made_run import built_rows
from PIL import Image
from torch import Tensor, nn

from audit.config import load_config
from audit.core.cell import Cell
from audit.core.evidence import Evidence
from audit.core.types import Batch
from audit.models.under_test import ModelUnderTest
from audit.planning.plan import Slice, Task
from audit.topics.concepts.check import concepts as concepts_check
from audit.topics.concepts.check import concepts_on_the_object, named_concepts
from audit.topics.concepts.judged import judged_concepts, judged_user_concepts
from audit.topics.concepts.section import place_words
from audit.topics.concepts.study import concepts

SIDE, STAMP = 24, 8
SETTINGS: dict[str, Any] = {"classes": 3, "count": 4, "crops": 3, "crop": 0.5, "points": 16, "random": 30}


def texture() -> Tensor:
    """A checkerboard of single pixels, which nothing else of these images has."""
    rows, columns = torch.arange(STAMP)[:, None], torch.arange(STAMP)[None]
    return ((rows + columns) % 2).float()


def images(count: int, seed: int) -> Batch:
    """Three classes of smooth blobs: bright left, bright right, and any with the texture at the lower right."""
    draw = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    coarse = torch.rand(count, 1, 4, 4, generator=draw) * 0.5
    pictures = nn.functional.interpolate(coarse, (SIDE, SIDE), mode="bilinear")
    pictures[labels == 0, :, :, : SIDE // 2] += 0.4
    pictures[labels == 1, :, :, SIDE // 2 :] += 0.4
    sides = torch.rand(count, generator=draw) < 0.5
    for row in (labels == 2).nonzero().flatten().tolist():
        half = slice(0, SIDE // 2) if sides[row] else slice(SIDE // 2, SIDE)
        pictures[row, :, :, half] += 0.4
        pictures[row, 0, -STAMP - 1 : -1, -STAMP - 1 : -1] = texture()
    masks = torch.zeros(count, SIDE, SIDE, dtype=torch.bool)
    masks[:, : SIDE // 2] = True
    return Batch(pictures.clamp(0, 1), labels, tuple(f"t/{row}" for row in range(count)), masks=masks)


@pytest.fixture(scope="module")
def model() -> ModelUnderTest:
    """A small net that has learnt these classes."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(
            *(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 3, padding=1), nn.ReLU()),
            *(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16 * 36, 3)),
        )
        batch, optimiser = images(300, 1), torch.optim.Adam(net.parameters(), 5e-3)
        for _ in range(60):
            optimiser.zero_grad()
            nn.functional.cross_entropy(net(batch.images), batch.labels).backward()
            optimiser.step()
    return ModelUnderTest(net, classes=("left", "right", "stamped"), input_shape=(1, SIDE, SIDE), device="cpu")


def looked(model: ModelUnderTest, batch: Batch, scratch: Path, folders: dict[str, str] | None = None) -> Evidence:
    cell = Cell("concepts", "craft", settings=SETTINGS)
    context = bare_context(model, batch, cell, scratch=scratch)
    if folders:
        context = replace(context, task=replace(context.task, context={"concept_folders": folders}))
    return concepts(context, cell)


def results(evidence: Evidence) -> Any:
    return results_of(
        (Task(evidence.cell, "standard", Slice("test", 0, len(evidence.arrays["class_of"])), 0), evidence)
    )


def test_the_planted_texture_leads_its_class_and_lies_on_the_stamp(model: ModelUnderTest, tmp_path: Path) -> None:
    batch = images(60, 2)
    assert float((model.predictions(batch.images) == batch.labels).float().mean()) > 0.95
    evidence = looked(model, batch, tmp_path)
    run = results(evidence)
    groups = judged_concepts(run.entries("concepts"))
    assert [group[0].label for group in groups] == ["left", "right", "stamped"]
    stamped = next(group for group in groups if group[0].label == "stamped")[:3]
    chance = (STAMP + 4) ** 2 / SIDE**2  # a position of the layer sees two pixels further on each side
    shares = []
    for concept in stamped:
        held = torch.from_numpy(evidence.arrays["maps"][concept.examples, concept.number]).float()[:, None]
        maps = nn.functional.interpolate(held, (SIDE, SIDE), mode="nearest")
        inside = maps[:, :, -STAMP - 3 :, -STAMP - 3 :].sum() / maps.sum()
        shares.append(float(inside) if concept.faithful else 0.0)
    assert max(shares) > 2 * chance
    planted = stamped[int(np.argmax(shares))]
    assert planted.deletion > planted.deletion_control and planted.importance.low > 0.1
    assert any(group[0].tested for group in groups)
    finding = concepts_check(run, "standard", load_config())
    assert finding is not None and finding.verdict == "pass"


def test_a_concept_off_the_masks_is_told_with_what_to_do(model: ModelUnderTest, tmp_path: Path) -> None:
    evidence = looked(model, images(60, 2), tmp_path)
    run = results(evidence)
    (leading,) = [group[0] for group in judged_concepts(run.entries("concepts")) if group[0].label == "stamped"]
    assert leading.background is not None and leading.background.high < 0  # the masks are the upper half
    finding = concepts_on_the_object(run, "standard", load_config())
    assert finding is not None and finding.verdict == "warn" and "stamped" in str(finding.values["classes"])
    rows = built_rows("concepts", run)
    assert next(row.off_object for row in rows if row.label == "stamped")
    assert {row.label for row in rows} == {"left", "right", "stamped"}
    assert all((row.picture is not None) is (row.number <= 2) for row in rows)


def test_the_same_images_give_the_same_evidence_also_after_an_interruption(
    model: ModelUnderTest, tmp_path: Path
) -> None:
    batch = images(30, 3)
    first, second = (looked(model, batch, tmp_path / name) for name in ("a", "b"))
    assert all(np.array_equal(first.arrays[name], second.arrays[name], equal_nan=True) for name in first.arrays)


def test_a_folder_of_the_texture_moves_its_class_and_folders_of_plain_images_move_none(
    model: ModelUnderTest, tmp_path: Path
) -> None:
    plain = images(60, 4)
    stamped = plain.images[plain.labels == 2]
    for name, pictures in {"texture": stamped, "noise": plain.images[:20], "more": plain.images[30:50]}.items():
        (tmp_path / name).mkdir()
        for number, picture in enumerate(pictures):
            Image.fromarray((picture[0].numpy() * 255).astype(np.uint8)).save(tmp_path / name / f"{number:02d}.png")
    folders = {name: str(tmp_path / name) for name in ("texture", "noise", "more")}
    evidence = looked(model, images(60, 2), tmp_path / "scratch", folders)
    run = results(evidence)
    rows = judged_user_concepts(run.entries("concepts"))
    moved = {(row.name, row.label) for row in rows if row.p < 0.05}
    assert ("texture", "stamped") in moved and {name for name, _ in moved} == {"texture"}
    findings = named_concepts(run, "standard", load_config())
    assert [finding.values["concept"] for finding in findings] == list(folders)
    assert "stamped" in str(findings[0].values["moved"]) and str(findings[1].values["moved"]) == "none"


def test_a_model_without_a_map_to_read_says_so(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE, 3))
    flat = ModelUnderTest(net, classes=("left", "right", "stamped"), input_shape=(1, SIDE, SIDE), device="cpu")
    evidence = looked(flat, images(30, 3), tmp_path)
    assert evidence.status == "not_applicable" and "convolution" in str(evidence.reason)


def test_too_few_images_of_each_class_are_said(model: ModelUnderTest, tmp_path: Path) -> None:
    evidence = looked(model, images(9, 3), tmp_path)
    assert evidence.status == "not_applicable" and "No class has 4" in str(evidence.reason)


def test_where_a_map_lies_is_said_in_thirds() -> None:
    held = np.zeros((2, 6, 6))
    held[:, :2, 4:] = 1
    assert [str(word) for word in place_words(held)] == ["at the top", "on the right"]
    assert place_words(np.ones((2, 6, 6))) == []
