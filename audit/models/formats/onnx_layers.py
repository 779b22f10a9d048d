"""ONNX operators with weights, windows or statistics: torch layers where their weights are constants of the file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from audit.models.formats.onnx_node import Node, operator_of
from audit.models.formats.onnx_windows import pool_layer, windows_of

Maker = Callable[..., nn.Module | None]
"""(node, *constants) to a layer that takes the first input, None where no layer of torch says the same."""

LAYER_MAKERS: dict[str, Maker] = {}
"""What makes a layer of an operator whose inputs but the first are constants."""

_CONVOLUTIONS: dict[int, Callable[..., nn.Module]] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_NORMALISATIONS: dict[int, Callable[..., nn.Module]] = {
    2: nn.BatchNorm1d,
    3: nn.BatchNorm1d,
    4: nn.BatchNorm2d,
    5: nn.BatchNorm3d,
}
_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "Relu": nn.ReLU,
    "Sigmoid": nn.Sigmoid,
    "Tanh": nn.Tanh,
    "HardSwish": nn.Hardswish,
    "Softplus": nn.Softplus,
}


def layer_of(name: str) -> Callable[[Maker], Maker]:
    """Enter a function into the table of layers.

    Args:
        name: The operator that it makes a layer of.
    """

    def enter(maker: Maker) -> Maker:
        LAYER_MAKERS[name] = maker
        return maker

    return enter


LAYER_MAKERS["MaxPool"] = LAYER_MAKERS["AveragePool"] = pool_layer
LAYER_MAKERS.update({name: lambda node, kind=kind: kind() for name, kind in _ACTIVATIONS.items()})


@layer_of("Gelu")
def _gelu_layer(node: Node) -> nn.Module:
    return nn.GELU(node.get("approximate", "none"))


@layer_of("LeakyRelu")
def _leaky_layer(node: Node) -> nn.Module:
    return nn.LeakyReLU(node.get("alpha", 0.01))


@layer_of("Elu")
def _elu_layer(node: Node) -> nn.Module:
    return nn.ELU(node.get("alpha", 1.0))


@layer_of("Dropout")
def _dropout_layer(node: Node, ratio: Tensor | None = None, training: Tensor | None = None) -> nn.Module:
    if training is not None and bool(training):
        raise TypeError("it was exported in training mode; call net.eval() before the export")
    share = float(ratio) if ratio is not None else node.get("ratio", 0.5)
    return nn.Dropout(min(max(share, 0.0), 1.0))


@layer_of("Clip")
def _clip_layer(node: Node, low: Tensor | None = None, high: Tensor | None = None) -> nn.Module | None:
    bounds = [float(b) if b is not None else node.get(name) for b, name in ((low, "min"), (high, "max"))]
    return nn.ReLU6() if bounds == [0.0, 6.0] and node.floating else None


@layer_of("GlobalAveragePool")
def _global_average_layer(node: Node) -> nn.Module | None:
    return nn.AdaptiveAvgPool2d(1) if node.ranks[0] == 4 else None


@operator_of("GlobalAveragePool")
def _global_average(node: Node, values: Any) -> Any:
    return torch.mean(values, list(range(2, node.ranks[0])), keepdim=True)


@operator_of("GlobalMaxPool")
def _global_max(node: Node, values: Any) -> Any:
    return torch.amax(values, list(range(2, node.ranks[0])), keepdim=True)


def _filled(layer: nn.Module, **tensors: Tensor | None) -> nn.Module:
    with torch.no_grad():
        for name, tensor in tensors.items():
            if tensor is not None:
                getattr(layer, name).copy_(tensor)
    return layer


@layer_of("Conv")
def _conv_layer(node: Node, weight: Tensor, bias: Tensor | None = None) -> nn.Module | None:
    kind = _CONVOLUTIONS.get(weight.dim() - 2)
    if kind is None or not weight.is_floating_point():
        return None
    windows, groups = windows_of(node, tuple(weight.shape[2:])), node.get("group", 1)
    padding = windows.symmetric
    layer = kind(
        weight.shape[1] * groups,
        weight.shape[0],
        windows.kernel,
        windows.stride,
        padding if padding is not None else 0,
        windows.dilation,
        groups,
        bias is not None,
        dtype=weight.dtype,
    )
    _filled(layer, weight=weight, bias=bias)
    if padding is not None:
        return layer
    if len(windows.kernel) != 2 or windows.before is None:
        return None
    (top, left), (bottom, right) = windows.before, windows.after
    return nn.Sequential(nn.ZeroPad2d((left, right, top, bottom)), layer)


@operator_of("Conv")
def _conv(node: Node, values: Any, weight: Any, bias: Any = None) -> Any:
    windows = windows_of(node, tuple(weight.shape[2:]))
    convolve = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}[len(windows.kernel)]
    return convolve(windows.pad(values), weight, bias, windows.stride, 0, windows.dilation, node.get("group", 1))


@operator_of("ConvTranspose")
def _conv_transpose(node: Node, values: Any, weight: Any, bias: Any = None) -> Any:
    rank = node.ranks[0] - 2
    kernel = tuple(weight.shape[2:])
    stride, dilation = node.get("strides", [1] * rank), node.get("dilations", [1] * rank)
    extra, groups = node.get("output_padding", [0] * rank), node.get("group", 1)
    convolve = {1: functional.conv_transpose1d, 2: functional.conv_transpose2d, 3: functional.conv_transpose3d}[rank]
    whole = convolve(values, weight, bias, stride, 0, extra, groups, dilation)
    reach = [(kernel[i] - 1) * dilation[i] + 1 + extra[i] for i in range(rank)]
    wanted = node.get("output_shape")
    auto = node.get("auto_pad", "NOTSET")
    if wanted or auto.startswith("SAME"):
        sizes = wanted[-rank:] if wanted else [values.size(i + 2) * stride[i] for i in range(rank)]
        cut = [(values.size(i + 2) - 1) * stride[i] + reach[i] - sizes[i] for i in range(rank)]
        low = [c // 2 if auto == "SAME_UPPER" else c - c // 2 for c in cut]
        pads = [*low, *(c - first for c, first in zip(cut, low, strict=True))]
    else:
        pads = node.get("pads", [0] * 2 * rank)
    return functional.pad(whole, [-amount for i in reversed(range(rank)) for amount in (pads[i], pads[i + rank])])


@layer_of("Gemm")
def _gemm_layer(node: Node, weight: Tensor, bias: Tensor | None = None) -> nn.Module | None:
    if node.get("transA", 0) or node.ranks[0] != 2 or not weight.is_floating_point():
        return None
    weight = (weight if node.get("transB", 0) else weight.T) * node.get("alpha", 1.0)
    if bias is not None and bias.numel() != len(weight) and bias.numel() != 1:
        return None
    bias = None if bias is None else bias.reshape(-1).expand(len(weight)) * node.get("beta", 1.0)
    layer = nn.Linear(weight.shape[1], len(weight), bias is not None, dtype=weight.dtype)
    return _filled(layer, weight=weight, bias=bias)


@operator_of("Gemm")
def _gemm(node: Node, first: Any, second: Any, third: Any = None) -> Any:
    first, second = first.T if node.get("transA", 0) else first, second.T if node.get("transB", 0) else second
    product = (first @ second) * node.get("alpha", 1.0)
    return product if third is None else product + third * node.get("beta", 1.0)


@layer_of("MatMul")
def _matmul_layer(node: Node, weight: Tensor) -> nn.Module | None:
    if weight.dim() != 2 or not weight.is_floating_point() or node.ranks[0] < 2:
        return None
    layer = nn.Linear(weight.shape[0], weight.shape[1], bias=False, dtype=weight.dtype)
    return _filled(layer, weight=weight.T)


@operator_of("MatMul")
def _matmul(node: Node, first: Any, second: Any) -> Any:
    return torch.matmul(first, second)


@layer_of("BatchNormalization")
def _batch_norm_layer(node: Node, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor) -> nn.Module | None:
    _require_inference(node)
    if not node.get("spatial", 1):
        return None
    kind = _NORMALISATIONS[node.ranks[0]]
    layer = kind(len(scale), node.get("epsilon", 1e-5), 1 - node.get("momentum", 0.9), dtype=scale.dtype)
    return _filled(layer, weight=scale, bias=bias, running_mean=mean, running_var=variance)


@operator_of("BatchNormalization")
def _batch_norm(node: Node, values: Any, scale: Any, bias: Any, mean: Any, variance: Any) -> Any:
    _require_inference(node)
    shape = (-1,) + (1,) * (node.ranks[0] - 2) if node.get("spatial", 1) else mean.shape
    scale, bias, mean, variance = (t.reshape(shape) for t in (scale, bias, mean, variance))
    return (values - mean) / torch.sqrt(variance + node.get("epsilon", 1e-5)) * scale + bias


def _require_inference(node: Node) -> None:
    if node.get("training_mode", 0) or (node.opset < 14 and node.outputs > 1):
        raise TypeError("it was exported in training mode; call net.eval() before the export")


@layer_of("LayerNormalization")
def _layer_norm_layer(node: Node, scale: Tensor, bias: Tensor | None = None) -> nn.Module | None:
    covered = node.ranks[0] - node.get("axis", -1) % node.ranks[0]
    if node.outputs > 1 or scale.dim() != covered or (bias is not None and bias.shape != scale.shape):
        return None
    layer = nn.LayerNorm(scale.shape, node.get("epsilon", 1e-5), bias=bias is not None, dtype=scale.dtype)
    return _filled(layer, weight=scale, bias=bias)


@operator_of("LayerNormalization")
def _layer_norm(node: Node, values: Any, scale: Any, bias: Any = None) -> Any:
    axes = list(range(node.get("axis", -1) % node.ranks[0], node.ranks[0]))
    mean = torch.mean(values, axes, keepdim=True)
    deviation = 1 / torch.sqrt((values - mean).square().mean(axes, keepdim=True) + node.get("epsilon", 1e-5))
    answer = (values - mean) * deviation * scale
    return (answer if bias is None else answer + bias, mean, deviation)[: max(node.outputs, 1)]


@operator_of("InstanceNormalization")
def _instance_norm(node: Node, values: Any, scale: Any, bias: Any) -> Any:
    return functional.instance_norm(values, weight=scale, bias=bias, eps=node.get("epsilon", 1e-5))


@operator_of("GroupNormalization")
def _group_norm(node: Node, values: Any, scale: Any, bias: Any) -> Any:
    groups, eps = node.attributes["num_groups"], node.get("epsilon", 1e-5)
    if node.opset >= 21:
        return functional.group_norm(values, groups, scale, bias, eps)
    repeats = values.size(1) // groups  # until opset 20 there was one scale for each group
    return functional.group_norm(values, groups, scale.repeat_interleave(repeats), bias.repeat_interleave(repeats), eps)


@operator_of("GridSample")
def _grid_sample(node: Node, values: Any, grid: Any) -> Any:
    mode = {"linear": "bilinear", "cubic": "bicubic"}.get(node.get("mode", "linear"), node.get("mode", "linear"))
    corners = bool(node.get("align_corners", 0))
    return functional.grid_sample(values, grid, mode, node.get("padding_mode", "zeros"), corners)


@operator_of("LRN")
def _local_response(node: Node, values: Any) -> Any:
    size = node.attributes["size"]
    low = (size - 1) // 2
    pads = [0, 0] * (node.ranks[0] - 2) + [low, size - 1 - low]
    squares = functional.pad(values.square(), pads).unfold(1, size, 1).sum(-1)
    return values / (node.get("bias", 1.0) + node.get("alpha", 1e-4) / size * squares) ** node.get("beta", 0.75)


@operator_of("LpNormalization")
def _lp_normalisation(node: Node, values: Any) -> Any:
    norm = torch.linalg.vector_norm(values, node.get("p", 2), dim=node.get("axis", -1), keepdim=True)
    return torch.where(norm == 0, torch.zeros_like(values), values / norm)


@operator_of("Dropout")
def _dropout(node: Node, values: Any, *_: Any) -> Any:
    return values
