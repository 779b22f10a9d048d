"""`audit.find_weak_slices`: kinds of images on which a model is right less often."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from audit.api.inputs import make_batch
from audit.core.errors import DataError
from audit.core.evidence import Array
from audit.core.statistics import Interval
from audit.core.types import PassCount
from audit.explanation.features import features_and_logits
from audit.metrics.feature_clusters import feature_clusters
from audit.metrics.image_attributes import attribute_names, image_attributes
from audit.metrics.slice_candidates import CLUSTER
from audit.models.ambient_torch import in_plain_torch
from audit.models.under_test import ModelUnderTest
from audit.results.queries import PerExample
from audit.topics.slices.clusters import cluster_count
from audit.topics.slices.described import OF_DATA, DescribedImages, tested_slices
from audit.topics.slices.wording import describe_slice


@dataclass(frozen=True)
class WeakSlice:
    """A kind of images that was tested.

    Attributes:
        description: The kind in words.
        members: Which images are of it, bool (N,).
        rate: Share of them with a yes, on the half of the images that it was not chosen on.
        rest: The same of the images that it is compared with.
        gap: The first less the second, with Newcombe's interval.
        p_value: Of Fisher's exact test, corrected for the number of kinds tested (Holm).
        weak: Whether that is below .01.
    """

    description: str
    members: Tensor
    rate: Interval
    rest: Interval
    gap: Interval
    p_value: float
    weak: bool


@dataclass(frozen=True)
class WeakSlices:
    """The kinds of images that looked weakest on one half, tested on the other.

    Attributes:
        slices: At most eight, the smallest p-value first.
        passes: The cost, in images.
    """

    slices: tuple[WeakSlice, ...]
    passes: PassCount


@in_plain_torch
def find_weak_slices(
    model: ModelUnderTest,
    images: Any,
    labels: Any,
    *,
    outcomes: Any = None,
    columns: Mapping[str, Sequence[Any]] | None = None,
    seed: int = 0,
) -> WeakSlices:
    """Find kinds of images on which a model is right less often, as an audit does.

    Args:
        model: The model, from `wrap`.
        images: Floats (N, C, H, W) in [0, 1]; a few hundred at least.
        labels: Whole numbers (N,).
        outcomes: What should be a yes on every image, true or false (N,), such as whether it withstands an attack; None
            for whether it is classified right.
        columns: By name, what else is known of each image: numbers or texts (N,).
        seed: Of the clusters and of the halves.

    Raises:
        DataError: Images, labels, outcomes or a column are of the wrong type, shape or range.
    """
    batch = make_batch(model, images, labels)
    with model.count() as counter:
        features, logits = features_and_logits(model, batch.images)
    right = (logits.argmax(1) == batch.labels.to(logits.device)).cpu().numpy()
    yes = right if outcomes is None else _column("outcomes", outcomes, len(batch)).astype(bool)
    attributes = image_attributes(batch.images).cpu().numpy().astype(np.float64)
    said: dict[str, Array] = dict(zip(attribute_names(model.input_shape[0]), attributes.T, strict=True))
    said |= {OF_DATA + str(name): _column(str(name), values, len(batch)) for name, values in (columns or {}).items()}
    clusters = feature_clusters(features.cpu().numpy(), cluster_count(len(batch)), seed=seed)
    said[CLUSTER] = np.array([f"{number + 1}" for number in clusters], dtype=str)
    measured = {"clean": PerExample(np.arange(len(batch)), yes.astype(np.float64))}
    described = DescribedImages((), said, batch.labels.cpu().numpy(), model.classes, measured, {})  # type: ignore[arg-type]
    slices = tuple(
        WeakSlice(
            description=str(describe_slice(described, "clean", tested.candidate)),
            members=torch.from_numpy(tested.candidate.members),
            rate=tested.rate,
            rest=tested.rest,
            gap=tested.gap,
            p_value=tested.p_value,
            weak=tested.is_weak,
        )
        for tested in tested_slices(described, "clean", seed)
    )
    return WeakSlices(slices, counter.passes)


def _column(name: str, values: Any, images: int) -> Array:
    """Numbers float64 or texts, one an image. Raises DataError for another number of them."""
    column = np.asarray(values.cpu() if isinstance(values, Tensor) else values)
    if column.shape != (images,):
        raise DataError(f"{name!r} has shape {column.shape}, where one value for each of {images} images was expected.")
    return column.astype(np.float64) if column.dtype.kind in "fiub" else column.astype(str)
