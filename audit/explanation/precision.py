"""How far a map that is sampled may be from its limit, and when an image has had samples enough."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from pydantic import Field
from scipy.special import fdtri
from torch import Tensor
from torch.nn import functional

from audit.core.evidence import Better
from audit.core.precise import precise
from audit.core.statistics import LEVEL

LEADING = 5
"""So many leading parts of a map must stand in the order they had one look before."""
_GROWTH = 1.3
"""From one look to the next the samples grow by this factor: at most so much is asked beyond what was needed."""
_FAR_BELOW = 0.5
"""Where the error is this share of what is asked, the order needs no second look: what differs visibly is certain."""
WHOLE_BATCHES = 32
"""Looks at masks but the last come after a multiple of so many, so that batches are full."""
_POOLED = 7
"""Rows and columns of the blocks of pixels that count as parts of a map by pixel."""
_LEAST_SIZE = 0.5
"""Share of a map's length that is taken for its size, at least, where the noise in it would leave less."""

MapPrecision = Annotated[float, Field(gt=0, le=1)]
"""The error asked for, as a share of the map's size."""
ERROR_UNITS: Mapping[str, tuple[str, Better]] = {"error": ("share", "lower"), "samples": ("count", "neither")}
"""What a method that samples says of every map."""
PRECISION_UNITS: Mapping[str, tuple[str, Better]] = {**ERROR_UNITS, "reached": ("share", "higher")}
"""The same, with whether the precision was reached, which is said where one was asked for."""


@dataclass(frozen=True)
class MapEstimate:
    """One image's map, and what it would be off by.

    Attributes:
        values: The map's P numbers, of segments or of pixels, float64 (P,).
        deviations: k rows, float64 (k, P): independent and of mean zero, so that the covariance of the map's error is
            the sum of their outer products. None at all where the map is exact.
        parts: What `order_holds` compares of it, float64 (p,); None for its numbers.
    """

    values: Tensor
    deviations: Tensor
    parts: Tensor | None = None

    @property
    def standard_errors(self) -> Tensor:
        """The standard error of each number, float64 (P,)."""
        return self.deviations.square().sum(0).sqrt()

    def error(self, looks: int) -> float:
        """The error as a share of the map's size: with probability 0.95 no look of so many finds it exceeded.

        The squared length of an error of covariance S is close to tr(S) chi2(v) / v with v = tr(S)^2 / tr(S^2)
        (Satterthwaite 1946, Box 1954); tr(S) itself is estimated, which makes it an F quantile. Its level is shared
        equally among the looks (Bonferroni), so that stopping at one of them is no way round it. The size is the
        length of the map without what its noise adds on average.

        Args:
            looks: How often the map may be looked at, with ever more samples.
        """
        squares = self.deviations.square().sum(1)
        spread, length = float(squares.sum()), float(self.values.norm())
        if not spread:
            return 0.0
        size = max(math.sqrt(max(length**2 - spread, 0.0)), _LEAST_SIZE * length)
        return math.sqrt(spread * _quantile(self.deviations, squares, looks)) / max(size, 1e-300)


def _quantile(deviations: Tensor, squares: Tensor, looks: int) -> float:
    """Of the squared error over its mean, at the level of one look."""
    parts, total = len(squares), float(squares.sum())
    products = float((deviations @ deviations.T).square().sum() - squares.square().sum())
    dimensions = total**2 / max(products * parts / max(parts - 1, 1), total**2 / deviations.shape[1])
    variance = max(float(squares.square().sum()) - total**2 / parts, 1e-12 * total**2)
    freedom = max(1.0, 2 * total**2 / variance * (parts - 1) / parts)
    return float(fdtri(max(1.0, dimensions), freedom, 1 - (1 - LEVEL) / looks))


@dataclass(frozen=True)
class JudgedMap:
    """The map with which one image's sampling ended.

    Attributes:
        values: Its numbers, float64 (P,).
        standard_errors: The standard error of each, float64 (P,).
        samples: How many samples it rests on.
        error: With probability 0.95 it is off by no more than this share of its size.
        reached: Whether that is the precision asked for, and the order of its leading parts held; False without one.
    """

    values: Tensor
    standard_errors: Tensor
    samples: int
    error: float
    reached: bool


Estimates = Callable[[Mapping[int, int]], Mapping[int, MapEstimate]]
"""From the samples that each image still sampled is to have, by its row, to the estimates."""


def looks_at(
    first: int, most: int, precision: float | None, exactly: int | None = None, *, multiple: int = WHOLE_BATCHES
) -> tuple[int, ...]:
    """After how many samples an image's map is looked at; the numbers depend on nothing that is sampled.

    Args:
        first: Samples of the first look, at least.
        most: Samples of the last one.
        precision: The precision asked for; None for one look, at the end.
        exactly: In place of all that, so many samples, as another map of the image had; None for none.
        multiple: All looks but the last come after a multiple of so many samples.
    """
    if precision is None or exactly is not None:
        return (most if exactly is None else min(exactly, most),)
    counts, count = [], float(first)
    while count * _GROWTH**0.5 < most:
        counts.append(min(most, math.ceil(count / multiple) * multiple))
        count = counts[-1] * _GROWTH
    return tuple(dict.fromkeys((*counts, most)))


def expected_masks(settings: Mapping[str, Any], segments: int, a_segment: float) -> int:
    """How many masks an image is expected to get: as many more as the error asked for is smaller, squared.

    Args:
        settings: With `samples` and `precision`.
        segments: Of an image.
        a_segment: Masks a segment that are expected to leave an error as large as the map.
    """
    most: int = settings["samples"]
    if settings.get("precision") is None:
        return most
    return min(most, max(4 * segments, math.ceil(a_segment * segments / float(settings["precision"]) ** 2)))


def sample_until_precise(
    looks: Sequence[Sequence[int]], precision: float | None, estimates: Estimates
) -> list[JudgedMap]:
    """Ask for more and more samples of each image, until its map is as precise as asked, or has had the most.

    Images leave as they are done. What an image gets depends on its own samples alone.

    Args:
        looks: For each image the number of samples at each look, rising.
        precision: The error asked for, as a share of the map's size; None to take all samples.
        estimates: Gives the estimates after so many samples, which include those of the looks before.
    """
    judged: dict[int, JudgedMap] = {}
    before: dict[int, Tensor] = {}
    for number in range(max(map(len, looks))):
        pending = {
            row: counts[number]
            for row, counts in enumerate(looks)
            if number < len(counts) and not (row in judged and judged[row].reached)
        }
        if not pending:
            break
        for row, estimate in estimates(pending).items():
            error = estimate.error(len(looks[row]))
            reached = precision is not None and error <= precision
            parts = estimate.values if estimate.parts is None else estimate.parts
            if precision is not None and _FAR_BELOW * precision < error <= precision and len(looks[row]) > 1:
                reached = row in before and order_holds(before[row], parts, precision)
            judged[row] = JudgedMap(estimate.values, estimate.standard_errors, pending[row], error, reached)
            before[row] = parts
    return [judged[row] for row in range(len(looks))]


def order_holds(before: Tensor, now: Tensor, precision: float) -> bool:
    """Whether no two of the leading parts that differ by more than the precision stood the other way round before.

    Args:
        before: The map's parts one look before, float64 (p,).
        now: The parts now, float64 (p,).
        precision: Differences of this share of the map's length, spread evenly over its parts, count as ties.
    """
    leading = now.abs().topk(min(LEADING, len(now))).indices
    sizes, sizes_before = now.abs()[leading], before.abs()[leading]
    tie = precision * float(now.norm()) / math.sqrt(len(now))
    behind = sizes[:, None] > sizes[None] + tie
    return not bool((behind & (sizes_before[:, None] < sizes_before[None])).any())


def pooled(maps: Tensor) -> Tensor:
    """Maps by pixel as few numbers, for `order_holds`: sums over channels, means over 7 x 7 blocks, float64 (k, 49).

    Args:
        maps: (k, C, H, W).
    """
    return functional.adaptive_avg_pool2d(precise(maps).sum(1, keepdim=True), _POOLED).flatten(1)


def quality_of_maps(judged: Sequence[JudgedMap], precision: float | None) -> dict[str, Tensor]:
    """What is said of maps, as `Attribution.quality` holds it: see `PRECISION_UNITS`.

    Args:
        judged: The maps of N images.
        precision: The precision asked for, or None.
    """
    rows: dict[str, list[float]] = {"error": [one.error for one in judged]}
    rows["samples"] = [float(one.samples) for one in judged]
    if precision is not None:
        rows["reached"] = [float(one.reached) for one in judged]
    return {name: torch.tensor(values, device="cpu", dtype=torch.float64) for name, values in rows.items()}
