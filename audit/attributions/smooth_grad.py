"""SmoothGrad: the gradient averaged over noisy copies."""

from __future__ import annotations

import torch
from torch import Tensor

from audit.core.registry import attribution
from audit.core.types import Images, PassCount
from audit.explanation.gradient_means import maps_of, mean_maps
from audit.explanation.gradients import output_gradient
from audit.explanation.precision import PRECISION_UNITS, MapPrecision, quality_of_maps
from audit.explanation.spec import Attribution, ExplanationSpec
from audit.models.under_test import ModelUnderTest


@attribution(
    reference="arXiv:1706.03825",
    needs="gradients",
    signed=True,
    passes=lambda settings, shape: PassCount(settings["samples"], settings["samples"]),
    quality_units=PRECISION_UNITS,
)
def smooth_grad(
    model: ModelUnderTest,
    images: Images,
    spec: ExplanationSpec,
    *,
    samples: int = 32,
    noise: float = 0.15,
    precision: MapPrecision | None = None,
) -> Attribution:
    """The mean gradient over `samples` copies with Gaussian noise of `noise` times the image's own range.

    The estimate of arXiv:1706.03825; copies come in pairs with opposite noise, which lowers the variance at no cost.
    The map is (N, C, H, W), in units of the output a pixel range; `standard_error` is a map of it, from the pairs.
    Quality: see `audit.explanation.precision.PRECISION_UNITS`.

    Args:
        model: The model to explain.
        images: Float32 (N, C, H, W) in [0, 1].
        spec: What to explain.
        samples: Noisy copies an image; with a precision, at most.
        noise: Standard deviation of the Gaussian noise, as a share of the image's own range of values.
        precision: Stop once the map is off by at most this share of its size, with 95% probability; None for all
            samples.
    """
    span = images.flatten(1).amax(1) - images.flatten(1).amin(1)
    scale = (noise * span).view(-1, 1, 1, 1)

    def gradients(rows: Tensor, numbers: Tensor) -> Images:
        drawn = spec.generators.select(rows).fork(numbers // 2).normal(*images.shape[1:]).to(images.dtype)
        signs = (1 - 2 * (numbers % 2)).to(images.dtype).view(-1, 1, 1, 1)
        return output_gradient(model, images[rows] + scale[rows] * signs * drawn, spec.select(rows))

    with torch.no_grad():
        judged = mean_maps(
            images,
            spec,
            gradients,
            samples=samples,
            together=2,
            precision=precision,
            at_once=max(len(images), model.layout.batch_size),
        )
    maps, errors = maps_of(judged, images)
    return Attribution(maps, quality_of_maps(judged, precision), maps={"standard_error": errors})
