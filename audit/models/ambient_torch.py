"""What a caller has set torch to, put aside while a public function runs."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

from audit.models.precision import ieee_float32

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def in_plain_torch(function: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """The function with gradients on and float32 by default, also in a block of inference mode, `no_grad` or autocast.

    Float32 is computed as such, see `ieee_float32`.

    Args:
        function: A public function.
    """

    @functools.wraps(function)
    def inside(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
        default = torch.get_default_dtype()
        torch.set_default_dtype(torch.float32)
        try:
            with torch.inference_mode(False), torch.enable_grad(), ieee_float32():
                return function(*args, **kwargs)
        finally:
            torch.set_default_dtype(default)

    return inside


def plain_tensor(images: Tensor) -> Tensor:
    """A caller's tensor without its graph, and as one that may have a gradient where it was made in inference mode.

    Args:
        images: Any tensor.
    """
    return images.clone() if images.is_inference() else images.detach()
