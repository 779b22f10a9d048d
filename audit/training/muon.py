"""Muon: momentum made orthogonal, for weights that are matrices; Adam for the others.

Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks"; the size of a step by Liu et al. 2025
(arXiv:2502.16982, Eq. 4), so that a learning rate means for a matrix what it means in Adam. torch's own takes
two-dimensional weights alone and no convolutions.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

_MOMENTUM = 0.9
_BETAS = 0.9, 0.999
_TINY = 1e-8
_STEPS = 5
_QUINTIC = 3.4445, -4.7750, 2.0315
"""Coefficients of the Newton-Schulz iteration, chosen for its slope at 0: it ends near 1, within 0.3, and not at 1."""
_ADAM_RMS = 0.2
"""The root mean square of a step of Adam at rate 1 that is usual in training."""


class Muon(Optimizer):
    """Descend along the orthogonal matrix nearest to the momentum of each weight matrix.

    A group is a mapping with "params", "lr", "weight_decay" (decoupled) and "matrices": whether its weights of two
    axes or more, flattened behind the first, are stepped so. The others, and those of groups without, take Adam's step.
    """

    # torch guards these against being compiled, and to do so imports its compiler at the first call: a second of
    # imports for what is never compiled here.
    add_param_group = inspect.unwrap(Optimizer.add_param_group)
    zero_grad = inspect.unwrap(Optimizer.zero_grad)
    state_dict = inspect.unwrap(Optimizer.state_dict)
    load_state_dict = inspect.unwrap(Optimizer.load_state_dict)

    def __init__(self, groups: Iterable[Mapping[str, Any]], *, lr: float, weight_decay: float = 0.0) -> None:
        """An optimiser with empty state.

        Args:
            groups: Parameter groups.
            lr: The learning rate of groups that give none.
            weight_decay: Share of a weight that a step at rate 1 takes away, likewise.
        """
        super().__init__([dict(group) for group in groups], {"lr": lr, "weight_decay": weight_decay, "matrices": False})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Take one step along the gradients of the weights.

        Args:
            closure: Not used.
        """
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                matrix = group["matrices"] and weight.ndim > 1 and weight.is_floating_point()
                direction = self._orthogonal(weight) if matrix else self._adam(weight)
                weight.add_(direction.to(weight), alpha=-group["lr"])

    def _orthogonal(self, weight: nn.Parameter) -> Tensor:
        """The momentum, looked ahead as Nesterov's, as an orthogonal matrix of Adam's root mean square."""
        gradient, state = weight.grad, self.state[weight]
        assert gradient is not None
        momentum: Tensor = state.setdefault("momentum", torch.zeros_like(weight))
        momentum.mul_(_MOMENTUM).add_(gradient)
        matrix = gradient.add(momentum, alpha=_MOMENTUM).flatten(1)
        size: float = _ADAM_RMS * max(matrix.shape) ** 0.5
        return orthogonalised(matrix).view(weight.shape) * size

    def _adam(self, weight: nn.Parameter) -> Tensor:
        """Adam's direction (Kingma & Ba 2015, arXiv:1412.6980, Algorithm 1)."""
        gradient, state = weight.grad, self.state[weight]
        assert gradient is not None
        if not state:
            state |= {"steps": torch.zeros((), device="cpu"), "mean": torch.zeros_like(weight)}
            state["square"] = torch.zeros_like(weight.abs())
        state["steps"] += 1
        steps = int(state["steps"])
        mean: Tensor = state["mean"].lerp_(gradient, 1 - _BETAS[0]) / (1 - _BETAS[0] ** steps)
        square: Tensor = state["square"].lerp_(gradient.abs().square(), 1 - _BETAS[1]) / (1 - _BETAS[1] ** steps)
        return mean / (square.sqrt() + _TINY)


def orthogonalised(matrix: Tensor) -> Tensor:
    """The matrix with its singular values moved near 1, by five steps of Newton-Schulz.

    Every iterate is a polynomial of G = M M^T times M, so the iteration runs on the smaller Gram matrix.

    Args:
        matrix: Float (R, C).

    Returns:
        Float32 (R, C).
    """
    wide = matrix.float() if matrix.shape[0] <= matrix.shape[1] else matrix.float().T
    wide = wide / (wide.norm() + 1e-12)
    first, third, fifth = _QUINTIC
    gram = wide @ wide.T
    factor = torch.eye(len(gram), device=gram.device)
    for _ in range(_STEPS):
        square = factor @ factor @ gram
        inner = torch.addmm(square, square, square, beta=third, alpha=fifth)
        factor = torch.addmm(factor, inner, factor, beta=first)
    nearest: Tensor = factor @ wide
    return nearest if matrix.shape[0] <= matrix.shape[1] else nearest.T
