"""The audit order is balanced and stable; resizing and grey keep what images mean."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from audit.data.arrays import array_split
from audit.data.dataset import Dataset, LoadOptions, Split
from audit.data.load import load_dataset
from audit.data.sampling import balanced_order, balanced_subset
from audit.data.transforms import resize


def split_of(labels: list[int]) -> Split:
    pixels = np.zeros((len(labels), 2, 2), np.uint8)
    return array_split(pixels, np.array(labels), name="test", classes=10, source="here")


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.integers(0, 5))
def test_every_prefix_is_as_balanced_as_the_classes_last(labels: list[int], seed: int) -> None:
    order = balanced_order(split_of(labels), seed)
    assert sorted(order.tolist()) == list(range(len(labels)))
    totals = np.bincount(labels, minlength=5)
    for stop in range(1, len(labels) + 1):
        counts = np.bincount(np.array(labels)[order[:stop]], minlength=5)
        unexhausted = counts[(totals > 0) & (counts < totals)]
        assert unexhausted.size == 0 or counts.max() - unexhausted.min() <= 1


def test_the_order_follows_the_seed_and_the_ids_alone() -> None:
    labels = [i % 3 for i in range(30)]
    split = split_of(labels)
    assert np.array_equal(balanced_order(split, 1), balanced_order(split, 1))
    assert not np.array_equal(balanced_order(split, 1), balanced_order(split, 2))
    turned = split.subset(np.arange(30)[::-1].copy())
    names = [split.ids[i] for i in balanced_order(split, 1)]
    assert names == [turned.ids[i] for i in balanced_order(turned, 1)]


def test_no_class_always_comes_last() -> None:
    split = split_of([i % 5 for i in range(200)])
    last = {split.labels[balanced_order(split, 0)[4 + 5 * r]] for r in range(40)}
    assert last == set(range(5))


def test_a_balanced_subset_keeps_the_original_order() -> None:
    split = split_of([i % 10 for i in range(100)])
    part = balanced_subset(split, 25, seed=0)
    assert len(part) == 25 and list(part.ids) == sorted(part.ids)
    assert np.bincount(part.labels).min() == 2 and np.bincount(part.labels).max() == 3
    assert balanced_subset(split, 100, seed=0) is split


def test_fewer_training_examples_change_the_fingerprint_and_stay_balanced() -> None:
    few, all_ = load_dataset("digits", train_examples=50), load_dataset("digits")
    assert few.train is not None and all_.train is not None
    assert np.bincount(few.train.labels).tolist() == [5] * 10
    assert few.train.fingerprint != all_.train.fingerprint and few.test.fingerprint == all_.test.fingerprint


def test_a_subset_of_a_subset_reads_the_right_images() -> None:
    whole = load_dataset("digits").test
    part = whole.subset(np.array([5, 9, 2])).subset(np.array([2, 0]))
    assert part.ids == (whole.ids[2], whole.ids[5])
    assert torch.equal(part.batch(slice(None)).images, whole.batch([2, 5]).images)


def test_resizing_is_said_hashed_and_keeps_constant_images() -> None:
    before, after = load_dataset("digits"), load_dataset("digits", image_size=16)
    assert after.shape == (1, 16, 16) and "8x8 to 16x16" in str(after.notes[0])
    assert after.test.fingerprint != before.test.fingerprint
    images = after.test.batch(slice(0, 20)).images
    assert images.shape == (20, 1, 16, 16)
    means = before.test.batch(slice(0, 20)).images.mean((1, 2, 3))
    assert torch.allclose(images.mean((1, 2, 3)), means, atol=0.02)


def test_asking_for_the_size_it_has_changes_nothing() -> None:
    assert load_dataset("digits", image_size=8).test.fingerprint == load_dataset("digits").test.fingerprint


@pytest.mark.parametrize("kind", ["uint8", "float32"])
def test_grey_is_the_weighted_sum_of_the_colours(kind: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 3, 4, 4))
    array = pixels.astype(np.uint8) if kind == "uint8" else (pixels / 255).astype(np.float32)
    split = array_split(array, np.arange(3), name="test", classes=3, source="here")
    grey = resize(Dataset("d", ("a", "b", "c"), (3, 4, 4), split), LoadOptions(grayscale=True))
    expected = (pixels * np.array([0.299, 0.587, 0.114])[None, :, None, None]).sum(1) / 255
    assert grey.shape == (1, 4, 4) and [str(note) for note in grey.notes] == ["Colour turned into grey."]
    pixels = grey.test.batch(slice(None)).images[:, 0].numpy()
    assert np.allclose(pixels, expected, atol=0.5 / 255 + 1e-6)
