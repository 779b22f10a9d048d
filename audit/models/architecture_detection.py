"""Which architecture a state dict belongs to, from the names and shapes of its tensors."""

from __future__ import annotations

import csv
import importlib
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib import resources
from importlib.util import find_spec

from torch import Tensor

from audit.core.errors import AuditError, ModelError
from audit.models.architecture import ZOO, build, default_for
from audit.models.loaded import InputShape
from audit.models.state_dict import mismatch

_PUBLISHED_CLASSES = 1000
_PUBLISHED_CHANNELS = 3
_SLACK = 0.02
"""torchvision counts parameters, a state dict has buffers too; what is near enough is built and compared in full."""
_SLACK_OF_TIMM = 0.002
"""timm has a hundred times as many models: closer, so that few are built."""


def infer_architecture(state: Mapping[str, Tensor], *, classes: int, input_shape: InputShape, checkpoint: str) -> str:
    """The architecture that a state dict fits: of the zoo, else of torchvision, else of timm where it is installed.

    Args:
        state: The state dict.
        classes: Number of outputs.
        input_shape: (C, H, W) of the images.
        checkpoint: The file's name, for errors.

    Raises:
        ModelError: When several fit, listing them, or none does.
    """
    fitting = list(_fitting(ZOO, state, classes, input_shape))
    fitting = fitting or list(_fitting(_torchvision(state, classes), state, classes, input_shape))
    fitting = fitting or list(_fitting(_timm(state, classes), state, classes, input_shape))
    if len(fitting) > 1:
        raise ModelError(
            f"{checkpoint} fits several architectures: {', '.join(fitting)}. Say which with --architecture."
        )
    if not fitting:
        first = next(iter(state))
        raise ModelError(
            f"{checkpoint} fits no architecture of the zoo, torchvision or timm for {classes} classes and images "
            f"{'x'.join(map(str, input_shape))} (its first tensor is {first}, {tuple(state[first].shape)}; for such "
            f"images {default_for(input_shape)} is usual). Say which with --architecture (timm:NAME, FILE.py:FUNCTION)."
        )
    return fitting[0]


def _fitting(names: Iterable[str], state: Mapping[str, Tensor], classes: int, input_shape: InputShape) -> Iterator[str]:
    for name in names:
        try:
            expected = build(name, classes=classes, input_shape=input_shape, seed=0).state_dict()
        except (AuditError, RuntimeError, ValueError):
            continue  # it does not take images of this size
        if not mismatch(state, expected):
            yield name


def _torchvision(state: Mapping[str, Tensor], classes: int) -> Iterator[str]:
    """The nets whose published size, with another first and last layer, is that of `state`: building all takes a
    quarter of a minute."""
    models = importlib.import_module("torchvision.models")
    size = _published_size(state, classes)
    for name in models.list_models(module=models):
        published = models.get_model_weights(name).DEFAULT.meta["num_params"]
        if abs(size - published) <= _SLACK * published:
            yield f"torchvision:{name}"


def _timm(state: Mapping[str, Tensor], classes: int) -> Iterator[str]:
    """As for torchvision; the sizes are in a table, because building all of timm's takes minutes."""
    if find_spec("timm") is None:
        return
    available = set(importlib.import_module("timm").list_models())
    size = _published_size(state, classes)
    for name, published in timm_sizes().items():
        if name in available and abs(size - published) <= _SLACK_OF_TIMM * published:
            yield f"timm:{name}"


@cache
def timm_sizes() -> Mapping[str, int]:
    """Parameters of each of timm's models for ImageNet's classes and colour images, as timm 1.0.31 builds them."""
    with resources.files("audit.models").joinpath("timm_sizes.csv").open(encoding="utf-8") as file:
        return {row["name"]: int(row["parameters"]) for row in csv.DictReader(file)}


def _published_size(state: Mapping[str, Tensor], classes: int) -> int:
    """Parameters of the same net for ImageNet's classes and colour images."""
    learned = {k: t for k, t in state.items() if t.is_floating_point() and "running_" not in k}
    size = sum(tensor.numel() for tensor in learned.values())
    kernels = [tensor for tensor in learned.values() if tensor.ndim in (2, 4)]
    if not kernels:
        return size
    first, last = kernels[0], kernels[-1]
    if first.ndim == 4:
        size += (_PUBLISHED_CHANNELS - first.shape[1]) * first[:, :1].numel()
    if last.shape[0] == classes:
        size += (_PUBLISHED_CLASSES - classes) * (last[0].numel() + 1)
    return size
