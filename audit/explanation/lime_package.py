"""The lime package itself: `LimeImageExplainer` on our segments, baseline and output, one image at a time."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audit.core.types import Images
from audit.explanation.spec import ExplanationSpec
from audit.models.under_test import ModelUnderTest

_EVERY = 100_000
"""lime's own default for the number of features: all of them."""


@dataclass(frozen=True)
class LimeExplanation:
    """What the package answers about one image.

    Attributes:
        coefficients: Float64 (n,), one a segment; zero for those that were not selected.
        intercept: The regression's value with no segment shown.
        r2: Weighted coefficient of determination.
        at_image: The regression's value with every segment shown.
    """

    coefficients: Tensor
    intercept: float
    r2: float
    at_image: float


def lime_by_package(
    model: ModelUnderTest,
    images: Images,
    spec: ExplanationSpec,
    row: int,
    *,
    seed: int,
    samples: int,
    kernel_width: float,
    features: int | None,
) -> LimeExplanation:
    """Explain one image by `lime.lime_image.LimeImageExplainer`.

    The package composites the masked pictures itself; a segment that is hidden shows the baseline.

    Args:
        model: The model to explain.
        images: Float32 (N, C, H, W) in [0, 1].
        spec: What to explain, with segments.
        row: The image.
        seed: The package's `random_state`, in [0, 2^32).
        samples: The package's `num_samples`.
        kernel_width: The package's `kernel_width`.
        features: The package's `num_features`; None for all.
    """
    from lime import lime_image

    assert spec.segments is not None  # `ExplanationSpec.masks` raised otherwise
    segments = spec.segments[row].cpu().numpy()
    target = spec.targets[row : row + 1]

    def classify(pictures: NDArray[np.float32]) -> NDArray[np.float64]:
        batch = torch.from_numpy(np.asarray(pictures, np.float32)).permute(0, 3, 1, 2).contiguous()
        scores = spec.score(model.logits(batch), target.expand(len(batch)))
        return np.asarray(scores.cpu().double().numpy()[:, None], np.float64)

    with _quiet(lime_image):
        explainer = lime_image.LimeImageExplainer(kernel_width=kernel_width, random_state=seed)
        answer = explainer.explain_instance(
            _channels_last(images[row]),
            classify,
            labels=(0,),
            top_labels=None,
            hide_color=_channels_last(spec.baseline[row]),
            num_features=_EVERY if features is None else features,
            num_samples=samples,
            batch_size=model.layout.batch_size,
            segmentation_fn=lambda _: segments,
        )
    coefficients = torch.zeros(int(segments.max()) + 1, dtype=torch.float64, device="cpu")
    for segment, coefficient in answer.local_exp[0]:
        coefficients[segment] = coefficient
    return LimeExplanation(
        coefficients, float(answer.intercept[0]), float(answer.score), float(np.ravel(answer.local_pred)[0])
    )


def _channels_last(image: Tensor) -> NDArray[np.float32]:
    return np.ascontiguousarray(image.detach().cpu().permute(1, 2, 0).numpy(), np.float32)


@contextmanager
def _quiet(lime_image: Any) -> Iterator[None]:
    """Without the package's progress bar, which it has no switch for, and scikit-learn's deprecations."""
    bar = lime_image.tqdm
    lime_image.tqdm = lambda rows: rows
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        lime_image.tqdm = bar
