"""The operations that bounds can go through, by their names in torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from audit.bounds.activations import RELU, SIGMOID, TANH, Activation, elu, softplus
from audit.bounds.linear_rules import LINEAR_RULES, OperationRule
from audit.bounds.maxima import absolute, clamped, leaky, maximum
from audit.bounds.pooling import max_pooled
from audit.bounds.trace import Recorder
from audit.bounds.weighted_rules import WEIGHTED_RULES


def _activation(build: Callable[..., Activation]) -> OperationRule:
    def rule(recorder: Recorder, output: Tensor, x: Tensor, *args: Any, **kwargs: Any) -> int:
        source = recorder.position(x)
        assert source is not None
        return recorder.add(build(recorder, *args, **kwargs), [source], output.shape[1:])

    return rule


def _softplus(recorder: Recorder, beta: float = 1, threshold: float = 20) -> Activation:
    if threshold < 20:
        raise recorder.refused("a softplus with a threshold below 20")
    return softplus(beta)


def _elu(recorder: Recorder, alpha: float = 1, scale: float = 1, input_scale: float = 1) -> Activation:
    if not (0 <= alpha <= 1 and scale == input_scale == 1):
        raise recorder.refused("an ELU that is not convex")
    return elu(float(alpha))


RULES: dict[str, OperationRule] = {
    **LINEAR_RULES,
    **WEIGHTED_RULES,
    "relu": _activation(lambda recorder: RELU),
    "sigmoid": _activation(lambda recorder: SIGMOID),
    "tanh": _activation(lambda recorder: TANH),
    "softplus": _activation(_softplus),
    "elu": _activation(_elu),
    "leaky_relu": leaky,
    "_prelu_kernel": leaky,
    "prelu": leaky,
    "abs": absolute,
    "clamp": clamped,
    "clamp_min": clamped,
    "clamp_max": lambda recorder, output, x, high: clamped(recorder, output, x, None, high),
    "hardtanh": lambda recorder, output, x, low=-1.0, high=1.0: clamped(recorder, output, x, low, high),
    "maximum": maximum(1.0),
    "minimum": maximum(-1.0),
    "max_pool2d_with_indices": max_pooled,
}
"""By name of the operation in `torch.ops.aten`."""
