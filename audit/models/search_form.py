"""The form of a model that searches run in: cheaper where that pays, the same function up to rounding.

Searches are what proposes: attacks that raise a loss, with all their forwards and gradients. What judges (the
verifier, and every number of the report) runs in the model itself, in plain float32.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from audit.core.types import Images
from audit.models.batching import set_memory_format
from audit.models.folding import folded_copy
from audit.models.under_test import ModelUnderTest

_WATCHED = 2
"""Images of the forward that shows what can be folded."""


def search_form(model: ModelUnderTest) -> ModelUnderTest:
    """The model as searches should ask it; passes through it count as the model's.

    Args:
        model: The model under test, whose `layout` says whether the cheaper form pays; stays as it is.

    Returns:
        The model itself where the cheaper form does not pay or it draws random numbers.
    """
    if not model.layout.folded or model.module.draws > 1:
        return model
    return folded_form(model) or model


@contextmanager
def in_search_precision(model: ModelUnderTest) -> Iterator[bool]:
    """A block in which passes compute in what the layout says searches may: nothing in it is a verdict.

    Args:
        model: The model under test, or its search form.

    Yields:
        Whether that is another than float32.
    """
    precision = "float32" if model.module.draws > 1 else model.layout.search_precision
    with model.module.computing_in(precision):
        yield precision != "float32"


def folded_form(model: ModelUnderTest) -> ModelUnderTest | None:
    """The model with batch norm folded into the layers before it, made once for each net.

    It shares with the model the count of passes, the layout, and everything else but the net.

    Args:
        model: The model under test, which stays as it is.

    Returns:
        The form; None where nothing can be folded.
    """
    made_of, form = model.__dict__.get("_folded_form", (None, None))
    if made_of is model.net:
        return form  # type: ignore[no-any-return]
    form = _folded(model)
    model.__dict__["_folded_form"] = (model.net, form)
    return form


def _folded(model: ModelUnderTest) -> ModelUnderTest | None:
    if model.module.input_type != torch.float32:
        return None
    net = folded_copy(model.net, _noise(model))
    if net is None:
        return None
    set_memory_format(net, channels_last=model.layout.channels_last)
    point = model.furthest_gradient_point
    form = copy.copy(model)
    form.furthest_gradient_point, form.net, form.module = point, net, copy.copy(model.module)
    form.module._modules = {**model.module._modules, "net": net}
    return form


def _noise(model: ModelUnderTest) -> Images:
    """Images of noise as the net is given them."""
    generator = torch.Generator("cpu").manual_seed(0)
    noise = torch.rand(_WATCHED, *model.input_shape, generator=generator, device="cpu").to(model.device)
    noise = (noise - model.module.mean) / model.module.std
    return noise.contiguous(memory_format=torch.channels_last) if model.layout.channels_last else noise
