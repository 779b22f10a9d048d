"""scikit-learn's handwritten digits: 1,797 grey images of 8x8 pixels that come with the library."""

from __future__ import annotations

import numpy as np

from audit.data.arrays import array_split
from audit.data.dataset import Dataset
from audit.data.formats.idx import DIGITS
from audit.data.options import LoadOptions

_TRAIN = 1437
"""The file lists one writer after another: the last fifth are writers the model has not seen."""


def load_digits(place: str, wish: LoadOptions) -> Dataset:
    """The first 1,437 to train, the last 360 to test; 17 grey levels, spread over 0..255."""
    from sklearn.datasets import load_digits as read

    bunch = read()
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)
    labels = bunch.target.astype(np.int64)
    train, test = (
        array_split(images[part], labels[part], part=name, classes=10, where="digits")
        for name, part in (("train", slice(_TRAIN)), ("test", slice(_TRAIN, None)))
    )
    return Dataset("scikit-learn digits", DIGITS, (1, 8, 8), test, train)
