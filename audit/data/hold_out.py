"""Data that comes in one part: some of it is held out to test, drawn by seed and balanced over the classes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from audit.core.errors import DataError
from audit.core.note import note
from audit.core.seeding import derive_seed
from audit.data.dataset import Dataset, Split

USUAL_SHARE = 0.2
"""The share held out where a training needs images and the data has no training part."""


def divided(dataset: Dataset, share: float | None, seed: int) -> Dataset:
    """A data set whose images to test on are its own, or held out of those it has.

    Args:
        dataset: The data set as its format reads it.
        share: Share in (0, 1) of each class to hold out where there is one part; None holds nothing out.
        seed: Root of the draw.

    Returns:
        The divided data set; the same where it has two parts, no labels, or no class of two images.

    Raises:
        DataError: It is of training images alone, and nothing is to be held out; or no class has two of them.
    """
    if dataset.train is not None or (share is None and not dataset.training_alone):
        return dataset
    if share is None:
        loose = "".join(
            f" {item.text}" for item in dataset.notes if item.key in ("data_loose_part", "data_loose_table")
        )
        raise DataError(
            f"{dataset.name!s} has a training part alone; a test or validation part beside it was expected.{loose} Add "
            f"one, or hold some of its images out with --test-share {USUAL_SHARE}: a model that was trained on them "
            "looks better on them than it is."
        )
    if (dataset.test.labels < 0).any():
        return dataset
    test, train = _positions(dataset.test, share, seed)
    if not len(test) and dataset.training_alone:
        raise DataError(
            f"{dataset.name!s} has training images alone and one a class at most, so that none can be held out to "
            "test; two of some class were expected. Add images, or a test part of its own."
        )
    if not len(test):
        return dataset
    held_out = note(
        "data_held_out",
        "The data has one part: {test} of its {all} images, {share} of each class drawn by seed {seed}, are held out "
        "to test, and the others are trained on.",
        test=len(test),
        all=len(dataset.test),
        share=f"{share:.0%}",
        seed=seed,
    )
    return replace(
        dataset,
        test=dataset.test.subset(test),
        train=dataset.test.subset(train),
        notes=(*(item for item in dataset.notes if item.key not in _UNDIVIDED), held_out),
        training_alone=False,
    )


_UNDIVIDED = ("data_all_test", "data_manifest")
"""Notes that say that everything is used to test."""


def _positions(split: Split, share: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions to test on and to train on; of a class of one image, that one is trained on."""
    keys = np.array([derive_seed(seed, "hold-out", name) for name in split.ids], dtype=np.int64)
    chosen = np.zeros(len(split), dtype=np.bool_)
    for label in np.unique(split.labels):
        of_class = np.flatnonzero(split.labels == label)
        count = min(max(1, round(share * len(of_class))), len(of_class) - 1)
        chosen[of_class[np.argsort(keys[of_class], kind="stable")[:count]]] = True
    return np.flatnonzero(chosen), np.flatnonzero(~chosen)
