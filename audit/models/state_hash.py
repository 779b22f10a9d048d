"""A module's numbers in a hash, quantised and packed ones too."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn


class _Hash(Protocol):
    def update(self, data: bytes, /) -> None: ...


def hash_state(digest: _Hash, module: nn.Module) -> None:
    """Add every entry of a module's state dict to a hash.

    Args:
        digest: The hash, changed in place.
        module: The module.
    """
    for name, value in sorted(module.state_dict().items()):
        if not isinstance(value, Tensor):  # the packed weights of a quantised layer
            digest.update(f"{name}:{value!r}".encode())
            continue
        digest.update(f"{name}:{value.dtype}:{tuple(value.shape)}".encode())
        digest.update(_bytes_of(value))


def _bytes_of(tensor: Tensor) -> bytes:
    dense = tensor if tensor.layout == torch.strided else tensor.to_dense()
    if dense.is_quantized:
        return f"{dense.qscheme()}".encode() + dense.detach().cpu().dequantize().contiguous().numpy().tobytes()
    plain = dense.detach().cpu().contiguous().flatten()
    return plain.view(torch.uint8).numpy().tobytes() if plain.numel() else b""
