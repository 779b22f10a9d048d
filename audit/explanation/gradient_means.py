"""Means of sampled gradients, kept by group so that their error is known, for images that leave when they are done."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from audit.core.types import Images
from audit.explanation.precision import JudgedMap, MapEstimate, looks_at, pooled, sample_until_precise
from audit.explanation.spec import ExplanationSpec

GROUPS = 16
"""Into so many groups the samples of an image are cut: enough to tell the error of their mean."""
_FIRST_GROUPS = 4
"""Groups at the first look, where a precision is asked for."""
_NUMBERS = 1 << 26
"""Numbers of sums held at once, which bounds the images that are sampled together."""
SampledMaps = Callable[[Tensor, Tensor], Images]
"""`(rows, samples) -> maps`: what sample k of image i contributes, (M, C, H, W), from int64 (M,) of each."""


def mean_maps(
    images: Images,
    spec: ExplanationSpec,
    sampled: SampledMaps,
    *,
    samples: int,
    together: int,
    precision: float | None,
    at_once: int,
) -> list[JudgedMap]:
    """The mean over samples of each image, with the error that its groups tell.

    Consecutive samples make a group, and groups must be alike and independent of one another: antithetic pairs, or a
    stratum each, stand within one. Naively, sample by sample, the variance of such designs is wrong.

    Args:
        images: Float32 (N, C, H, W).
        spec: What to explain of them.
        sampled: Gives the maps to average.
        samples: Samples an image, at most.
        together: So many consecutive samples belong together, and are never cut apart.
        precision: The error asked for, as a share of the map's size; None for all samples.
        at_once: Images in a batch.
    """
    size = math.ceil(samples / together / GROUPS) * together
    rows_at_once = max(1, _NUMBERS // math.ceil(samples / size) // images[0].numel())
    judged: list[JudgedMap] = []
    for start in range(0, len(images), rows_at_once):
        rows = range(start, min(len(images), start + rows_at_once))
        sums = _GroupSums(images, rows, sampled, samples, size, at_once)
        looks = [looks_at(_FIRST_GROUPS * size, samples, precision, spec.count_of(row), multiple=size) for row in rows]
        judged += sample_until_precise(looks, precision, sums.estimates)
    return judged


def maps_of(judged: Sequence[JudgedMap], images: Images) -> tuple[Images, Images]:
    """The maps and their standard errors, of the images' shape and type.

    Args:
        judged: The maps of N images.
        images: Float32 (N, C, H, W).
    """
    columns = ([one.values for one in judged], [one.standard_errors for one in judged])
    values, errors = (torch.stack(column).view(images.shape).to(images) for column in columns)
    return values, errors


class _GroupSums:
    """Sums over groups of samples of some images."""

    def __init__(
        self, images: Images, rows: range, sampled: SampledMaps, samples: int, size: int, at_once: int
    ) -> None:
        self.rows, self.sampled, self.size, self.at_once = rows, sampled, size, at_once
        self.sums = images.new_zeros(len(rows), math.ceil(samples / size), *images.shape[1:])
        self.done = dict.fromkeys(range(len(rows)), 0)

    def estimates(self, counts: Mapping[int, int]) -> Mapping[int, MapEstimate]:
        """After so many samples of each of these images, those of earlier calls among them."""
        fresh = {row: torch.arange(self.done[row], count, device="cpu") for row, count in counts.items()}
        numbers = torch.cat([torch.full_like(samples, row) for row, samples in fresh.items()])
        samples = torch.cat(list(fresh.values()))
        order = samples.argsort(stable=True)  # the images in turn, as each look has few samples of each
        in_turn = samples[order]  # on the host, which then never waits for the device
        numbers, samples, order = (index.to(self.sums.device) for index in (numbers, samples, order))
        for part, known in zip(*(torch.split(index, self.at_once) for index in (order, in_turn)), strict=True):
            maps = self.sampled(numbers[part] + self.rows.start, samples[part])
            _, images_of = known.unique_consecutive(return_counts=True)
            start = 0
            for count in images_of.tolist():  # one sample of each image at a time: sums in an order that is fixed
                members = part[start : start + count]
                self.sums[numbers[members], samples[members] // self.size] += maps[start : start + count]
                start += count
        self.done.update(counts)
        return {row: self._estimate(row, count) for row, count in counts.items()}

    def _estimate(self, row: int, count: int) -> MapEstimate:
        sums = self.sums[row].cpu().double()
        mean = sums.sum(0) / count
        full = count // self.size
        if full < 2:  # nothing tells the error: as large as the map
            return MapEstimate(mean.flatten(), mean.flatten()[None], pooled(mean[None])[0])
        groups = (sums[:full] / self.size).flatten(1)
        deviations = (groups - groups.mean(0)) / math.sqrt((full - 1) * count / self.size)
        return MapEstimate(mean.flatten(), deviations, pooled(mean[None])[0])
