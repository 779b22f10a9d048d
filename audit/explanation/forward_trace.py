"""A forward seen operation by operation, whether a module, a function or a method makes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from audit.core.types import Images, Logits
from audit.explanation.captum_guard import eager, restored, uncounted
from audit.models.forward_watch import OnOutput, OperationWatch, RunningLayers, running_layers
from audit.models.under_test import ModelUnderTest

See = Callable[["Operation"], Any]
"""Runs the operation, or answers in its place."""


class Operation:
    """One call of the forward, as ATen has it.

    Attributes:
        number: Which it is, from 0; the same one each time the net runs on an image of that size.
        function: The ATen overload.
        args: Its arguments by position.
        kwargs: Its arguments by name.
        layer: The name of the innermost layer that runs; empty in the net's own forward.
    """

    def __init__(self, number: int, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], layer: str) -> None:
        self.number, self.function, self.args, self.kwargs, self.layer = number, function, args, kwargs, layer

    def run(self) -> Any:
        """What the forward itself gets."""
        return self.function(*self.args, **self.kwargs)

    @property
    def name(self) -> str:
        """The name without overload, such as `aten.add`."""
        return str(self.function).rsplit(".", 1)[0]

    @property
    def tensors(self) -> list[Tensor]:
        """Every tensor among the arguments."""
        return [leaf for leaf in tree_leaves((self.args, self.kwargs)) if isinstance(leaf, Tensor)]


class _Watch(OperationWatch):  # type: ignore[no-untyped-call]
    """Numbers the operations and hands each to `see`; what hooks do meanwhile is not numbered."""

    def __init__(self, see: See) -> None:
        super().__init__()
        self.running: RunningLayers = []
        self.see, self.number, self.paused = see, -1, False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self.paused:
            return func(*args, **(kwargs or {}))
        self.number += 1
        layer = self.running[-1][0] if self.running else ""
        return self.see(Operation(self.number, func, args, kwargs or {}, layer))


def traced_forward(
    model: ModelUnderTest, image: Images, see: See = Operation.run, on_output: OnOutput | None = None
) -> Logits:
    """The logits of one image, (1, classes), each operation handed to `see` and each layer's output to `on_output`.

    Without gradients, in the unfused form, and not counted.

    Args:
        model: The model.
        image: Float32 (1, C, H, W).
        see: Called in the place of each operation.
        on_output: Called with the name and the output of each layer that gives a tensor, when it has run.
    """
    watch = _Watch(see)

    def passed_on(layer: str, output: Any) -> Any:
        if on_output is None or not isinstance(output, Tensor):
            return None
        watch.paused = True
        try:
            return on_output(layer, output)
        finally:
            watch.paused = False

    with restored(model), uncounted(model), eager(model), _unfused(), torch.no_grad():
        with running_layers(model.net, passed_on) as watch.running, watch:
            logits: Logits = model.module(image)
    return logits


@contextmanager
def _unfused() -> Iterator[None]:
    """PyTorch's transformer layers as the operations they are made of."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def float_tensors(value: Any) -> list[Tensor]:
    """The float and complex tensors among an operation's results.

    Args:
        value: What it gave.
    """
    return [
        leaf
        for leaf in tree_leaves(value)
        if isinstance(leaf, Tensor) and (leaf.is_floating_point() or leaf.is_complex())
    ]


def is_map(tensor: Tensor) -> bool:
    """Whether it has four axes and at least 2x2 positions, channels first or last.

    Args:
        tensor: A layer's output.
    """
    sides = sorted(tensor.shape[1:])
    return tensor.ndim == 4 and sides[1] >= 2 and tensor.is_floating_point()


def noise_like(tensor: Tensor, generator: torch.Generator) -> Tensor:
    """Noise of random sign, twice as large as what the tensor holds.

    Args:
        tensor: Any float tensor.
        generator: Draws it, on the CPU.
    """
    sizes = tensor.detach().abs().float()
    size = max(float(sizes.square().mean().sqrt()), 1e-3)
    return (2 * size * torch.randn(tensor.shape, generator=generator, device="cpu").sign()).to(tensor)
