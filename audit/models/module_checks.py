"""Whether something is a module that can be run, and why one does not run: each cause with its own remedy."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from audit.core.errors import ModelError, one_line

_ABOUT_SIZE = re.compile(
    r"size|height|width|shape|resolution|dimension|patch|divisible|multiple|\d+ ?[x*,] ?\d+|^AssertionError$", re.I
)
"""Words of a forward's own checks that the size of the images may be the matter."""
_WRAP = "Wrap it in a module whose forward takes images (N, C, H, W) alone and returns scores (N, classes)."


def as_module(model: Any) -> nn.Module:
    """The module in what a user gave as one.

    Args:
        model: A module, or a program of torch.export.

    Raises:
        ModelError: It is something else, or has weights without numbers.
    """
    if isinstance(model, torch.export.ExportedProgram):
        model = model.module()
    if not isinstance(model, nn.Module):
        raise ModelError(f"The model is {_kind(model)}, where a torch.nn.Module was expected. {_remedy(model)}")
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if is_lazy(tensor):
            raise ModelError(
                f"The model's {name} has no shape yet, as that of a lazy layer before its first input. Run the model "
                "once on a batch, or load its weights, before giving it here."
            )
        if tensor.is_meta:
            raise ModelError(
                f"The model's {name} is on the meta device and has no numbers. Load its weights first, with "
                "load_state_dict(state, assign=True), or build it outside torch.device('meta')."
            )
    return model


def why_it_does_not_run(net: nn.Module, fault: Exception, input_shape: tuple[int, int, int]) -> str:
    """What failed and what to do, in sentences.

    Args:
        net: The net.
        fault: What its forward raised on images.
        input_shape: (C, H, W) of the images.
    """
    said = one_line(fault)
    failed = f"The model does not run on images of shape {input_shape} (channels, height, width): {said}."
    positional, by_keyword = required_arguments(net)
    if len(positional) != 1 or by_keyword:
        asked = [*positional, *(f"{name} by keyword" for name in by_keyword)]
        return f"{failed} Its forward takes {' and '.join(asked) or 'no images'}. {_WRAP}"
    if isinstance(fault, TypeError | KeyError | NotImplementedError | AttributeError) or "too many indices" in said:
        return f"{failed} Its forward wants something else than one tensor of images, or fails by itself. {_WRAP}"
    if wanted := _channels(said):
        return f"{failed} {_of_channels(wanted, input_shape[0])}"
    if re.search(r"dtype|same type|scalar type|data type", said):
        return f"{failed} Numbers of several types meet in it: convert the module with .float()."
    if isinstance(fault, AssertionError | ValueError) and not _ABOUT_SIZE.search(said):
        return f"{failed} A check of its own stands in the way. {_WRAP}"
    return f"{failed} Give the size it was trained for with --image-size, or another architecture."


def required_arguments(net: nn.Module) -> tuple[Sequence[str], Sequence[str]]:
    """Names of the arguments that a net's forward cannot do without, by position and by keyword.

    Args:
        net: The net. Where its forward does not tell, one positional argument is assumed.
    """
    try:
        parameters = inspect.signature(net.forward).parameters.values()
    except (TypeError, ValueError):
        return ("images",), ()
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    required = [p.name for p in positional if p.default is p.empty]
    if not required:
        required = [p.name for p in positional[:1]] or [p.name for p in parameters if p.kind is p.VAR_POSITIONAL]
    return required, [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty]


def _channels(said: str) -> int | None:
    """The channels that a convolution says it wants."""
    match = re.search(r"to have (\d+) channels, but got (\d+) channels", said)
    return int(match[1]) if match else None


def _of_channels(wanted: int, channels: int) -> str:
    if wanted == channels:
        return f"It seems to want its images in another order of axes than (N, C, H, W). {_WRAP}"
    plural = "channels" if wanted > 1 else "channel"
    remedy = "read them with --grayscale" if wanted == 1 else "give such images"
    return f"It was made for images of {wanted} {plural}, and these have {channels}: {remedy}, or another model."


def _kind(model: Any) -> str:
    if isinstance(model, type):
        return f"the class {model.__name__}"
    if isinstance(model, dict):
        return "a dictionary"
    return f"of type {type(model).__name__}"


def _remedy(model: Any) -> str:
    if isinstance(model, type):
        return "Give an instance of it."
    if isinstance(model, dict):
        return "Where it is a state dict, load it into the net it belongs to, and give that."
    if callable(model):
        return "Call it in the forward of a module of your own, and give that."
    return "Give the network itself."
