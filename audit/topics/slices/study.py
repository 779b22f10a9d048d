"""What can be said of test images, and which of them a model finds alike, as evidence."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from audit.core.cell import Cell
from audit.core.errors import Interrupted
from audit.core.evidence import Array, Evidence
from audit.core.registry import study
from audit.execution.context import Context
from audit.execution.measured import measured_evidence
from audit.explanation.features import features_and_logits, head_layer
from audit.metrics.feature_clusters import feature_clusters
from audit.metrics.image_attributes import attribute_names, image_attributes
from audit.topics.slices.clusters import cluster_count
from audit.topics.slices.facts import ATTRIBUTES, COLUMN, ColumnFacts, SlicesFacts

_STRIDE = 256
_DIMENSIONS = 64
"""Random directions that features are projected on, which keep distances (Johnson and Lindenstrauss 1984)."""
_WRONG, _FIRST = 160, 40
"""Pictures that are kept: of the first images classified wrong, and of the first of all."""
_SIDE = 56
"""The longest side of a picture."""


@study()
def slices(context: Context, cell: Cell) -> Evidence:
    """Attributes, features and pictures of images (method "attributes"), or their clusters ("clusters").

    Arrays of "attributes": `attributes` float32 (N, A); `features` float32 (N, D), projected on at most 64 directions;
    `column/I` for each column of the data, numbers float64 (N,) or int64 (N,) positions in its groups, -1 where
    unknown; `pictured` int64 (M,), positions in the audit order, and `pictures` uint8 (M, C, h, w). Of "clusters":
    `clusters` int64 (N,). Facts: `SlicesFacts`.

    Args:
        context: Gives the model, the examples and the inputs of the cell.
        cell: The cell.

    Raises:
        Interrupted: The user asked to stop.
    """
    return _attributes(context, cell) if cell.method == ATTRIBUTES else _clusters(context, cell)


def _attributes(context: Context, cell: Cell) -> Evidence:
    model, batch = context.model(), context.batch()
    attributes: list[Tensor] = []
    features: list[Tensor] = []
    with model.count() as counter:
        for start in range(0, len(batch), _STRIDE):
            if context.stopping():
                raise Interrupted("Stopped before the images were described; the same command resumes.")
            rows = slice(start, start + _STRIDE)
            masks = None if batch.masks is None else batch.masks[rows]
            attributes.append(image_attributes(batch.images[rows], masks))
            features.append(_projected(features_and_logits(model, batch.images[rows]).features.cpu()))
            context.progress(min(start + _STRIDE, len(batch)), len(batch))
    columns, arrays = _columns(context.cohorts())
    pictured = _pictured(context, cell, len(batch))
    pictures = _thumbnails(batch.images[torch.from_numpy(pictured)])
    return measured_evidence(
        cell,
        arrays={
            "attributes": torch.cat(attributes).numpy(),
            "features": torch.cat(features).numpy(),
            "pictured": pictured + context.task.examples.start,
            "pictures": pictures,
            **arrays,
        },
        facts=SlicesFacts(
            attributes=attribute_names(model.input_shape[0]),
            columns=columns,
            classes=model.classes,
            layer=head_layer(model),
        ),
        passes=counter.passes,
    )


def _clusters(context: Context, cell: Cell) -> Evidence:
    features = np.concatenate([context.evidence(name).arrays["features"] for name in _in_order(cell.inputs)])
    clusters = feature_clusters(features, cluster_count(len(features)), seed=cell.seed)
    return measured_evidence(cell, arrays={"clusters": clusters})


def _projected(features: Tensor) -> Tensor:
    """Float32 (N, at most 64); the directions depend on the number of features alone."""
    if features.shape[1] <= _DIMENSIONS:
        return features
    directions = np.random.default_rng(features.shape[1]).normal(size=(features.shape[1], _DIMENSIONS))
    return (features.double() @ torch.from_numpy(directions / _DIMENSIONS**0.5)).float()


def _columns(cohorts: Mapping[str, Array]) -> tuple[tuple[ColumnFacts, ...], dict[str, Array]]:
    facts: list[ColumnFacts] = []
    arrays: dict[str, Array] = {}
    for name, values in cohorts.items():
        groups: tuple[str, ...] = ()
        array = f"{COLUMN}{len(facts)}"
        if values.dtype.kind == "f":
            arrays[array] = values
        else:
            groups = tuple(str(group) for group in np.unique(values) if group)
            numbers = {group: number for number, group in enumerate(groups)}
            arrays[array] = np.array([numbers.get(str(value), -1) for value in values], np.int64)
        facts.append(ColumnFacts(name=name, groups=groups))
    return tuple(facts), arrays


def _pictured(context: Context, cell: Cell, count: int) -> Array:
    """Positions in the batch of the images whose pictures are kept, ascending."""
    start, correct = context.task.examples.start, np.ones(count, bool)
    for name in cell.inputs:
        first, values = int(name.split()[-1]), context.evidence(name).measurement("correct").per_example
        positions = np.arange(first, first + len(values)) - start
        inside = (positions >= 0) & (positions < count)
        correct[positions[inside]] = values[inside] > 0
    wrong = np.flatnonzero(~correct)[:_WRONG]
    return np.union1d(wrong, np.arange(min(_FIRST, count))).astype(np.int64)


def _thumbnails(images: Tensor) -> Array:
    """uint8 (M, C, h, w), scaled down to at most 56 pixels a side by the mean of areas."""
    height, width = images.shape[2:]
    if max(height, width) > _SIDE:
        scale = _SIDE / max(height, width)
        size = max(1, round(height * scale)), max(1, round(width * scale))
        images = functional.interpolate(images, size, mode="area")
    return np.asarray((images.clamp(0, 1) * 255).round().to(torch.uint8).numpy())


def _in_order(inputs: Mapping[str, str]) -> list[str]:
    return sorted(inputs, key=lambda name: int(name.split()[-1]))
