"""The torch device of a name."""

from __future__ import annotations

import torch

from audit.core.errors import SetupError


def resolve_device(name: torch.device | str = "auto") -> torch.device:
    """The torch device of a name.

    Args:
        name: "auto" for CUDA when there is one, else the CPU; or any name that torch knows.

    Raises:
        SetupError: When the device is not usable here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).tolist()  # torch's "meta" has no numbers to read
    except (RuntimeError, AssertionError, NotImplementedError) as fault:
        raise SetupError(f"Device {str(name)!r} is not usable here; use auto or cpu.") from fault
    return device
