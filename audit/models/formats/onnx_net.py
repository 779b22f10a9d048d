"""The module that an ONNX graph becomes: its nodes as torch layers and functions, run in the order of the file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from audit.models.formats.onnx_node import Node
from audit.models.formats.onnx_operators import OPERATORS


@dataclass(frozen=True)
class Value:
    """An input that an earlier step computed.

    Attributes:
        name: Its name.
        moved: Whether it was made on the processor, out of shapes, and is wanted where the images are.
    """

    name: str
    moved: bool = False


@dataclass(frozen=True)
class Buffer:
    """An input that is a constant of the net, moved with it.

    Attributes:
        name: The buffer's name.
    """

    name: str


Source = Value | Buffer | Tensor | None
"""Where an input comes from; a tensor is a constant that says a shape and stays on the processor."""


@dataclass(frozen=True)
class OnnxStep:
    """One node of the graph.

    Attributes:
        node: What the operator needs to know.
        inputs: Where its inputs come from.
        outputs: The names of its outputs, "" for one that nothing reads.
        layer: The name of its layer, "" where it is a function.
    """

    node: Node
    inputs: tuple[Source, ...]
    outputs: tuple[str, ...]
    layer: str = ""

    @property
    def reads(self) -> set[str]:
        """The names of the values that it takes."""
        return {source.name for source in self.inputs if isinstance(source, Value)}


class OnnxNet(nn.Module):
    """An ONNX graph in torch: one tensor in, its scores out; torch.fx traces it where every shape is known.

    Attributes:
        bound: Whether it is right for images of the file's own size only.
    """

    def __init__(
        self,
        steps: Sequence[OnnxStep],
        layers: Mapping[str, nn.Module],
        buffers: Mapping[str, Tensor],
        *,
        image: str,
        scores: Mapping[str, str],
    ) -> None:
        """The steps that the scores depend on.

        Args:
            steps: In the order of the graph.
            layers: What their `layer` names.
            buffers: What their `Buffer` names.
            image: The value's name that the images are.
            scores: The values that are given back, by the names of their outputs.
        """
        super().__init__()
        self.steps = _needed(steps, set(scores.values()))
        used = {step.layer for step in self.steps}
        self.layers = nn.ModuleDict({name: layer for name, layer in layers.items() if name in used})
        read = {source.name for step in self.steps for source in step.inputs if isinstance(source, Buffer)}
        for name in read:
            self.register_buffer(name, buffers[name])
        self.bound = any(_padded_by_size(step.node) for step in self.steps)
        self.image = image
        self.scores = dict(scores)
        self.done = _last_reads(self.steps, keep=set(scores.values()))

    def forward(self, images: Tensor) -> Any:
        """The graph's scores: a tensor, or a dictionary of several by the names of the outputs.

        Args:
            images: In the shape and the type that the graph takes.
        """
        values: dict[str, Any] = {self.image: images}
        for step, done in zip(self.steps, self.done, strict=True):
            inputs = [self._read(source, values) for source in step.inputs]
            result = self.layers[step.layer](*inputs) if step.layer else OPERATORS[step.node.op](step.node, *inputs)
            store(values, step.outputs, result)
            for name in done - {self.image}:
                values.pop(name, None)
        answers = {label: values[name] for label, name in self.scores.items()}
        return answers if len(answers) > 1 else next(iter(answers.values()))

    def _read(self, source: Source, values: Mapping[str, Any]) -> Any:
        if isinstance(source, Value):
            return values[source.name].to(values[self.image].device) if source.moved else values[source.name]
        return getattr(self, source.name) if isinstance(source, Buffer) else source


def store(values: dict[str, Any], names: Sequence[str], result: Any) -> None:
    """Keep what a node gave.

    Args:
        values: By name; changed.
        names: The names of the node's outputs.
        result: Its output, or a list or tuple of its outputs.
    """
    results = result if isinstance(result, (list, tuple)) else (result,)
    for name, value in zip(names, results, strict=False):
        if name:
            values[name] = value


def _padded_by_size(node: Node) -> bool:
    """Whether the padding of its windows was settled for one size of images."""
    automatic = str(node.get("auto_pad", "")).startswith("SAME") and node.shape is not None
    return automatic and max(node.get("strides") or [1]) > 1


def _needed(steps: Sequence[OnnxStep], wanted: set[str]) -> list[OnnxStep]:
    needed = []
    for step in reversed(steps):
        if wanted & set(step.outputs):
            needed.append(step)
            wanted = wanted | step.reads
    return needed[::-1]


def _last_reads(steps: Sequence[OnnxStep], *, keep: set[str]) -> list[frozenset[str]]:
    """For each step the values that nothing reads after it."""
    seen, done = set(keep), []
    for step in reversed(steps):
        names = (step.reads | set(step.outputs)) - seen
        seen |= names
        done.append(frozenset(names))
    return done[::-1]
