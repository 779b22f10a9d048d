"""An ONNX graph converted to torch, and held against a runtime of ONNX."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from audit.core.errors import ModelError, one_line
from audit.core.note import Note, note
from audit.models.formats.onnx_builder import OnnxBuilder, Unsupported
from audit.models.formats.onnx_check import NoAnswer, differs, judge_of
from audit.models.formats.onnx_graph import Scores, image_input, inlined, opset_of, prune, require_known, scores_among
from audit.models.formats.onnx_images import ImageInput, OrientedNet, image_input_of
from audit.models.formats.onnx_quantised import QUANTISED
from audit.models.loaded import channels_last_note

if TYPE_CHECKING:
    from onnx import ModelProto

_SHARE = 0.01
"""The largest difference from the file's own scores, as a share of the largest."""
_QUANTISED_SHARE = 0.1
"""The same where numbers are rounded on the way: the last bit of a sum may round to the next level."""


def convert_graph(proto: ModelProto, name: str) -> tuple[OrientedNet, tuple[Note, ...]]:
    """The module that a file describes.

    Args:
        proto: The model, checked and sorted; its graph is pruned in place.
        name: The file's name, for notes and errors.

    Returns:
        The module, and notes on how it was converted.

    Raises:
        ModelError: It is no classifier of images, or is not converted.
    """
    scores = scores_among(proto.graph, name)
    value = image_input(proto, name)
    prune(proto.graph, scores)
    whole = inlined(proto)
    require_known(whole.graph, name)
    image = image_input_of(value, whole.graph, name)
    conversion = _Conversion(name, proto, whole, opset_of(whole), value.name, scores, image)
    module, judge = conversion.run()
    return module, tuple(_notes(conversion, module, judge))


@dataclass(frozen=True)
class _Conversion:
    """One file on its way to a module.

    Attributes:
        name: The file's name.
        proto: The model as the file has it, pruned.
        whole: The same without functions.
        opset: Of its operators.
        input: The name of the image input.
        scores: Its outputs.
        image: How it takes images.
    """

    name: str
    proto: ModelProto
    whole: ModelProto
    opset: int
    input: str
    scores: Scores
    image: ImageInput

    def run(self) -> tuple[OrientedNet, str]:
        """The module, and the name of what it was compared with."""
        faults: list[Exception] = []
        for shape in self.image.candidates():
            try:
                return self._for_shape(shape)
            except Unsupported as fault:
                faults.append(fault)
        raise ModelError(
            f"{self.name} cannot be converted to torch ({one_line(faults[0])}). Export the net without it, or give its "
            "weights with --architecture."
        ) from faults[0]

    def _for_shape(self, shape: tuple[int, ...]) -> tuple[OrientedNet, str]:
        """First for any batch size, then for the file's own, then for one image at a time."""
        raw = self.image.draw(shape, 3)
        own = self.image.batch
        probe = raw[:1].expand(own or 1, *shape).contiguous()
        fault: Exception | None = None
        judged: tuple[str, Any] | None = None
        sizes = (own or 1,) if self._ranges_over_batch else (0, own, 1) if own else (0, 1)
        for batch in dict.fromkeys(sizes):
            try:
                module = self._built(shape, batch)
            except Unsupported as refused:
                fault = fault or refused
                continue
            if judged is None:
                try:
                    judged = judge_of(self.proto, self.scores.values, probe)
                except NoAnswer as silent:
                    raise ModelError(
                        f"{self.name} runs neither in onnxruntime nor in ONNX's reference ({one_line(silent)}); export "
                        "it again."
                    ) from silent
            if self._agrees(module, judged[1], raw):
                return module, judged[0]
        if judged is None:
            raise fault or Unsupported("no batch size runs")
        raise ModelError(self._otherwise(judged[0]))

    def _built(self, shape: tuple[int, ...], batch: int) -> OrientedNet:
        own = self.image.batch
        sizes = (batch, batch) if batch else (own, 2 * own) if own else (2, 3)
        first, second = (self.image.computed(self.image.draw(shape, size)) for size in sizes)
        builder = OnnxBuilder(self.opset, 0 if batch else own, self.image.known)
        net = builder.build(self.whole.graph, self.input, self.scores.values, first, second)
        return OrientedNet(net, self.image, batch=batch, name=self.name)

    def _agrees(self, module: OrientedNet, judge: Any, raw: Tensor) -> bool:
        """Whether three images get the file's scores, together and alone."""
        own = self.image.batch or 1
        expected = [judge(row[None].expand(own, *row.shape).contiguous()) for row in raw]
        together = {name: torch.cat([answer[name][:1] for answer in expected]) for name in expected[0]}
        try:
            with torch.no_grad():
                answer = module.run(self.image.computed(raw))
        except (RuntimeError, IndexError):  # a shape that was settled for other batches
            return False
        return not differs(answer, together, share=self._share)

    @property
    def _ranges_over_batch(self) -> bool:
        """Whether the scale of rounding is told from all images together."""
        return any(node.op_type == "DynamicQuantizeLinear" for node in self.whole.graph.node)

    @property
    def _share(self) -> float:
        return _QUANTISED_SHARE if any(node.op_type in QUANTISED for node in self.whole.graph.node) else _SHARE

    def _otherwise(self, judge: str) -> str:
        if judge == "onnxruntime":
            return (
                f"{self.name} answers otherwise after its conversion to torch than in onnxruntime, so it is not used. "
                "Give its weights with --architecture."
            )
        return (
            f"{self.name} answers otherwise after its conversion to torch than in ONNX's reference, which is wrong for "
            "some operators; install onnxruntime, which decides."
        )


def _notes(conversion: _Conversion, module: OrientedNet, judge: str) -> Iterator[Note]:
    name, scores, image = conversion.name, conversion.scores, conversion.image
    yield note(
        "model_onnx",
        "{name} was converted from ONNX to torch; gradients are those of the converted modules.",
        name=name,
    )
    if judge != "onnxruntime":
        yield note(
            "model_onnx_reference",
            "{name} was compared with ONNX's reference, as onnxruntime is not installed or does not run it.",
            name=name,
        )
    if image.channels_last:
        yield channels_last_note(name)
    if image.scale != 1:
        yield note(
            "model_rescales",
            "{name} rescales pixels of 0 to 255 itself: images in [0, 1] are multiplied by 255 for it.",
            name=name,
        )
    if scores.decided:
        yield note(
            "model_onnx_decides",
            "{name} ends in {operator}, which gives classes and no scores: the scores that it decides from are used.",
            name=name,
            operator=scores.decided,
        )
    if scores.left:
        yield note(
            "model_onnx_outputs",
            "{name} has further outputs, which are not used: {outputs}.",
            name=name,
            outputs=", ".join(scores.left),
        )
    if image.raw == torch.float16 or _has_half(conversion.whole):
        yield note(
            "model_onnx_half",
            "{name} holds numbers of 16 bits: they are computed in float32, so that gradients are not rounded.",
            name=name,
        )
    if any(node.op_type in QUANTISED for node in conversion.whole.graph.node):
        yield note(
            "model_onnx_quantised",
            "{name} is quantised: its answers are those of the rounded numbers, gradients pass straight through the "
            "rounding.",
            name=name,
        )
    if module.largest_batch == 1 and image.batch != 1:
        yield note(
            "model_alone",
            "{name} answers an image otherwise beside other images of a batch: each is asked alone, which is slow.",
            name=name,
        )
    elif module.largest_batch == 1:
        yield note(
            "model_one_at_a_time",
            "{name} was exported for one image at a time, which is slow; export it with a free batch size.",
            name=name,
        )
    elif module.largest_batch:
        yield note(
            "model_in_batches",
            "{name} was exported for {batch} images at a time: it is asked in such batches, the last one filled up.",
            name=name,
            batch=str(module.largest_batch),
        )


def _has_half(proto: ModelProto) -> bool:
    return any(tensor.data_type in (10, 16) for tensor in proto.graph.initializer)
