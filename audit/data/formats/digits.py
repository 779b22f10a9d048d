"""The handwritten digits that come with scikit-learn."""

from __future__ import annotations

import numpy as np

from audit.core.note import note
from audit.core.registry import data_format
from audit.data.arrays import array_split
from audit.data.dataset import Dataset, LoadOptions
from audit.data.formats.idx import DIGIT_NAMES

_TRAIN = 1437
"""The file lists one writer after another: the last fifth are writers the model has not seen."""


@data_format(reference="E. Alpaydin, C. Kaynak, 1998, doi:10.24432/C50P49")
def digits(_argument: str, _options: LoadOptions) -> Dataset:
    """Scikit-learn's handwritten digits: 1,437 training and 360 test images, 8x8 grey.

    The 17 grey levels are spread over 0..255.
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)
    labels = bunch.target.astype(np.int64)
    train, test = (
        array_split(images[rows], labels[rows], name=name, classes=10, source="digits")
        for name, rows in (("train", slice(_TRAIN)), ("test", slice(_TRAIN, None)))
    )
    return Dataset(note("digits", "scikit-learn digits"), DIGIT_NAMES, (1, 8, 8), test, train)
