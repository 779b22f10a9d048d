"""Whether the kind of an image file tells its class: size, proportions, colour. A net can learn that instead."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Property = Literal["size", "proportions", "colour"]
_PERMUTATIONS = 999
_MOST_VALUES = 10
_COLOURLESS = 0.5 / 255


@dataclass(frozen=True)
class Association:
    """How well one property of an image tells its class.

    Attributes:
        name: The property.
        values: Number of values of the property that were told apart.
        information: Mutual information of the property and the class, as a share of the entropy of the class, [0, 1].
        expected: The same by chance: its mean over permutations.
        p_value: Share of permutations of the classes with as much information, in (0, 1].
        guessed: Share of images whose class is guessed by the commonest class of their value.
        anyway: Share guessed by the commonest class of all.
        label: The class that the property tells best.
        value: The value that goes with that class, in words of the data: "64x64", "grey".
    """

    name: Property
    values: int
    information: float
    expected: float
    p_value: float
    guessed: float
    anyway: float
    label: int
    value: str


def associations(
    labels: NDArray[np.int64], properties: dict[Property, NDArray[np.str_]], seed: int
) -> Iterator[Association]:
    """Each property that differs between images.

    Args:
        labels: Classes, int64 (N,).
        properties: By name, the value of each image, (N,).
        seed: Root of the permutations.
    """
    _, classes = np.unique(labels, return_inverse=True)
    for name, values in properties.items():
        names, codes = _coded(values)
        if len(names) < 2 or classes.max(initial=0) < 1:
            continue
        draw = np.random.default_rng(seed)
        table = _table(codes, classes)
        drawn = np.array([_information(_table(codes, draw.permutation(classes))) for _ in range(_PERMUTATIONS)])
        share = _information(table)
        surplus = table / table.sum() - np.outer(table.sum(axis=1), table.sum(axis=0)) / table.sum() ** 2
        row, column = np.unravel_index(surplus.argmax(), surplus.shape)
        yield Association(
            name=name,
            values=len(names),
            information=share,
            expected=float(drawn.mean()),
            p_value=float((1 + (drawn >= share - 1e-12).sum()) / (1 + _PERMUTATIONS)),
            guessed=float(table.max(axis=1).sum() / table.sum()),
            anyway=float(table.sum(axis=0).max() / table.sum()),
            label=int(np.unique(labels)[column]),
            value=str(names[row]),
        )


def colour_modes(colour: NDArray[np.float32]) -> NDArray[np.str_]:
    """Whether images are grey or coloured.

    Args:
        colour: Mean distance of the largest from the least channel, (N,), in units of the pixel range [0, 1].
    """
    return np.where(colour <= _COLOURLESS, "grey", "colour")


def size_properties(sizes: NDArray[np.int32]) -> dict[Property, NDArray[np.str_]]:
    """The size and the proportions of images as they lie in their files.

    Args:
        sizes: Height and width, int32 (N, 2).
    """
    names = np.array([f"{height}x{width}" for height, width in sizes.tolist()])
    if len(np.unique(names)) > _MOST_VALUES:
        area = np.sqrt(sizes[:, 0].astype(np.float64) * sizes[:, 1])
        names = np.array([f"about {round(2 ** (round(2 * x) / 2))} pixels a side" for x in np.log2(area).tolist()])
    ratio = np.log2(sizes[:, 1] / sizes[:, 0])
    proportions = np.array([f"{2**x:.2f}:1" for x in (np.round(4 * ratio) / 4 + 0.0).tolist()])
    return {"size": names, "proportions": proportions}


def _coded(values: NDArray[np.str_]) -> tuple[NDArray[np.str_], NDArray[np.int64]]:
    """The commonest values and the number of each image's; rarer ones share a number."""
    names, codes, counts = np.unique(values, return_inverse=True, return_counts=True)
    if len(names) <= _MOST_VALUES:
        return names, codes
    common = np.sort(np.argsort(-counts, kind="stable")[: _MOST_VALUES - 1])
    return np.append(names[common], "other"), np.where(
        np.isin(codes, common), np.searchsorted(common, codes), _MOST_VALUES - 1
    )


def _table(codes: NDArray[np.int64], classes: NDArray[np.int64]) -> NDArray[np.float64]:
    shape = int(codes.max()) + 1, int(classes.max()) + 1
    return np.bincount(codes * shape[1] + classes, minlength=shape[0] * shape[1]).reshape(shape).astype(np.float64)


def _information(table: NDArray[np.float64]) -> float:
    joint = table / table.sum()
    rows, columns = joint.sum(axis=1, keepdims=True), joint.sum(axis=0, keepdims=True)
    there = joint > 0
    mutual = float((joint[there] * np.log(joint[there] / (rows * columns)[there])).sum())
    present = columns[columns > 0]
    entropy = -float((present * np.log(present)).sum())
    return max(0.0, mutual / entropy) if entropy > 0 else 0.0
