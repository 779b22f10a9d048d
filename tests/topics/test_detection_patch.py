"""Patches on detectors: made on some images and scored on others, and judged by what they cost beyond a control."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from bare_context import bare_context
from torch import Tensor

from audit.config import load_config
from audit.core.cell import Cell
from audit.core.errors import Interrupted, NotApplicable
from audit.core.evidence import Evidence
from audit.core.objects import Candidates, Detections, Objects
from audit.core.types import Batch, Images
from audit.execution.context import Context
from audit.models.detectors.form import DetectorForm
from audit.models.detectors.under_test import DetectorUnderTest
from audit.planning.plan import AuditPlan, Slice, Task
from audit.results.run_results import RunResults
from audit.topics.detection_patch.check import faking_patch, hiding_patch
from audit.topics.detection_patch.measured import patched_detectors
from audit.topics.detection_patch.study import detection_patch

pytest.importorskip("pycocotools")
SIDE = 24
OBJECT = torch.tensor([[1.0, 1.0, 9.0, 9.0]])
MIDDLE = torch.tensor([[9.0, 9.0, 15.0, 15.0]])


class BrightForm(DetectorForm):
    """Finds what is bright at one place, more surely the brighter, and whatever is nearly white in the middle."""

    def __init__(self, wanted: float, faked: float) -> None:
        super().__init__()
        self.wanted, self.faked = wanted, faked

    def candidates(self, images: Images) -> list[Candidates]:
        def score(box: Tensor, slope: float, least: float) -> Tensor:
            x1, y1, x2, y2 = box[0].int().tolist()
            return torch.sigmoid(slope * (images[:, :, y1:y2, x1:x2].mean((1, 2, 3)) - least))

        scores = torch.stack([score(OBJECT, self.wanted, 0.6), score(MIDDLE, self.faked, 0.75)], 1)
        return [Candidates(torch.cat([OBJECT, MIDDLE]), some[:, None]) for some in scores]

    def detect(self, images: Images) -> list[Detections]:
        answers = []
        for some in self.candidates(images):
            sure = some.scores[:, 0] >= 0.5
            labels = torch.zeros(int(sure.sum()), dtype=torch.long)
            answers.append(Detections(some.boxes[sure], labels, some.scores[sure, 0]))
        return answers


def _detector(wanted: float = 10.0, faked: float = 20.0) -> DetectorUnderTest:
    form = BrightForm(wanted, faked)
    return DetectorUnderTest(form, classes=("lamp",), input_shape=(3, SIDE, SIDE), device="cpu")


def _batch(count: int = 40) -> Batch:
    """One bright square at a known place on a dark ground."""
    images = 0.2 * torch.rand(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    images[:, :, 1:9, 1:9] += 0.75
    there = Objects(OBJECT, torch.zeros(1, dtype=torch.long), torch.tensor([64.0]), torch.zeros(1, dtype=torch.bool))
    ids = tuple(f"image {i}" for i in range(count))
    return Batch(images, torch.zeros(count, dtype=torch.long), ids, objects=(there,) * count)


def _cell(kind: str, area: float, **settings: Any) -> Cell:
    aim = "fabricate" if kind == "fake" else "vanish"
    attack = {"aim": aim, "steps": 40, "images_a_step": 8, "rate": 0.1, "decay": 0.9, **settings}
    own = {"kind": kind, "area": area, "attack": attack, "pictures": 1}
    return Cell("detection-patch", "detector-patch", settings=own)


def _context(detector: DetectorUnderTest, batch: Batch, cell: Cell, stop: int = 10**6) -> Context:
    asked = iter(range(stop))
    context = bare_context(None, batch, cell, stopping=lambda: next(asked, None) is None)  # type: ignore[arg-type]
    return replace(context, detector=lambda: detector)


def _measured(kind: str, area: float, detector: DetectorUnderTest, batch: Batch | None = None) -> Evidence:
    cell, images = _cell(kind, area), batch or _batch()
    return detection_patch(_context(detector, images, cell), cell)


def _results(evidence: Evidence) -> RunResults:
    task = Task(evidence.cell, "standard", Slice("test", 0, 40), 0)
    return RunResults(AuditPlan((task,)), {evidence.cell.key: evidence})


def test_a_patch_on_objects_hides_them_where_a_grey_one_does_not() -> None:
    """Half of the square painted black leaves a mean of .43, grey one of .68: every object is lost, or none."""
    results = _results(_measured("hide", 0.5, _detector()))
    (patch,) = patched_detectors(results, "standard")
    precision = {name: condition.precision.estimate for name, condition in patch.conditions.items()}
    assert precision == pytest.approx({"clean": 1.0, "grey": 1.0, "noise": 1.0, "patch": 0.0})
    assert patch.excess.estimate == pytest.approx(1.0) and patch.excess.n == 20
    assert patch.facts.made_on == 20 and patch.facts.faults == 0
    recalls = [patch.conditions[name].recall for name in ("clean", "patch")]
    assert recalls[0] is not None and recalls[1] is not None
    assert recalls[0].estimate > 0.5 and recalls[1].estimate == 0.0
    found = hiding_patch(results, "standard", load_config())
    assert found is not None and found.verdict == "fail" and found.interval == patch.excess
    assert faking_patch(results, "standard", load_config()) is None


def test_a_patch_in_the_middle_fakes_objects_where_grey_and_noise_do_not() -> None:
    """A white square in the middle is found as surely as the object in every image: one false box an image."""
    results = _results(_measured("fake", 36 / SIDE**2, _detector()))
    (patch,) = patched_detectors(results, "standard")
    faked = {name: condition.faked.estimate for name, condition in patch.conditions.items()}
    assert faked == pytest.approx({"clean": 0.0, "grey": 0.0, "noise": 0.0, "patch": 1.0})
    beside = patch.conditions["patch"].recall
    assert beside is not None and beside == patch.conditions["clean"].recall  # the object is not touched
    assert patch.conditions["patch"].precision.estimate < 0.6
    found = faking_patch(results, "standard", load_config())
    assert found is not None and found.verdict == "fail"
    assert found.values["patched"] == 1.0 and found.values["control"] == 0.0


@pytest.mark.parametrize(("kind", "ask"), [("hide", hiding_patch), ("fake", faking_patch)], ids=["hide", "fake"])
def test_a_detector_that_patches_do_not_move_passes(kind: str, ask: Any) -> None:
    results = _results(_measured(kind, 0.25, _detector(wanted=1e-3, faked=-50.0)))
    found = ask(results, "standard", load_config())
    assert found is not None and found.verdict == "pass" and found.interval.estimate == 0.0


def test_what_any_patch_hides_is_not_held_against_the_detector() -> None:
    """Over the whole object a control hides it as the patch does: nothing is left to lose, and nothing passes."""
    results = _results(_measured("hide", 0.99, _detector(wanted=10.0)))
    (patch,) = patched_detectors(results, "standard")
    assert patch.conditions["patch"].precision.estimate == 0.0
    assert patch.conditions["clean"].precision.estimate == 1.0
    assert patch.excess.estimate == pytest.approx(patch.conditions[patch.control].precision.estimate)
    found = hiding_patch(results, "standard", load_config())
    assert found is not None and found.verdict == "inconclusive"


def test_the_scored_images_play_no_part_in_the_patch() -> None:
    detector, batch = _detector(), _batch()
    evidence = _measured("fake", 0.1, detector, batch)
    others = replace(batch, images=batch.images.clone())
    others.images[1::2] = 0.1
    again = _measured("fake", 0.1, detector, others)
    np.testing.assert_array_equal(evidence.arrays["paint"], again.arrays["paint"])
    distance = evidence.measurements[0].per_example
    assert np.isnan(distance[0::2]).all() and (distance[1::2] == 64 / SIDE**2).all()
    clean, *_, patched = evidence.arrays["pictures"]
    assert evidence.arrays["pictured"].tolist() == [0]
    changed = (clean != patched).any((0, 1))
    assert changed.any() and changed[8:16, 8:16].sum() == changed.sum()
    inside = np.rint(batch.images[1].numpy() * 255).astype(np.uint8)
    np.testing.assert_array_equal(clean[0], inside)


def test_it_costs_what_the_plan_says_and_stops_between_two_steps() -> None:
    from audit.topics.detection_patch.plan import max_passes

    detector, batch, cell = _detector(), _batch(), _cell("hide", 0.3)
    evidence = detection_patch(_context(detector, batch, cell), cell)
    most = max_passes(Task(cell, "standard", Slice("test", 0, 40), 0), None)  # type: ignore[arg-type]
    assert evidence.backwards == 40 * 8 <= 40 * most.backwards
    assert evidence.forwards == 40 * 8 + 4 * 20 <= 40 * most.forwards
    with pytest.raises(Interrupted, match="starts it again"):
        detection_patch(_context(detector, batch, cell, stop=3), cell)


def test_few_images_and_black_boxes_are_told_apart_from_zero() -> None:
    detector, cell = _detector(), _cell("hide", 0.3)
    with pytest.raises(NotApplicable, match="6 images are fewer than the 8"):
        detection_patch(_context(detector, _batch(6), cell), cell)
    detector.form.gives_gradients = False
    with pytest.raises(NotApplicable, match="no gradients"):
        detection_patch(_context(detector, _batch(), cell), cell)
