"""How sure a model is, and how strange it finds usual, corrupted, foreign and attacked images, as evidence."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch

from audit.core.cell import Cell
from audit.core.errors import Interrupted, NotApplicable
from audit.core.evidence import Array, Evidence
from audit.core.note import note
from audit.core.registry import find, study
from audit.core.types import Images, PassCount
from audit.data.foreign import foreign_split
from audit.execution.context import Context
from audit.execution.measured import measured_evidence
from audit.explanation.features import features_and_logits, head_layer
from audit.metrics.foreign_images import foreign_images
from audit.metrics.out_of_distribution import (
    FeatureReference,
    fit_reference,
    mahalanobis_distance,
    neighbour_distance,
)
from audit.models.under_test import ModelUnderTest
from audit.topics.corruptions.study import corrupted
from audit.topics.refusal.facts import (
    ATTACKED,
    CLEAN,
    CORRUPTED,
    FOREIGN,
    REFERENCE,
    SHIFT_SEVERITIES,
    RefusalFacts,
    RefusalSettings,
)

_STRIDE = 256


@study()
def refusal(context: Context, cell: Cell) -> Evidence:
    """What is usual (method "reference"), or how strange the images of another method are.

    Arrays of "reference": `means` (K, D), `precision` (D, D) and `bank` (M, D), float32. Of the others, for N images:
    `logits` float32 (N, classes), `mahalanobis` and `kNN` float32 (N,); those of "corrupted" have an axis of the
    severities before, (3, N, ...), and "clean" and "corrupted" have `labels` int64 (N,). "attacked" are the images of
    the run's attacks that were broken at the eps of the verdict.

    Args:
        context: Gives the model, the examples and the inputs of the cell.
        cell: The cell; settings: `RefusalSettings`.

    Raises:
        Interrupted: The user asked to stop.
    """
    method: Callable[[Context, Cell, ModelUnderTest], Evidence] = _METHODS[cell.method]
    return method(context, cell, context.model())


def _reference(context: Context, cell: Cell, model: ModelUnderTest) -> Evidence:
    batch = context.batch()
    with model.count() as counter:
        features, _ = _asked(context, model, batch.images)
    fitted = fit_reference(features, batch.labels.numpy())
    return measured_evidence(
        cell,
        arrays={
            "means": fitted.means.astype(np.float32),
            "precision": fitted.precision.astype(np.float32),
            "bank": fitted.bank.astype(np.float32),
        },
        facts=RefusalFacts(layer=head_layer(model), images=len(batch)),
        passes=counter.passes,
    )


def _clean(context: Context, cell: Cell, model: ModelUnderTest) -> Evidence:
    batch = context.batch()
    with model.count() as counter:
        arrays = _scored(context, model, batch.images)
    return _told(cell, {**arrays, "labels": batch.labels.numpy()}, counter.passes, len(batch))


def _corrupted(context: Context, cell: Cell, model: ModelUnderTest) -> Evidence:
    batch, settings = context.batch(), RefusalSettings.of(cell)
    corruption = find("corruption", settings.corruption)
    parts: list[Mapping[str, Array]] = []
    with model.count() as counter:
        for severity in SHIFT_SEVERITIES:
            changed: list[Images] = []
            for start in range(0, len(batch), _STRIDE):
                rows = slice(start, start + _STRIDE)
                images = model.check_images(batch.images[rows])
                changed.append(corrupted(corruption, model.device, batch.ids[rows], images, severity, cell.seed))
            parts.append(_scored(context, model, torch.cat(changed)))
    arrays = {name: np.stack([part[name] for part in parts]) for name in parts[0]}
    return _told(cell, {**arrays, "labels": batch.labels.numpy()}, counter.passes, len(batch))


def _foreign(context: Context, cell: Cell, model: ModelUnderTest) -> Evidence:
    settings = RefusalSettings.of(cell)
    if settings.source:
        images = own_foreign_images(str(context.task.context["source"]), model.input_shape, settings.count)
    else:
        images = foreign_images(settings.kind, settings.count, model.input_shape, cell.seed)
    with model.count() as counter:
        arrays = _scored(context, model, images)
    return _told(cell, arrays, counter.passes, len(images))


def _attacked(context: Context, cell: Cell, model: ModelUnderTest) -> Evidence:
    attacks = context.evidence("robustness")
    kept = attacks.arrays["adversarial"]
    broken = attacks.measurement("robust").per_example[: len(kept)] == 0
    clean = context.batch().images[: len(kept)]
    images = torch.from_numpy(np.array(kept))
    moved = broken & (images != clean).flatten(1).any(1).numpy()
    if not moved.any():
        raise NotApplicable(note("refusal_none_broken", "No image that the attacks kept was broken."))
    with model.count() as counter:
        arrays = _scored(context, model, images[torch.from_numpy(moved)])
    return _told(cell, arrays, counter.passes, int(moved.sum()))


def own_foreign_images(source: str, shape: tuple[int, int, int], count: int) -> Images:
    """The first images of a data source, in the size and colour of a model.

    Args:
        source: A data source or a folder, see `foreign_split`, which also says what is wrong with it.
        shape: Channels, height and width.
        count: How many at most.

    Returns:
        Float32 (N, C, H, W) in [0, 1].
    """
    channels, height, width = shape
    images = foreign_split(source, shape).batch(slice(0, count)).images[:, :, :height, :width]
    return images.expand(-1, channels, -1, -1).contiguous() if images.shape[1] == 1 else images


def _told(cell: Cell, arrays: Mapping[str, Array], passes: PassCount, images: int) -> Evidence:
    return measured_evidence(cell, arrays=arrays, facts=RefusalFacts(images=images), passes=passes)


def _scored(context: Context, model: ModelUnderTest, images: Images) -> dict[str, Array]:
    usual = context.evidence("reference").arrays
    fitted = FeatureReference(*(usual[name].astype(np.float64) for name in ("means", "precision", "bank")))
    features, logits = _asked(context, model, images)
    return {
        "logits": logits,
        "mahalanobis": mahalanobis_distance(fitted, features).astype(np.float32),
        "kNN": neighbour_distance(fitted, features).astype(np.float32),
    }


def _asked(context: Context, model: ModelUnderTest, images: Images) -> tuple[Array, Array]:
    """Features and logits, float32."""
    features: list[Array] = []
    logits: list[Array] = []
    for start in range(0, len(images), _STRIDE):
        if context.stopping():
            raise Interrupted("Stopped before it was measured when the model should refuse; the same command resumes.")
        answers = features_and_logits(model, images[start : start + _STRIDE])
        features.append(answers.features.cpu().numpy())
        logits.append(answers.logits.cpu().numpy().astype(np.float32))
        context.progress(min(start + _STRIDE, len(images)), len(images))
    return np.concatenate(features), np.concatenate(logits)


_METHODS = {REFERENCE: _reference, CLEAN: _clean, CORRUPTED: _corrupted, FOREIGN: _foreign, ATTACKED: _attacked}
