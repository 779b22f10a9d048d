"""Whether searches should compute in less than float32 on this machine: gradients timed in turn, and compared."""

from __future__ import annotations

import time

import torch
from torch import Tensor

from audit.core.errors import ModelError, SetupError
from audit.core.types import Images
from audit.models.noise_probe import noise_gradient, noise_images
from audit.models.precision import SearchPrecision, processor_has_bfloat16
from audit.models.search_form import search_form
from audit.models.under_test import ModelUnderTest

PRECISION_WORTHWHILE = 1.4
"""How many times faster the gradient must be: a search does more than ask for it, and noise must not move bytes. On one
core of an AMD EPYC with AVX512-BF16 resnet18 gains 1.7, swin_t 2.9, densenet121 2.3, the small nets of the zoo 1.0 to
1.25, and mobilenet_v2, efficientnet_b0 and vit_b_32 lose (torch 2.14.1)."""

_LOWER: dict[str, tuple[SearchPrecision, ...]] = {"cpu": ("bfloat16",), "cuda": ("tf32", "bfloat16")}
_IMAGES_ON_CPU = 8
"""Images of a gradient there, few, as a net can be large; one that gains nothing on so few gains little on more."""
_ROUNDS = 3
_SHARES = 4
"""Gradients of as many images as are timed that should fit into the time, of a net so large that fewer must do."""
_LEAST_AGREEMENT = 0.9
"""The least mean cosine between gradients in the lower precision and in float32."""


def quickest_precision(model: ModelUnderTest, seconds: float) -> SearchPrecision:
    """What searches should compute in: the fastest of those that pay and give nearly the same gradients.

    Depthwise convolutions and attention as one operation lose on a processor by bfloat16, others gain up to half
    (see `audit.training.precision`). Passes are counted.

    Args:
        model: The model, whose layout is chosen but for this.
        seconds: Time for it; a round that was begun is finished.

    Returns:
        "float32" where none does, or the model draws random numbers.
    """
    lower = _LOWER.get(model.device.type, ())
    if model.device.type == "cpu" and not processor_has_bfloat16():
        lower = ()
    if not lower or model.module.draws > 1:
        return "float32"
    form, noise = search_form(model), _noise(model)
    started = time.monotonic()
    try:
        plain = _gradient(form, noise, "float32")
    except (RuntimeError, ModelError, SetupError):  # no gradients, or no memory
        return "float32"
    few = max(1, int(seconds / _SHARES / max(time.monotonic() - started, 1e-9) * len(noise)))
    noise, plain = noise[:few], plain[:few]
    candidates = [precision for precision in lower if _agrees(form, noise, precision, plain)]
    fastest: dict[SearchPrecision, float] = dict.fromkeys(("float32", *candidates), float("inf"))
    started = time.monotonic()
    for _ in range(_ROUNDS):
        for precision in fastest:
            fastest[precision] = min(fastest[precision], _seconds(form, noise, precision))
        if time.monotonic() - started > seconds:
            break
    best = min(fastest, key=lambda precision: fastest[precision])
    return best if fastest[best] * PRECISION_WORTHWHILE < fastest["float32"] else "float32"


def _noise(model: ModelUnderTest) -> Images:
    most = _IMAGES_ON_CPU if model.device.type == "cpu" else model.layout.batch_size
    return noise_images(model, min(most, model.layout.batch_size))


def _agrees(model: ModelUnderTest, noise: Images, precision: SearchPrecision, plain: Tensor) -> bool:
    """Whether gradients point the same way; False too where the net does not run so."""
    try:
        lower = _gradient(model, noise, precision)
    except (RuntimeError, ModelError, SetupError):
        return False
    cosine = torch.nn.functional.cosine_similarity(lower.flatten(1), plain.flatten(1)).mean()
    return bool((cosine >= _LEAST_AGREEMENT).item())  # not where it is NaN


def _gradient(model: ModelUnderTest, noise: Images, precision: SearchPrecision) -> Tensor:
    with model.module.computing_in(precision):
        return noise_gradient(model, noise).gradient


def _seconds(model: ModelUnderTest, noise: Images, precision: SearchPrecision) -> float:
    """How long it takes until its numbers can be read."""
    started = time.monotonic()
    _gradient(model, noise, precision).sum().item()
    return time.monotonic() - started
