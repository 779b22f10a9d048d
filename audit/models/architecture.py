"""The architectures that can be built by name: the zoo, torchvision and timm."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import nn

from audit.core.errors import SetupError, UsageError, unknown_name
from audit.core.seeding import derive_seed
from audit.models.loaded import InputShape
from audit.models.zoo import attention, convolutional, recurrent, residual

Builder = Callable[[int, InputShape], nn.Module]

ZOO: Mapping[str, Builder] = {
    "cnn-8": convolutional.cnn_8,
    "cnn-28": convolutional.cnn_28,
    "cnn-32": convolutional.cnn_32,
    "cnn-150": convolutional.cnn_150,
    "row-lstm": recurrent.row_lstm,
    "self-attention": attention.self_attention,
    "resnet-18-small": residual.resnet_18_small,
}
"""`(classes, (C, H, W)) -> module` by name."""


def build(name: str, *, classes: int, input_shape: InputShape, seed: int) -> nn.Module:
    """A module with fresh weights, on the CPU in train mode.

    Weights are drawn from `seed` alone; torch's global generators stay as they were.

    Args:
        name: A zoo name, `torchvision:NAME` or `timm:NAME`. Raises UsageError that lists the zoo for another.
        classes: Number of outputs.
        input_shape: (C, H, W) of the images. Raises ModelError when they are too small for the net.
        seed: Root of the random weights.
    """
    builder = _builder(name)
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.default_generator.manual_seed(derive_seed("weights", name, seed))
        return builder(classes, input_shape).train()


def default_for(input_shape: InputShape) -> str:
    """The zoo's net for images of a size: cnn-8 below 10 pixels, cnn-28 up to 30, cnn-32 up to 64, cnn-150 above.

    Args:
        input_shape: (C, H, W) of the images.
    """
    size = min(input_shape[1:])
    if size < 10:
        return "cnn-8"
    if size <= 30:
        return "cnn-28"
    return "cnn-32" if size <= 64 else "cnn-150"


def _builder(name: str) -> Builder:
    library, _, inner = name.partition(":")
    if inner and library in _LIBRARIES:
        return _LIBRARIES[library](inner)
    if name not in ZOO:
        raise _unknown(name)
    return ZOO[name]


def _unknown(name: str) -> UsageError:
    """The error for a name that the zoo lacks, with the library that has it."""
    if name in _torchvision_names():
        return UsageError(f"The architecture {name!r} is torchvision's: write torchvision:{name}.")
    if importlib.util.find_spec("timm") and name in importlib.import_module("timm").list_models():
        return UsageError(f"The architecture {name!r} is timm's: write timm:{name}.")
    return unknown_name("architecture", name, [*ZOO, "torchvision:NAME", "timm:NAME", "FILE.py:FUNCTION"])


def _torchvision_names() -> list[str]:
    models = importlib.import_module("torchvision.models")
    return list(models.list_models(module=models))


def _torchvision(name: str) -> Builder:
    models = importlib.import_module("torchvision.models")
    if name.partition(":")[0] in models.list_models(module=models.detection):
        raise UsageError(
            f"'torchvision:{name}' is a detector's architecture, and the run is of a classifier: give --task detection "
            "and images with boxes, or a classifier's architecture."
        )
    if name not in _torchvision_names():
        raise unknown_name("torchvision architecture", name, _torchvision_names())
    # Both warn unless told whether to draw their own weights.
    extras: dict[str, Any] = {"init_weights": True} if name in ("inception_v3", "googlenet") else {}

    def builder(classes: int, input_shape: InputShape) -> nn.Module:
        module = models.get_model(name, weights=None, num_classes=classes, **extras)
        return _with_channels(_plain_outputs(module), input_shape[0])

    return builder


def _plain_outputs(module: nn.Module) -> nn.Module:
    """Without the auxiliary heads, whose tuple outputs no recipe and no attack understands."""
    if hasattr(module, "aux_logits"):
        setattr(module, "aux_logits", False)  # noqa: B010  # a plain attribute that stubs take for a submodule
        for name in ("AuxLogits", "aux1", "aux2"):
            if hasattr(module, name):
                setattr(module, name, None)
    return module


def _timm(name: str) -> Builder:
    try:
        timm = importlib.import_module("timm")
    except ImportError as fault:
        raise SetupError(f"timm:{name} needs timm; install it with pip install 'audit[timm]'.") from fault
    if name not in timm.list_models():
        raise unknown_name("timm architecture", name, timm.list_models())
    return lambda classes, shape: timm.create_model(name, pretrained=False, num_classes=classes, in_chans=shape[0])


def _with_channels(module: nn.Module, channels: int) -> nn.Module:
    """The same net for images of `channels` channels: its first convolution is drawn anew when the count differs."""
    for name, first in module.named_modules():
        if isinstance(first, nn.Conv2d):
            if first.in_channels != channels:
                module.set_submodule(name, _like(first, channels))
            break
    return module


def _like(first: nn.Conv2d, channels: int) -> nn.Conv2d:
    return nn.Conv2d(
        channels,
        first.out_channels,
        cast(tuple[int, int], first.kernel_size),
        stride=cast(tuple[int, int], first.stride),
        padding=cast(tuple[int, int], first.padding),
        bias=first.bias is not None,
    )


_LIBRARIES: Mapping[str, Callable[[str], Builder]] = {"torchvision": _torchvision, "timm": _timm}
