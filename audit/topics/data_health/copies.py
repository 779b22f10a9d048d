"""Copies as issues: which test images are trained on too, and which copies have different labels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from audit.data.dataset import Dataset
from audit.data.health.near_copies import Copies
from audit.topics.data_health.facts import Issue, IssueFacts


class DataParts:
    """The images of a data set in one row: those of the training part, where there is one, and then those of the test.

    Attributes:
        classes: Names of the classes.
        names: Names of the parts.
        splits: The parts.
        starts: The row of the first image of each.
    """

    def __init__(self, data: Dataset):
        self.classes = data.classes
        self.names = ("train", "test") if data.train else ("test",)
        self.splits = (data.train, data.test) if data.train else (data.test,)
        self.starts = (0, len(data.train)) if data.train else (0,)

    def __len__(self) -> int:
        return sum(len(split) for split in self.splits)

    @property
    def labels(self) -> NDArray[np.int64]:
        """The class of each row, int64 (N,); below 0 without one."""
        return np.concatenate([split.labels for split in self.splits])

    def locate(self, row: int) -> tuple[int, int]:
        """Number of the part of a row, and its position there.

        Args:
            row: The row.
        """
        at = len(self.starts) - 1 if row >= self.starts[-1] else 0
        return at, row - self.starts[at]

    def describe(self, row: int) -> dict[str, Any]:
        """Part, name and class of a row, as `IssueFacts` holds them.

        Args:
            row: The row.
        """
        at, position = self.locate(row)
        split, label = self.splits[at], int(self.splits[at].labels[position])
        return {
            "split": self.names[at],
            "image": split.ids[position],
            "label": self.classes[label] if 0 <= label < len(self.classes) else "",
        }

    def image(self, row: int) -> NDArray[np.uint8]:
        """The pixels of a row, uint8 (C, H, W).

        Args:
            row: The row.
        """
        at, position = self.locate(row)
        pixels = self.splits[at].fetch(np.array([position], np.int64))[0]
        return np.asarray(pixels if pixels.dtype == np.uint8 else np.rint(pixels * 255), np.uint8)


def leaked_images(parts: DataParts, copies: Copies) -> NDArray[np.int64]:
    """Rows of the test images that are copies of training images, directly or by way of other copies, int64 (L,).

    Args:
        parts: The images.
        copies: The copies among them.
    """
    if len(parts.splits) < 2 or not len(copies.pairs):
        return np.zeros(0, np.int64)
    count, (first, second) = len(parts), copies.pairs.T
    links = coo_array((np.ones(len(first)), (first, second)), shape=(count, count))
    _, group = connected_components(links, directed=False)
    trained = np.zeros(group.max() + 1, np.bool_)
    trained[group[: parts.starts[-1]]] = True
    rows = np.arange(parts.starts[-1], count)
    return np.asarray(rows[trained[group[rows]]], np.int64)


def copy_issues(parts: DataParts, copies: Copies, *, labelled: bool) -> list[IssueFacts]:
    """An issue a pair, with another where the labels differ.

    Args:
        parts: The images.
        copies: The copies among them.
        labelled: Whether the labels are true ones.
    """
    labels, issues = parts.labels, []
    order = np.lexsort((copies.distances, ~copies.exact))
    for index in order.tolist():
        other, row = copies.pairs[index].tolist()
        crosses = parts.locate(other)[0] != parts.locate(row)[0]
        kinds: list[Issue] = ["leak" if crosses else "duplicate"]
        if labelled and labels[other] != labels[row]:
            kinds.append("conflict")
        partner = parts.describe(other)
        for kind in kinds:
            issues.append(
                IssueFacts(
                    issue=kind,
                    **parts.describe(row),
                    partner=partner["image"],
                    partner_split=partner["split"],
                    partner_label=partner["label"],
                    score=1 - float(copies.distances[index]),
                    exact=bool(copies.exact[index]),
                    symmetry=int(copies.symmetries[index]),
                )
            )
    return issues
