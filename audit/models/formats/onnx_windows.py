"""ONNX operators that move a window over the image: the windows themselves, and pooling."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from audit.models.formats.onnx_node import Node, operator_of


@dataclass(frozen=True)
class Windows:
    """Where windows lie.

    Attributes:
        kernel: Size along each spatial axis.
        stride: Step along each.
        dilation: Spacing within a window along each.
        before: Padding before the first row of each axis; None where it follows from the size of the input.
        after: Padding after the last.
        low: Whether uneven automatic padding goes before rather than after.
        ceil: Whether a last window may reach beyond the padding.
        sizes: The spatial size of the input where the file says it; empty where it does not.
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    before: tuple[int, ...] | None
    after: tuple[int, ...] = ()
    low: bool = False
    ceil: bool = False
    sizes: tuple[int, ...] = ()

    @property
    def symmetric(self) -> tuple[int, ...] | None:
        """The padding where it is the same on both sides, else None."""
        return self.before if self.before == self.after else None

    def amounts(self, sizes: Sequence[int]) -> list[tuple[int, int]]:
        """Padding before and after along each axis, what the last window of `ceil` needs included.

        Args:
            sizes: The spatial size of the input.
        """
        pads = []
        for i, size in enumerate(sizes):
            reach = (self.kernel[i] - 1) * self.dilation[i] + 1
            if self.before is None:
                total = max(0, (-(-size // self.stride[i]) - 1) * self.stride[i] + reach - size)
                first = total - total // 2 if self.low else total // 2
                pads.append((first, total - first))
                continue
            before, after = self.before[i], self.after[i]
            if self.ceil:
                count = -(-(size + before + after - reach) // self.stride[i]) + 1
                if (count - 1) * self.stride[i] >= size + before:  # it would hold nothing but padding
                    count -= 1
                after = max(after, (count - 1) * self.stride[i] + reach - size - before)
            pads.append((before, after))
        return pads

    def pad(self, values: Any, number: float = 0.0) -> Any:
        """The input with the padding that its windows reach into.

        Args:
            values: (N, C, ...).
            number: What the padding holds.
        """
        sizes = values.shape[2:] if isinstance(values, Tensor) or not self.sizes else self.sizes
        flat = [amount for pair in self.amounts(sizes)[::-1] for amount in pair]
        return functional.pad(values, flat, value=number) if any(flat) else values


def windows_of(node: Node, kernel: tuple[int, ...]) -> Windows:
    """The windows of a convolution or a pool.

    Args:
        node: The node.
        kernel: The window's size.
    """
    rank, auto = len(kernel), node.get("auto_pad", "NOTSET")
    pads = node.get("pads") if auto == "NOTSET" else None
    pads = pads or [0] * 2 * rank
    stride, dilation = tuple(node.get("strides") or [1] * rank), tuple(node.get("dilations") or [1] * rank)
    low, ceil, sizes = auto == "SAME_LOWER", bool(node.get("ceil_mode")), () if node.shape is None else node.shape[2:]
    windows = Windows(kernel, stride, dilation, tuple(pads[:rank]), tuple(pads[rank:]), low, ceil, sizes)
    if not auto.startswith("SAME"):
        return windows
    automatic = Windows(kernel, stride, dilation, None, low=low, sizes=sizes)
    if not sizes:
        return automatic
    amounts = automatic.amounts(sizes)
    before, after = (tuple(pair[i] for pair in amounts) for i in (0, 1))
    return Windows(kernel, stride, dilation, before, after, low, sizes=sizes)


def pool_layer(node: Node) -> nn.Module | None:
    """The layer that says the same as a pooling node, None where there is none.

    Args:
        node: A MaxPool or an AveragePool.
    """
    windows = windows_of(node, tuple(node.attributes["kernel_shape"]))
    padding = windows.symmetric
    if len(windows.kernel) != 2 or node.outputs > 1 or padding is None:
        return None
    if any(2 * pad > size for pad, size in zip(padding, windows.kernel, strict=True)):
        return None
    if node.op == "MaxPool":
        return nn.MaxPool2d(windows.kernel, windows.stride, padding, windows.dilation, ceil_mode=windows.ceil)
    if set(windows.dilation) != {1}:
        return None
    build: Callable[..., nn.Module] = nn.AvgPool2d
    return build(windows.kernel, windows.stride, padding, windows.ceil, bool(node.get("count_include_pad", 0)))


@operator_of("MaxPool")
def _max_pool(node: Node, values: Any) -> Any:
    windows = windows_of(node, tuple(node.attributes["kernel_shape"]))
    pool = {1: functional.max_pool1d, 2: functional.max_pool2d, 3: functional.max_pool3d}[len(windows.kernel)]
    return pool(windows.pad(values, float("-inf")), windows.kernel, windows.stride, 0, windows.dilation)


@operator_of("AveragePool")
def _average_pool(node: Node, values: Any) -> Any:
    windows = windows_of(node, tuple(node.attributes["kernel_shape"]))
    inside = torch.ones_like(values)
    if node.get("count_include_pad", 0) and windows.before is not None:
        given = Windows(windows.kernel, windows.stride, windows.dilation, windows.before, windows.after)
        amounts = given.amounts(values.shape[2:])
        flat = [amount for pair in amounts[::-1] for amount in pair]
        counted = functional.pad(inside, flat, value=1.0)
        beyond = windows.pad(values).shape
        counted = functional.pad(
            counted, [a for i in reversed(range(2, len(beyond))) for a in (0, beyond[i] - counted.size(i))]
        )
    else:
        counted = windows.pad(inside)
    return _window_sums(windows.pad(values), windows) / _window_sums(counted, windows)


@operator_of("LpPool")
def _lp_pool(node: Node, values: Any) -> Any:
    windows, power = windows_of(node, tuple(node.attributes["kernel_shape"])), node.get("p", 2)
    return _window_sums(windows.pad(values.abs() ** power), windows) ** (1 / power)


@operator_of("GlobalLpPool")
def _global_lp_pool(node: Node, values: Any) -> Any:
    return torch.linalg.vector_norm(values, node.get("p", 2), dim=list(range(2, node.ranks[0])), keepdim=True)


def _window_sums(values: Any, windows: Windows) -> Any:
    channels, rank = values.size(1), len(windows.kernel)
    ones = torch.ones(channels, 1, *windows.kernel, dtype=values.dtype, device=values.device)
    convolve = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}[rank]
    return convolve(values, ones, None, windows.stride, 0, windows.dilation, channels)
