"""What a net does after one of its layers, run by itself: from the layer's map to the logits.

The operations that follow the layer are recorded at one forward and run again on other maps, which spares everything
before the layer. Where they do not give another image's logits from its map, as where something goes past the layer,
the whole net runs with the map put in its place.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from audit.core.types import Images, Logits, PassCount
from audit.explanation.captum_guard import restored, uncounted
from audit.explanation.forward_trace import Operation, float_tensors, traced_forward
from audit.models.batching import in_batches, is_out_of_memory
from audit.models.precision import ieee_float32
from audit.models.under_test import ModelUnderTest

_BATCHES = (32, 16, 8, 4, 2, 1)
"""Maps that the recorded operations take at once, the most that memory holds; fewer are filled up."""
_SAME = 1e-4
"""Difference of logits, as a share of the largest, up to which they count as equal."""

_Step = tuple[Any, tuple[Any, ...], dict[str, Any], Any]
"""A recorded call: function, arguments by position and by name, and what it gave."""


class LayerTail:
    """The part of a net after a layer.

    Attributes:
        replays: Whether the operations after the layer run alone; otherwise the whole net does.
        share: What a replayed map costs, as a share of a forward: its part of the numbers that operations give.
        batch: Maps that are replayed at once.
    """

    def __init__(self, model: ModelUnderTest, layer: str) -> None:
        """Record the operations after a layer.

        Args:
            model: The model; one forward of images of noise, counted.
            layer: The name of a layer that gives a tensor with a row an image.
        """
        self.model, self.layer = model, layer
        self._steps: list[_Step] = []
        self.share = 1.0
        self._origin: Tensor = torch.empty(0)
        self._writes_outside = False
        for self.batch in _BATCHES:
            try:
                self._prepare()
                break
            except (RuntimeError, MemoryError) as fault:
                if not is_out_of_memory(fault) or self.batch == 1:
                    raise

    def _prepare(self) -> None:
        """Record on images of noise, and see whether that gives the logits of others."""
        generator = torch.Generator(device="cpu").manual_seed(12)
        shape = (2 * _BATCHES[0], *self.model.input_shape)
        noise = torch.rand(*shape, generator=generator, device="cpu")[: 2 * self.batch].to(self.model.device)
        with ieee_float32():
            self._logits = self._record(noise[: self.batch])
            self.replays = self._is_faithful(noise[self.batch :])
        self.model.charge(PassCount(len(noise)))

    def maps(self, images: Images) -> Tensor:
        """What the layer gives of images, (N, ...).

        Args:
            images: Float32 (N, C, H, W) in [0, 1].
        """
        parts: list[Tensor] = []
        images = self.model.check_images(images)

        def batch(rows: slice) -> Tensor:
            self.model.module(images[rows])
            last = parts[-1]
            parts.clear()
            return last

        with restored(self.model), torch.no_grad(), ieee_float32():
            layer = self.model.net.get_submodule(self.layer)
            layer.register_forward_hook(lambda _, __, output: parts.append(output.clone()))
            return torch.cat(list(in_batches(len(images), self.model.layout, batch)))

    def logits(self, maps: Tensor, images: Images) -> Logits:
        """The logits from maps, without gradients, (N, classes).

        Args:
            maps: What the layer is to give, (N, ...).
            images: The images they are of, (N, C, H, W), for what goes past the layer.
        """
        with torch.no_grad(), ieee_float32():
            return self._run(maps, images)

    def gradient(self, maps: Tensor, images: Images, output: Callable[[Logits], Tensor]) -> Tensor:
        """The derivative of an output of each image to its map, (N, ...).

        Args:
            maps: What the layer gives, (N, ...).
            images: The images they are of, (N, C, H, W).
            output: One number an image, (N,), of logits (N, classes).
        """
        with torch.enable_grad(), ieee_float32():
            leaf = maps.detach().clone().requires_grad_(True)
            (gradient,) = torch.autograd.grad(output(self._run(leaf, images)).sum(), leaf)
        self.model.charge(PassCount(0, math.ceil(len(maps) * (self.share if self.replays else 0))))
        return gradient

    def _run(self, maps: Tensor, images: Images) -> Logits:
        if not len(maps):
            return maps.new_zeros(0, len(self.model.classes))
        if not self.replays:
            return self._with_map(maps, images)
        self.model.charge(PassCount(math.ceil(len(maps) * self.share)))
        return torch.cat([self._replay(part)[: len(part)] for part in torch.split(maps, self.batch)])

    def _with_map(self, maps: Tensor, images: Images) -> Logits:
        """The whole net with the layer's map replaced each time it runs."""
        images = self.model.check_images(images)
        with restored(self.model):
            layer = self.model.net.get_submodule(self.layer)

            def batch(rows: slice) -> Logits:
                hook = layer.register_forward_hook(lambda _, __, ___: maps[rows].clone())
                try:
                    logits: Logits = self.model.module(images[rows])
                finally:
                    hook.remove()
                return logits

            return torch.cat(list(in_batches(len(maps), self.model.layout, batch)))

    def _record(self, images: Images) -> Logits:
        total = after = 0
        on_tape: set[int] = set()
        alive: list[Any] = []

        def see(operation: Operation) -> Any:
            nonlocal total, after
            result = operation.run()
            alive.append(result)
            size = sum(tensor.numel() for tensor in float_tensors(result))
            total += size
            inputs = operation.tensors
            if any(id(tensor) in on_tape for tensor in inputs):
                after += size
                if operation.function._schema.is_mutable and id(inputs[0]) not in on_tape:
                    self._writes_outside = True
                on_tape.update(id(leaf) for leaf in tree_leaves(result) if isinstance(leaf, Tensor))
                self._steps.append((operation.function, operation.args, operation.kwargs, result))
            return result

        def start(name: str, output: Any) -> None:
            nonlocal after
            if name == self.layer:
                self._steps.clear()
                self._writes_outside = False
                on_tape.clear()
                on_tape.add(id(output))
                self._origin, after = output, 0
                alive.append(output)

        logits = traced_forward(self.model, images, see, start)
        self.share = after / max(total, 1)
        return logits

    def _replay(self, maps: Tensor) -> Tensor:
        """The recorded operations on other maps, filled up to as many as were recorded."""
        filled = torch.empty_like(self._origin)
        filled = filled.copy_(torch.cat([maps, maps[-1:].expand(self.batch - len(maps), *maps.shape[1:])]))
        values: dict[int, Tensor] = {id(self._origin): filled}

        def current(value: Any) -> Any:
            return values.get(id(value), value) if isinstance(value, Tensor) else value

        for function, args, kwargs, recorded in self._steps:
            args, kwargs = tree_map(current, args), tree_map(current, kwargs)
            result = function(*args, **kwargs)
            for old, new in zip(tree_leaves(recorded), tree_leaves(result), strict=True):
                if isinstance(old, Tensor):
                    values[id(old)] = new
        return values[id(self._logits)] if id(self._logits) in values else self._logits

    def _is_faithful(self, others: Images) -> bool:
        """Whether the recorded operations give other images' logits from their maps."""
        with uncounted(self.model), torch.no_grad():
            maps, expected = self.maps(others), self.model.module(others)
            if maps.shape != self._origin.shape or self._writes_outside:
                return False
            try:
                replayed = self._replay(maps)
            except (RuntimeError, ValueError):
                return False
        difference = float((replayed - expected).abs().max())
        return replayed.shape == expected.shape and difference <= _SAME * max(float(expected.abs().max()), 1e-30)
