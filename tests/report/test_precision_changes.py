"""mAP of two runs is paired image by image, whatever the order of the images, and only where both measured alike."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from made_run import made_document
from numpy.typing import NDArray

from audit.config import load_config
from audit.core.boxes import PackedDetections, PackedObjects
from audit.core.cell import Cell
from audit.core.evidence import Evidence
from audit.document.schema import AuditDocument
from audit.document.section import SectionContext
from audit.metrics.average_precision import mean_precision, paired_difference_of_map
from audit.metrics.box_matching import BoxMatches, match_boxes
from audit.planning.plan import AuditPlan, Slice, Task
from audit.report.html import render_comparison
from audit.report.run_comparison import compare_documents
from audit.results.run_results import RunResults
from audit.topics.detection_comparison.measured import PAIRED_RESAMPLES, PrecisionCondition
from audit.topics.detection_comparison.section import (
    PrecisionChange,
    SampledPrecision,
    build,
    change_of_precision,
    sampled_precision,
)
from tests.random_detections import random_detections, random_objects, repeated

pytest.importorskip("pycocotools")
IMAGES, KINDS = 60, 3
IDS = tuple(f"test/{i:03d}" for i in range(IMAGES))


@pytest.fixture(scope="module")
def scene() -> tuple[PackedObjects, PackedDetections, PackedDetections]:
    """Objects, detections, and the same a few pixels off."""
    rng = np.random.default_rng(5)
    objects = random_objects(rng, IMAGES, KINDS)
    found = random_detections(rng, objects, KINDS)
    return objects, found, PackedDetections(found.counts, found.boxes + 4, found.labels, found.scores)


def _matches(objects: PackedObjects, found: PackedDetections, order: NDArray[np.int64] | None = None) -> BoxMatches:
    if order is not None:
        objects, found = PackedObjects(**repeated(objects, order)), PackedDetections(**repeated(found, order))
    return match_boxes(objects, found, KINDS, sizes=("all",))


def _row(
    *matches: BoxMatches, ids: Sequence[str] = IDS, quantity: str = "mAP clean", protocol: str = ""
) -> SampledPrecision:
    condition = PrecisionCondition(quantity, (0, len(ids), 1), protocol, matches)
    return sampled_precision("standard", condition, ids)


def test_the_difference_is_that_of_images_drawn_together(
    scene: tuple[PackedObjects, PackedDetections, PackedDetections],
) -> None:
    objects, found, worse = scene
    first, second = _matches(objects, found), _matches(objects, worse)
    change = change_of_precision(_row(first), _row(second))
    expected = paired_difference_of_map(second, first, resamples=PAIRED_RESAMPLES)
    assert expected is not None
    assert change.difference.estimate == pytest.approx(expected.estimate, abs=1e-9)
    assert (change.difference.low, change.difference.high) == pytest.approx((expected.low, expected.high), abs=2e-5)
    assert change.p_value < 0.01 and change.difference.high < 0
    assert change.before.estimate == pytest.approx(mean_precision(first))
    same = change_of_precision(_row(first), _row(first))
    assert (same.difference.estimate, same.difference.low, same.difference.high, same.p_value) == (0, 0, 0, 1)


def test_the_order_of_the_run_does_not_matter(scene: tuple[PackedObjects, PackedDetections, PackedDetections]) -> None:
    objects, found, _ = scene
    scores = np.random.default_rng(2).uniform(size=len(found.scores)).astype(np.float32)  # COCO leaves ties to chance
    found = PackedDetections(found.counts, found.boxes, found.labels, scores)
    order = np.random.default_rng(1).permutation(IMAGES)
    moved = _row(_matches(objects, found, order), ids=[IDS[i] for i in order])
    assert moved.samples == pytest.approx(_row(_matches(objects, found)).samples, abs=2e-5)


def test_the_mean_of_several_conditions_is_sampled_together(
    scene: tuple[PackedObjects, PackedDetections, PackedDetections],
) -> None:
    objects, found, worse = scene
    one, two = (_row(_matches(objects, some)).samples for some in (found, worse))
    both = _row(_matches(objects, found), _matches(objects, worse)).samples
    np.testing.assert_allclose(np.array(both, float), (np.array(one, float) + np.array(two, float)) / 2, atol=2e-5)


def _document(*rows: SampledPrecision) -> AuditDocument:
    update = {"detection_precision": list(rows), "outcomes": [], "example_ids": list(IDS)}
    document: AuditDocument = made_document().model_copy(update=update)
    return document


def test_runs_are_compared_where_they_measured_alike(
    scene: tuple[PackedObjects, PackedDetections, PackedDetections],
) -> None:
    objects, found, worse = scene
    before, after = _matches(objects, found), _matches(objects, worse)
    fog, patch = "mAP under corruptions", "mAP under a patch, hide"
    first = _document(
        _row(before), _row(before, quantity=fog, protocol="fog"), _row(before, quantity=patch, protocol="a")
    )
    second = _document(
        _row(after), _row(before, quantity=fog, protocol="fog"), _row(after, quantity=patch, protocol="b")
    )
    compared = compare_documents(first, second)
    assert [(c.row.quantity, c.regressed) for c in compared.precision] == [("mAP clean", True), (fog, False)]
    fell, stayed = compared.precision
    assert fell.adjusted_p == pytest.approx(min(1, 2 * fell.row.p_value)) and stayed.adjusted_p == 1
    assert compared.fell and compared.regressed
    assert [str(why) for why in compared.unpaired] == [
        "mAP under a patch, hide of the standard detector is not compared: the runs measured it with different "
        "methods or settings."
    ]
    for language, title in (("en", "Mean mAP under corruptions"), ("zh", "损坏下的平均 mAP")):
        assert title in render_comparison(compared, language=language)
    better = compare_documents(second, first)
    assert not better.fell
    few = _row(_matches(objects.first(30), found.first(30)), ids=IDS[:30])
    (why,) = compare_documents(_document(_row(before)), _document(few)).unpaired
    assert "on different images" in str(why)


def test_a_run_of_two_detectors_compares_them(scene: tuple[PackedObjects, PackedDetections, PackedDetections]) -> None:
    objects, found, worse = scene
    tasks, evidence = [], {}
    for role, some in (("standard", found), ("hardened", worse)):
        cell = Cell("detection-accuracy", "clean", model=role)
        tasks.append(Task(cell, role, Slice("test", 0, IMAGES), 0))
        evidence[cell.key] = Evidence(
            cell, "measured", (), arrays={**objects.arrays("objects"), **some.arrays("found")}
        )
    results = RunResults(AuditPlan(tuple(tasks)), evidence)
    context = SectionContext(load_config(), tuple("abc"), ("standard", "hardened"), False, ids=IDS)
    rows = build(results, context)
    (change,) = rows["detection_comparison"]
    assert isinstance(change, PrecisionChange) and change.quantity == "mAP clean"
    expected = paired_difference_of_map(_matches(objects, worse), _matches(objects, found), resamples=PAIRED_RESAMPLES)
    assert expected is not None and change.difference.estimate == pytest.approx(expected.estimate)
    assert change.difference.high == pytest.approx(expected.high, abs=2e-5) and change.difference.high < 0
    alone = RunResults(AuditPlan(tuple(tasks[:1])), evidence)
    assert not build(alone, context)["detection_comparison"]
