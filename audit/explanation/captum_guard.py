"""Call an attribution library, or set hooks, without leaving anything behind on the model."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from audit.models.under_test import ModelUnderTest

_HOOKS = tuple(name for name in vars(nn.Module()) if "hooks" in name)


@contextmanager
def restored(model: ModelUnderTest) -> Iterator[None]:
    """Within the context, hooks and attributes of the model's layers may be changed; afterwards they are as before.

    Tensors that are made without a device land on the model's.

    Args:
        model: The model whose layers are put back: hooks, attributes and train flags.
    """
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


@contextmanager
def uncounted(model: ModelUnderTest) -> Iterator[None]:
    """Within the context passes are not counted: they ask about the model's build, not about an image.

    Args:
        model: The model whose count stays.
    """
    meter = model.meter
    before = meter.forwards, meter.backwards
    try:
        yield
    finally:
        meter.forwards, meter.backwards = before


@contextmanager
def eager(model: ModelUnderTest) -> Iterator[None]:
    """Within the context what `torch.compile` made runs as it was written, operation by operation.

    Args:
        model: The model; one without such a part costs nothing.
    """
    if not any("_orig_mod" in layer._modules for layer in model.net.modules()):  # the import behind it takes seconds
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield


def _shallow(layer: nn.Module) -> dict[str, Any]:
    """The layer's attributes; tables of hooks, parameters and buffers are copied, so that entries can be undone."""
    tables = {"_parameters", "_buffers", "_modules", *_HOOKS}
    return {
        name: type(value)(value) if name in tables and isinstance(value, (dict, OrderedDict, set)) else value
        for name, value in layer.__dict__.items()
    }
