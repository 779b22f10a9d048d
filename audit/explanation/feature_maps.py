"""Every layer's feature maps in one forward, and the gradients that a value has with respect to them."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn


class FeatureMaps:
    """Keeps, while it is entered, the outputs (N, C, h, w) of the modules that ran once in the last forward.

    Args:
        net: The net, whose first input holds the N images.
    """

    def __init__(self, net: nn.Module) -> None:
        self._net = net
        self._handles: list[Any] = []
        self._outputs: dict[nn.Module, list[Tensor]] = {}

    def __enter__(self) -> FeatureMaps:
        """Begin to keep."""
        for module in self._net.modules():
            if not any(module.children()):
                self._handles.append(module.register_forward_hook(self._keep))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Keep no more."""
        for handle in self._handles:
            handle.remove()
        self.forget()

    @property
    def outputs(self) -> list[Tensor]:
        """The feature maps in the order of the layers."""
        return [given[0] for given in self._outputs.values() if len(given) == 1 and _is_maps(given[0])]

    def gradients(self, values: Tensor) -> Sequence[Tensor | None]:
        """The gradient of the sum of values with respect to each of `outputs`; None where they do not depend on it.

        Args:
            values: One value an image, computed in the last forward, (N,).
        """
        outputs = [output for output in self.outputs if len(output) == len(values) and output.requires_grad]
        answers = torch.autograd.grad(values.sum(), outputs, retain_graph=True, allow_unused=True) if outputs else ()
        found = {id(output): answer for output, answer in zip(outputs, answers, strict=True)}
        return [found.get(id(output)) for output in self.outputs]

    def forget(self) -> None:
        """Let go of the last forward, before the next."""
        self._outputs.clear()

    def _keep(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if isinstance(output, Tensor) and output.requires_grad:
            self._outputs.setdefault(module, []).append(output)


def _is_maps(output: Tensor) -> bool:
    return output.ndim == 4 and min(output.shape[2:]) > 1
