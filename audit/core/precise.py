"""Numbers of double precision, on whatever device: Apple's GPUs have none."""

from __future__ import annotations

import torch
from torch import Tensor

_WITHOUT_FLOAT64 = ("mps",)


def precise(tensor: Tensor) -> Tensor:
    """The tensor in float64: on its own device, or on the CPU where the device has no such numbers.

    Args:
        tensor: Of any dtype, on any device.
    """
    return tensor.to(precise_device(tensor.device)).double()


def precise_device(device: torch.device) -> torch.device:
    """Where numbers of double precision are computed: the device itself, or the CPU where it has none.

    Args:
        device: The device of the model.
    """
    return device if has_float64(device) else torch.device("cpu")


def has_float64(device: torch.device) -> bool:
    """Whether a device has numbers of double precision.

    Args:
        device: The device.
    """
    return device.type not in _WITHOUT_FLOAT64
