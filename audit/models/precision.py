"""The arithmetic that judges: float32 by IEEE 754 in deterministic kernels, whatever the caller or the card prefers."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Literal, TypeAlias
from weakref import WeakKeyDictionary, WeakSet

import torch
from torch import nn

SearchPrecision: TypeAlias = Literal["float32", "tf32", "bfloat16"]
"""What a search may compute in: "tf32" rounds the factors of products to 10 bits on NVIDIA's cards, "bfloat16" is mixed
precision by autocast. What it finds is judged in float32."""
PRECISION = "float32 (IEEE 754)"
"""How the arithmetic that judges is called in reports."""
_LEAVES = (
    "cuda.matmul",
    "cudnn.conv",
    "cudnn.rnn",
    "mkldnn.matmul",
    "mkldnn.conv",
    "mkldnn.rnn",
)
"""Parts of `torch.backends` that have a `fp32_precision` of their own. What is set above them does not reach one that
was set before: once anybody has assigned `cudnn.allow_tf32 = True`, which is its default, `cudnn.conv` and `cudnn.rnn`
stay at tf32 under `torch.backends.fp32_precision = "ieee"` (torch 2.14.1)."""
_CUBLAS_WORKSPACE = ("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
"""What cuBLAS reads before its first call, and what makes it give the same matrix product each time."""
_ALERT = "does not have a deterministic implementation"
_filling: Any = torch.utils.deterministic
_inside = threading.local()
_nondeterministic: set[str] = set()
_recurrent_layers: WeakKeyDictionary[nn.Module, WeakSet[nn.RNNBase]] = WeakKeyDictionary()
"""Found once a net: a walk through the modules of resnet50 takes 72 us, at each forward."""


@contextmanager
def ieee_float32(*, tf32: bool = False) -> Iterator[None]:
    """A block in which float32 is float32: no TF32, no bfloat16 inside, no autocast, deterministic kernels.

    NVIDIA's convolutions round their inputs to 10 bits (TF32) by default, which moves verdicts of images that lie near
    the decision boundary. On an accelerator deterministic kernels are asked for too; operations that have none run all
    the same and are remembered (`take_nondeterministic_operations`). Everything is put back as it was. A block inside
    another of its kind costs nothing.

    Args:
        tf32: Whether products may round their factors so all the same, for a search whose finds are judged without.
    """
    wanted, outside = "tf32" if tf32 else "ieee", getattr(_inside, "block", None)
    if outside == wanted:
        yield
        return
    _inside.block = wanted
    autocast = [kind for kind in _device_types() if torch.is_autocast_enabled(kind)]
    before = _Flags()
    try:
        for kind in autocast:
            torch.set_autocast_enabled(kind, False)
        before.set_reference(tf32=tf32)
        with _remembering_alerts():
            yield
    finally:
        before.restore()
        for kind in autocast:
            torch.set_autocast_enabled(kind, True)
        _inside.block = outside


def bfloat16_autocast(device: torch.device) -> torch.autocast:
    """A block of mixed precision, in which every forward casts the weights that it finds.

    torch keeps casts until the outermost block of autocast ends, which may be a caller's around a whole training: its
    steps would move weights that no forward looks at any more (torch 2.14.1).

    Args:
        device: Where the net runs.
    """
    return torch.autocast(device.type, torch.bfloat16, cache_enabled=False)


def processor_kind() -> str:
    """The instructions that torch's kernels use on this processor; two of one kind give the same bytes."""
    return torch.backends.cpu.get_cpu_capability() + (" with BF16" if processor_has_bfloat16() else "")


def processor_has_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 by instructions (AVX512-BF16), which is what makes it cheap."""
    return bool(torch.cpu._is_avx512_bf16_supported())


def take_nondeterministic_operations() -> tuple[str, ...]:
    """Operations without a deterministic kernel that ran on an accelerator since the last call, sorted."""
    names = tuple(sorted(_nondeterministic))
    _nondeterministic.clear()
    return names


@contextmanager
def recurrent_gradients(net: nn.Module) -> Iterator[None]:
    """A block in which a net in eval mode gives gradients through `nn.LSTM`, `nn.GRU` and `nn.RNN` on a GPU too.

    cuDNN has none there ("cudnn RNN backward can only be called in training mode"), torch's own kernels have. Plain
    assignment, as `torch.backends.cudnn.flags` resets flags that it is not given, TF32 and determinism among them.

    Args:
        net: The net that runs inside.
    """
    layers = _recurrent_layers.get(net)
    if layers is None:
        layers = WeakSet(layer for layer in net.modules() if isinstance(layer, nn.RNNBase))
        _recurrent_layers[net] = layers
    if all(layer.training for layer in layers):
        yield
        return
    enabled = torch.backends.cudnn.enabled
    torch.backends.cudnn.enabled = False
    try:
        yield
    finally:
        torch.backends.cudnn.enabled = enabled


def device_facts(device: torch.device) -> dict[str, Any]:
    """What computed, for the evidence and the report.

    Args:
        device: Where the model runs.

    Returns:
        The device with its index and the precision; of an NVIDIA card also its name, its compute capability, and the
        versions of CUDA and cuDNN.
    """
    facts: dict[str, Any] = {"device": str(device), "precision": PRECISION}
    if device.type == "cuda" and torch.cuda.is_available():
        major, minor = torch.cuda.get_device_capability(device)
        facts |= {
            "card": torch.cuda.get_device_name(device),
            "capability": f"{major}.{minor}",
            "cuda": torch.version.cuda or "",
            "cudnn": torch.backends.cudnn.version() or 0,  # type: ignore[no-untyped-call]
            "deterministic": True,
        }
    return facts


class _Flags:
    """What torch is set to, read once, and the way back.

    torch has an older and a newer interface to the same settings and refuses to read the older where they disagree, so
    the older are set first, then the newer, in both directions.
    """

    def __init__(self) -> None:
        self.legacy: dict[str, Any] = {}
        with suppress(RuntimeError):
            self.legacy["cudnn"] = torch.backends.cudnn.allow_tf32
        with suppress(RuntimeError):
            self.legacy["tf32"] = torch.backends.cuda.matmul.allow_tf32
        with suppress(RuntimeError):
            self.legacy["matmul"] = torch.get_float32_matmul_precision()
        self.leaves = {name: _leaf(name).fp32_precision for name in _LEAVES}
        self.accelerated = accelerator_present()
        cudnn = torch.backends.cudnn
        self.kernels = (cudnn.deterministic, cudnn.benchmark)
        self.algorithms = (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
            _filling.fill_uninitialized_memory,
        )

    def set_reference(self, *, tf32: bool) -> None:
        with suppress(RuntimeError):
            torch.backends.cudnn.allow_tf32 = tf32
        with suppress(RuntimeError):
            torch.set_float32_matmul_precision("high" if tf32 else "highest")
        for name in _LEAVES:
            _leaf(name).fp32_precision = "tf32" if tf32 and not name.startswith("mkldnn") else "ieee"
        if self.accelerated:
            os.environ.setdefault(*_CUBLAS_WORKSPACE)
            torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
            _filling.fill_uninitialized_memory = False
            torch.use_deterministic_algorithms(True, warn_only=True)

    def restore(self) -> None:
        if "cudnn" in self.legacy:
            torch.backends.cudnn.allow_tf32 = self.legacy["cudnn"]
        if "tf32" in self.legacy:
            torch.backends.cuda.matmul.allow_tf32 = self.legacy["tf32"]
        if "matmul" in self.legacy:
            torch.set_float32_matmul_precision(self.legacy["matmul"])
        for name, precision in self.leaves.items():
            _leaf(name).fp32_precision = precision
        if self.accelerated:
            torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = self.kernels
            enabled, warn_only, fill = self.algorithms
            torch.use_deterministic_algorithms(enabled, warn_only=warn_only)
            _filling.fill_uninitialized_memory = fill


def accelerator_present() -> bool:
    """Whether torch could compute on something else than the CPU."""
    return torch.cuda.is_available() or torch.backends.mps.is_available()


def _device_types() -> tuple[str, ...]:
    return ("cpu", "cuda", "mps") if accelerator_present() else ("cpu", "cuda")


def _leaf(name: str) -> Any:
    part: Any = torch.backends
    for word in name.split("."):
        part = getattr(part, word)
    return part


@contextmanager
def _remembering_alerts() -> Iterator[None]:
    """Keep the names of operations about which torch warns that they are not deterministic; other warnings go on."""
    if not accelerator_present():
        yield
        return
    with warnings.catch_warnings():
        show = warnings.showwarning

        def keep(message: Warning | str, *args: Any, **kwargs: Any) -> None:
            if _ALERT in str(message):
                _nondeterministic.add(str(message).split()[0])
            else:
                show(message, *args, **kwargs)

        warnings.filterwarnings("always", message=f".*{_ALERT}")
        warnings.showwarning = keep
        yield
