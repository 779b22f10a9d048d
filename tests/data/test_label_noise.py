"""Planted label errors are found and counted; hard images are not taken for errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cleanlab.count import estimate_joint
from cleanlab.rank import get_label_quality_scores
from numpy.typing import NDArray
from planted import garments
from scipy.special import softmax
from sklearn.metrics import average_precision_score

from audit.data.health.held_out_scores import FOLDS, held_out_scores
from audit.data.health.label_noise import label_noise
from audit.data.health.signature import sign_splits, signatures_of
from audit.data.load import load_dataset

DEBIAN = Path("/usr/share/datasets/fashion-mnist")


def flipped(labels: NDArray[np.int64], share: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    draw = np.random.default_rng(seed)
    wrong = np.zeros(len(labels), np.bool_)
    wrong[draw.permutation(len(labels))[: round(share * len(labels))]] = True
    return np.where(wrong, (labels + draw.integers(1, 10, len(labels))) % 10, labels), wrong


def drawn_scores(
    count: int, share: float, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.bool_]]:
    """Labels drawn from known, overlapping probabilities, a share of them then replaced."""
    draw = np.random.default_rng(seed)
    scores = draw.normal(0, 3, (count, 10)).astype(np.float32)
    labels = (scores + draw.gumbel(size=scores.shape)).argmax(axis=1)
    noisy, wrong = flipped(labels, share, seed + 1)
    return 0.2 * scores, noisy, wrong


@pytest.mark.parametrize("share", [0.0, 0.02, 0.05, 0.2])
def test_the_share_of_wrong_labels_is_recovered_however_much_classes_overlap(share: float) -> None:
    scores, labels, wrong = drawn_scores(8_000, share, 3)
    noise = label_noise(scores, labels)
    assert noise.share.low - 0.003 <= share <= noise.share.high + 0.003
    assert abs(noise.wrong.sum() / len(labels) - noise.share.estimate) < 0.003
    assert abs(noise.wrong[noise.wrong > 0.5].sum() - wrong[noise.wrong > 0.5].sum()) < 0.01 * len(labels)


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    held = []
    for seed in range(30):
        scores, labels, _ = drawn_scores(600, 0.05, 100 + seed)
        interval = label_noise(scores, labels).share
        held.append(interval.low <= 0.05 <= interval.high)
    assert np.mean(held) >= 0.83  # 0.95 less 3 standard errors of 30 draws


def test_it_ranks_no_worse_than_cleanlab_and_counts_better() -> None:
    train = load_dataset("sample").train
    assert train is not None
    signatures = signatures_of(train.fetch(np.arange(len(train))))
    labels, wrong = flipped(train.labels, 0.05, 0)
    scores = held_out_scores(signatures.coefficients, labels, classes=10, seed=0)
    noise = label_noise(scores, labels)
    probabilities = softmax(8 * scores.astype(np.float64), axis=1)
    theirs = average_precision_score(wrong, -get_label_quality_scores(labels, probabilities))
    joint = estimate_joint(labels, probabilities)
    assert average_precision_score(wrong, noise.wrong) >= theirs - 0.001
    assert abs(noise.share.estimate - 0.05) < 0.015
    assert abs(noise.share.estimate - 0.05) < abs(1 - np.trace(joint) - 0.05)


@pytest.mark.slow
@pytest.mark.skipif(not DEBIAN.is_dir(), reason="Debian's dataset-fashion-mnist is not installed")
def test_three_thousand_flips_in_all_of_fashion_mnist_are_ranked_well_and_no_worse_than_by_cleanlab() -> None:
    train = load_dataset(f"fashion-mnist:{DEBIAN}").train
    assert train is not None and len(train) == 60_000
    labels, wrong = flipped(train.labels, 0.05, 0)
    scores = held_out_scores(sign_splits([train]).coefficients, labels, classes=10, seed=0)
    ours = average_precision_score(wrong, label_noise(scores, labels).wrong)
    probabilities = softmax(8 * scores.astype(np.float64), axis=1)
    theirs = average_precision_score(wrong, -get_label_quality_scores(labels, probabilities))
    assert ours >= 0.8 and ours >= theirs - 0.001


def test_clean_garments_have_next_to_no_wrong_labels() -> None:
    images, labels = garments()
    scores = held_out_scores(signatures_of(images[:, None]).coefficients, labels, classes=10, seed=1)
    assert label_noise(scores, labels).share.low < 0.005


def test_every_score_is_of_a_fit_without_the_image() -> None:
    """Labels that nothing tells are guessed no better than by chance; a fit that had seen them would know them."""
    images, _ = garments()
    labels = np.random.default_rng(0).integers(0, 10, len(images))
    scores = held_out_scores(signatures_of(images[:, None]).coefficients, labels, classes=10, seed=0)
    assert FOLDS > 1
    assert (scores.argmax(axis=1) == labels).mean() < 0.13
