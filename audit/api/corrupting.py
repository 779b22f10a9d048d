"""`audit.corrupt`: images under one corruption, and what the model says of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from audit.api.inputs import as_image_tensor, as_label_tensor, given_image_notes
from audit.api.maite_augmentation import augmented
from audit.core.errors import UsageError
from audit.core.precise import precise
from audit.core.registry import find
from audit.core.seeding import content_ids
from audit.core.types import Images, Labels, PassCount
from audit.metrics.model_checks import fixed_function_notes
from audit.models.ambient_torch import in_plain_torch
from audit.models.maite_model import maite_metadata
from audit.models.under_test import ModelUnderTest
from audit.topics.corruptions.study import corrupted

SEVERITIES = (1, 2, 3, 4, 5)


@dataclass(frozen=True)
class CorruptedImages:
    """N images under one corruption, judged by the model.

    Attributes:
        method: The name of the corruption, or the id of the augmentation.
        severity: How strong, 1 to 5; None of an augmentation.
        images: Float32 (N, C, H, W) in [0, 1].
        predictions: The model's, int64 (N,).
        correct: Whether each prediction is the label, bool (N,); None without labels.
        kept: Whether each prediction is that of the unchanged image, bool (N,).
        distortion: The mean absolute change of a pixel, float64 (N,).
        passes: The cost, in images.
        notes: Why the model's answers are in doubt, and what was done to the images; empty otherwise.
    """

    method: str
    severity: int | None
    images: Images
    predictions: Labels
    correct: Tensor | None
    kept: Tensor
    distortion: Tensor
    passes: PassCount
    notes: tuple[str, ...] = ()


@in_plain_torch
def corrupt(
    model: ModelUnderTest,
    images: Any,
    labels: Any = None,
    *,
    method: str = "gaussian-noise",
    severity: int = 3,
    augmentation: Any = None,
    seed: int = 0,
) -> CorruptedImages:
    """Corrupt every image, and ask the model about it.

    Args:
        model: The model, from `wrap`.
        images: Floats (N, C, H, W) in [0, 1].
        labels: Whole numbers (N,); None where they are not known.
        method: The name of a corruption, such as "fog" or "jpeg-compression".
        severity: How strong, 1 to 5; the severities of one image share its draws.
        augmentation: An augmentation by MAITE's protocol, such as nrtk's, in place of `method` and `severity`. It is
            given one image at a time, as bytes (C, H, W), with its one-hot label (the prediction where there are no
            labels) and its id; NumPy's, Python's and torch's global generators are seeded for each.
        seed: Of all draws, which also follow the bytes of each image, never the batch.

    Raises:
        DataError: Images or labels are of the wrong type, shape or range, or an augmentation returns no such image.
        UsageError: There is no such corruption or severity, or the augmentation is none of MAITE's.
    """
    registered = find("corruption", method)
    if severity not in SEVERITIES:
        raise UsageError(f"Severity {severity!r} does not exist: use a whole number from 1 to 5.")
    pixels = as_image_tensor(model, images)
    classes = None if labels is None else as_label_tensor(labels, len(pixels), len(model.classes)).to(model.device)
    with model.count() as counter:
        doubtful = fixed_function_notes(model, pixels, seed)
        unchanged = model.predictions(pixels)
        if augmentation is None:
            changed = corrupted(registered, model.device, content_ids(pixels), pixels, severity, seed)
        else:
            given = unchanged if classes is None else classes
            changed = augmented(augmentation, pixels, given, len(model.classes), seed)
        predictions = model.predictions(changed)
    return CorruptedImages(
        method=registered.name if augmentation is None else str(maite_metadata(augmentation)["id"]),
        severity=severity if augmentation is None else None,
        images=changed,
        predictions=predictions,
        correct=None if classes is None else predictions == classes,
        kept=predictions == unchanged,
        distortion=precise((changed - pixels).abs().flatten(1)).mean(1),
        passes=counter.passes,
        notes=tuple(map(str, (*given_image_notes(images), *model.notes, *doubtful))),
    )
