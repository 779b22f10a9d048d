"""Kinds of file that tell the class, parts that differ, unlike images: found where planted, silent on shuffled data."""

from __future__ import annotations

import numpy as np
import pytest
from planted import garments
from sklearn.metrics import mutual_info_score, roc_auc_score

from audit.data.health.association import associations, colour_modes, size_properties
from audit.data.health.signature import Signatures, signatures_of
from audit.data.health.two_samples import _area, _leave_one_out, compare
from audit.data.health.unusual import LIMIT, unusual


def rows_of(signatures: Signatures, rows: object) -> Signatures:
    return Signatures(**{name: values[rows] for name, values in vars(signatures).items()})


def test_one_class_of_another_size_is_told() -> None:
    labels = np.arange(400) % 4
    sizes = np.where((labels == 2)[:, None], (64, 48), (32, 32)).astype(np.int32)
    size, proportions = associations(labels, size_properties(sizes), 0)
    assert (size.name, size.value, size.label, size.p_value) == ("size", "64x48", 2, 0.001)
    assert (size.guessed, size.anyway) == (0.5, 0.25)
    assert (proportions.label, proportions.values) == (2, 2)
    entropy = np.log(4)
    assert size.information == pytest.approx(mutual_info_score(labels == 2, labels) / entropy)


def test_one_grey_class_among_coloured_ones_is_told() -> None:
    labels = np.arange(300) % 3
    draw = np.random.default_rng(0)
    images = draw.integers(0, 255, (300, 3, 8, 8)).astype(np.uint8)
    images[labels == 1] = images[labels == 1][:, :1]
    modes = colour_modes(signatures_of(images).statistics[:, 2])
    (colour,) = associations(labels, {"colour": modes}, 0)
    assert (colour.value, colour.label, colour.p_value) == ("grey", 1, 0.001)


def test_sizes_that_go_with_no_class_tell_nothing() -> None:
    small = 0
    for seed in range(20):
        draw = np.random.default_rng(seed)
        labels, sizes = draw.integers(0, 5, 500), draw.integers(20, 400, (500, 2)).astype(np.int32)
        small += sum(found.p_value < 0.01 for found in associations(labels, size_properties(sizes), seed))
    assert small <= 2


def test_images_of_one_size_have_no_property() -> None:
    labels = np.arange(100) % 2
    assert not list(associations(labels, size_properties(np.full((100, 2), 28, np.int32)), 0))


def test_parts_that_were_shuffled_are_not_told_apart() -> None:
    signatures = signatures_of(garments()[0][:, None])
    told = []
    for seed in range(20):
        order = np.random.default_rng(seed).permutation(len(signatures))[:800]
        found = compare(rows_of(signatures, order[:400]), rows_of(signatures, order[400:]), seed)
        assert found is not None
        told.append(found.p_value < 0.01 and found.auc.estimate > 0.6)
    assert not any(told)


def test_darker_test_images_are_told_apart() -> None:
    images, _ = garments()
    train, test = images[:800], (0.8 * images[800:1200]).astype(np.uint8)
    found = compare(signatures_of(train[:, None]), signatures_of(test[:, None]), 0)
    assert found is not None
    assert found.p_value < 0.01 and found.auc.low > 0.6


def test_the_area_is_that_of_the_roc_curve() -> None:
    draw = np.random.default_rng(2)
    features, member = draw.normal(size=(60, 5)), np.repeat([0.0, 1.0], 30)
    scores = _leave_one_out(features, member[:, None])[:, 0]
    assert _area(scores, member) == pytest.approx(roc_auc_score(member, scores))
    design = np.concatenate([np.ones((60, 1)), features], axis=1)
    _, values, right = np.linalg.svd(design, full_matrices=False)
    ridge = right.T @ np.diag(np.full(6, 0.01 * 60)) @ right
    for row in range(0, 60, 20):  # the slow twin: a fit without the image
        rest = np.arange(60) != row
        weights = np.linalg.solve(design[rest].T @ design[rest] + ridge, design[rest].T @ member[rest])
        assert scores[row] == pytest.approx(float(design[row] @ weights), abs=1e-9)
    assert values.min() > 0


def test_an_image_unlike_all_others_is_named_and_no_other() -> None:
    images, _ = garments()
    noise = np.random.default_rng(0).integers(0, 2, (1, 28, 28)) * 255
    found = unusual(signatures_of(np.concatenate([images, noise.astype(np.uint8)])[:, None]))
    assert np.flatnonzero(found > LIMIT).tolist() == [len(images)]
