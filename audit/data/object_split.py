"""Splits whose images have objects with boxes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from audit.core.objects import Objects, pack_objects
from audit.data.dataset import Fetch, Split, derive_fingerprint


def object_split(ids: Sequence[str], fetch: Fetch, objects: Sequence[Objects], fingerprint: str) -> Split:
    """A split of images with objects.

    Args:
        ids: A stable name for each of N images.
        fetch: Reads images by position.
        objects: What is to be found in each, in pixels of the images as they are fetched.
        fingerprint: SHA-256 of the pixels.
    """
    listed = tuple(objects)
    digest = hashlib.sha256()
    for values in vars(pack_objects(listed)).values():
        digest.update(np.ascontiguousarray(values).tobytes())
    return Split(
        labels=np.zeros(len(listed), np.int64),
        ids=tuple(ids),
        fetch=fetch,
        fingerprint=derive_fingerprint(fingerprint, "objects", digest.hexdigest()),
        objects=lambda index: tuple(listed[i] for i in index.tolist()),
    )
