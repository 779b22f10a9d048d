"""Which architecture a state dict belongs to, from the names and shapes of its tensors."""

from __future__ import annotations

import csv
import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from importlib import resources
from importlib.util import find_spec

from torch import Tensor

from audit.core.errors import AuditError, ModelError
from audit.models.architecture import ZOO, build, default_for
from audit.models.key_matching import parts_of
from audit.models.loaded import InputShape
from audit.models.state_dict import fit_of

_PUBLISHED_CLASSES = 1000
_PUBLISHED_CHANNELS = 3
_WITHOUT_HEADS = {"inception_v3": 23_834_568}
"""Parameters without the heads that only training runs, where the published number counts them."""
_EXACT = 2
_SLACK = 0.02
"""torchvision counts parameters, a state dict has buffers too; what is near enough is built and compared in full."""
_SLACK_OF_TIMM = 0.002
"""timm has a hundred times as many models: closer, so that few are built."""


def infer_architecture(
    state: Mapping[str, Tensor], *, classes: int, input_shape: InputShape, checkpoint: str, entry: str = ""
) -> str:
    """The architecture that a state dict fits: of the zoo, else of torchvision, else of timm where it is installed.

    Args:
        state: The state dict.
        classes: Number of outputs.
        input_shape: (C, H, W) of the images.
        checkpoint: The file's name, for errors.
        entry: The prefix of the set of weights to take; "" takes an averaged set where there is one.

    Raises:
        ModelError: When several fit, listing them, or none does.
    """
    fitting = _all_fitting(state, classes, input_shape, entry)
    if len(fitting) > 1:
        raise ModelError(
            f"{checkpoint} fits several architectures: {', '.join(fitting)}. Say which with --architecture."
        )
    if not fitting:
        _refuse_other_outputs(state, classes, input_shape, checkpoint, entry)
        largest = max(sorted(state), key=lambda name: state[name].numel())
        raise ModelError(
            f"{checkpoint} fits no architecture of the zoo, torchvision or timm for {classes} classes and images "
            f"{'x'.join(map(str, input_shape))} (its largest tensor is {largest}, {tuple(state[largest].shape)}; for "
            f"such images {default_for(input_shape)} is usual). Say which with --architecture (timm:NAME, "
            "FILE.py:FUNCTION)."
        )
    return fitting[0]


def _all_fitting(state: Mapping[str, Tensor], classes: int, input_shape: InputShape, entry: str) -> list[str]:
    """Of the zoo, else of torchvision, else of timm; those by their own names before others."""
    libraries: tuple[Callable[[], Iterable[str]], ...] = (
        lambda: ZOO,
        lambda: _torchvision(state, classes, input_shape[0]),
        lambda: _timm(state, classes, input_shape[0]),
    )
    renamed: list[str] = []
    for library in libraries:
        fits = dict(_fits(library(), state, classes, input_shape, entry))
        if exact := [name for name, fit in fits.items() if fit == _EXACT]:
            return exact
        renamed = renamed or [name for name, fit in fits.items() if fit]
    return renamed


def _refuse_other_outputs(
    state: Mapping[str, Tensor], classes: int, input_shape: InputShape, checkpoint: str, entry: str
) -> None:
    """Where an architecture fits with another number of outputs, that is what is wrong."""
    heads = [tensor.shape[0] for tensor in state.values() if tensor.ndim == 2]
    for outputs in dict.fromkeys(count for count in (*heads[-1:], *heads[:1]) if count not in (classes, 1)):
        fitting = _all_fitting(state, outputs, input_shape, entry)
        if fitting:
            raise ModelError(
                f"{checkpoint} fits {fitting[0]} with {outputs} outputs, and {classes} classes were expected: name all "
                "of its classes with --labels-map, or train a new last layer on it with audit train --pretrained."
            )


def _fits(
    names: Iterable[str], state: Mapping[str, Tensor], classes: int, input_shape: InputShape, entry: str
) -> Iterator[tuple[str, int]]:
    """How well the state dict fits each net that takes such images."""
    for name in names:
        try:
            module = build(name, classes=classes, input_shape=input_shape, seed=0)
        except (AuditError, RuntimeError, ValueError):
            continue  # it does not take images of this size
        yield name, fit_of(state, module, entry)


def _torchvision(state: Mapping[str, Tensor], classes: int, channels: int) -> Iterator[str]:
    """The nets whose published size, with another first and last layer, is that of `state`: building all takes a
    quarter of a minute."""
    models = importlib.import_module("torchvision.models")
    sizes = _published_sizes(state, classes, channels)
    for name in models.list_models(module=models):
        published = (models.get_model_weights(name).DEFAULT.meta["num_params"], _WITHOUT_HEADS.get(name, 0))
        if any(abs(size - number) <= _SLACK * number for size in sizes for number in published):
            yield f"torchvision:{name}"


def _timm(state: Mapping[str, Tensor], classes: int, channels: int) -> Iterator[str]:
    """As for torchvision; the sizes are in a table, because building all of timm's takes minutes."""
    if find_spec("timm") is None:
        return
    available = set(importlib.import_module("timm").list_models())
    sizes = _published_sizes(state, classes, channels)
    for name, published in timm_sizes().items():
        if name in available and any(abs(size - published) <= _SLACK_OF_TIMM * published for size in sizes):
            yield f"timm:{name}"


@cache
def timm_sizes() -> Mapping[str, int]:
    """Parameters of each of timm's models for ImageNet's classes and colour images, as timm 1.0.31 builds them."""
    with resources.files("audit.models").joinpath("timm_sizes.csv").open(encoding="utf-8") as file:
        return {row["name"]: int(row["parameters"]) for row in csv.DictReader(file)}


def _published_sizes(state: Mapping[str, Tensor], classes: int, channels: int) -> set[int]:
    """Parameters that the same net may have for ImageNet's classes and colour images.

    The order of a state dict does not say which layer is the first or the last: a safetensors file keeps none. So each
    convolution of the images' channels may be the first, and each layer of the classes' outputs the last.
    """
    return {size for part in parts_of(state) for size in _sizes_of(part, classes, channels)}


def _sizes_of(state: Mapping[str, Tensor], classes: int, channels: int) -> set[int]:
    learned = [t for k, t in state.items() if t.is_floating_point() and "running_" not in k]
    kernels = [tensor for tensor in learned if tensor.ndim in (2, 4)]
    stems = [k[:, :1].numel() for k in kernels if k.ndim == 4 and k.shape[1] == channels]
    heads = [k[0].numel() + 1 for k in kernels if k.shape[0] == classes]
    size = sum(tensor.numel() for tensor in learned)
    return {
        size + (_PUBLISHED_CHANNELS - channels) * stem + (_PUBLISHED_CLASSES - classes) * head
        for stem in {0, *stems}
        for head in {0, sum(heads), *heads}
    }
