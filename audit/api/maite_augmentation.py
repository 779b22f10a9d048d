"""Augmentations by MAITE's protocol, such as nrtk's optics, sensors and weather, as corruptions."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from audit.api.maite import pixels_of
from audit.core.errors import AuditError, DataError, UsageError, fault_line
from audit.core.seeding import content_ids, derive_seed, fork_global_rng
from audit.core.types import Images, Labels
from audit.models.maite_model import is_maite, maite_metadata


def augmented(augmentation: Any, images: Images, labels: Labels, classes: int, seed: int) -> Images:
    """Each image changed by an augmentation, alone, so that the other images of a batch do not count.

    Args:
        augmentation: Called with (images, targets, metadata), three sequences, and gives three such.
        images: Float32 (N, C, H, W) in [0, 1].
        labels: Whole numbers (N,), the targets.
        classes: Number of classes.
        seed: Of the global generators, with the bytes of each image.

    Returns:
        Float32 (N, C, H, W) in [0, 1], on the images' device.

    Raises:
        UsageError: It is no augmentation of MAITE's.
        DataError: What it returns is no image of the shape it was given.
        AuditError: It failed.
    """
    if not (is_maite(augmentation) and callable(augmentation)):
        raise UsageError(
            f"The augmentation is of type {type(augmentation).__name__}, where one of MAITE's was expected: called "
            "with (images, targets, metadata), and with metadata that hold an id."
        )
    name = str(maite_metadata(augmentation)["id"])
    as_bytes = (images * 255).round().to("cpu", torch.uint8).numpy()
    changed = []
    for picture, label, key in zip(as_bytes, labels.tolist(), content_ids(images), strict=True):
        target = np.eye(classes, dtype=np.float32)[label]
        with _seeded(seed, name, key):
            try:
                batch = augmentation(([picture.copy()], [target], [{"id": key}]))
                (answer,) = batch[0]
            except Exception as fault:  # an augmentation is anybody's code
                raise AuditError(f"The augmentation {name!r} failed: {fault_line(fault)}.") from fault
        array = np.asarray(answer)
        array = array[None] if array.ndim == 2 else array
        if array.shape != picture.shape:
            raise DataError(
                f"The augmentation {name!r} returned an image of shape {array.shape} for one of {picture.shape}: a "
                "corruption keeps the shape."
            )
        changed.append(pixels_of(array, f"An image that the augmentation {name!r} returned"))
    return torch.stack(changed).to(images.device)


@contextmanager
def _seeded(*parts: object) -> Iterator[None]:
    """NumPy's, Python's and torch's global generators at a state of their own; put back after."""
    before, python_before = np.random.get_state(), random.getstate()
    draw = derive_seed(*parts)
    np.random.seed(draw % 2**32)
    random.seed(draw)
    try:
        with fork_global_rng(torch.device("cpu"), *parts):
            yield
    finally:
        np.random.set_state(before)
        random.setstate(python_before)
