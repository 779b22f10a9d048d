"""Calling an attribution library without letting it leave anything behind."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from audit.core.types import Images
from audit.models.batching import in_batches
from audit.models.under_test import ModelUnderTest

_HOOKS = tuple(name for name in vars(nn.Module()) if "hooks" in name)


@contextmanager
def restored(model: ModelUnderTest) -> Iterator[None]:
    """The model lent to a library: hooks, attributes and train flags of every layer come back as they were, and
    tensors the library makes without naming a device land on the model's."""
    layers = list(model.module.modules())
    states = [(layer, _shallow(layer)) for layer in layers]
    try:
        with torch.device(model.device), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Setting (forward, )?backward hooks")  # captum says it will undo
            yield
    finally:
        for layer, state in states:
            layer.__dict__.clear()
            layer.__dict__.update(state)


def in_leaf_batches(model: ModelUnderTest, images: Images, compute: Callable[[Images, slice], Tensor]) -> Tensor:
    """`compute(leaf, part)` over the images in batches that fit; `leaf` requires gradients."""

    def one(part: slice) -> Tensor:
        with torch.enable_grad():
            return compute(images[part].detach().clone().requires_grad_(True), part).detach()

    return torch.cat(list(in_batches(len(images), model.layout, one)))


def has_input_gradient(model: ModelUnderTest) -> bool:
    """Whether the logits have a gradient to the pixels that is not zero everywhere, on four images of noise.

    Of a random mix of the logits: a single one may be constant, and the sum of probabilities always is.
    """
    generator = torch.Generator(device="cpu").manual_seed(1)
    noise = torch.rand(4, *model.input_shape, generator=generator, device="cpu").to(model.device)
    with torch.enable_grad():
        logits = model.module(noise.requires_grad_(True))
        if not logits.requires_grad:
            return False
        mix = torch.rand(logits.shape, generator=generator, device="cpu").to(logits.device)
        (gradient,) = torch.autograd.grad((logits * mix).sum(), noise, allow_unused=True)
    return gradient is not None and bool((gradient != 0).any())


def _shallow(layer: nn.Module) -> dict[str, Any]:
    """The layer's own attributes; its tables of hooks, parameters and buffers copied, so that entries can be undone."""
    tables = {"_parameters", "_buffers", "_modules", *_HOOKS}
    return {
        name: type(value)(value) if name in tables and isinstance(value, (dict, OrderedDict, set)) else value
        for name, value in layer.__dict__.items()
    }
