"""The converted module beside the file itself, run by onnxruntime, or by ONNX's reference where that is missing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from audit.models.formats.onnx_graph import inputs_of, opset_of

if TYPE_CHECKING:
    from onnx import ModelProto

Judge = Callable[[Tensor], Mapping[str, Tensor]]
"""Images in the layout and type of the file to its outputs, by name."""

_OLDEST = 7
"""The first opset that runtimes run."""
_MODERN = 13
"""The opset that files from before it are brought to."""


class NoAnswer(Exception):
    """Neither runtime runs the file; the text says why."""


def judge_of(proto: ModelProto, outputs: Mapping[str, str], probe: Tensor) -> tuple[str, Judge]:
    """What runs the file as its authors meant it.

    Args:
        proto: The model.
        outputs: The values that are wanted, by the names of their outputs.
        probe: Images that it must run on.

    Returns:
        "onnxruntime" or "ONNX's reference", and the function that runs it.

    Raises:
        NoAnswer: Neither runs it.
    """
    faults = []
    runnable = _ending_in(_modern(proto, probe.shape), outputs)
    for name, make in (("onnxruntime", _onnxruntime), ("ONNX's reference", _reference)):
        try:
            judge = make(runnable, outputs)
            judge(probe)
            return name, judge
        except ImportError:
            continue
        except Exception as fault:  # each raises types of its own
            faults.append(f"{name}: {fault}")
    raise NoAnswer("; ".join(faults))


def differs(answer: Any, expected: Mapping[str, Tensor], *, share: float) -> bool:
    """Whether a conversion answers otherwise than the file.

    Args:
        answer: What the module gave: a tensor, or a dictionary.
        expected: What the file gave.
        share: The largest difference that is allowed, as a share of the largest score.
    """
    answers = answer if isinstance(answer, Mapping) else {next(iter(expected)): answer}
    return any(_apart(answers[name].float(), expected[name].float(), share) for name in expected)


def _apart(answer: Tensor, expected: Tensor, share: float) -> bool:
    if answer.shape != expected.shape or not torch.equal(answer.isfinite(), expected.isfinite()):
        return True
    finite = expected.isfinite()
    if not finite.any():
        return False
    return float((answer - expected)[finite].abs().max()) > share * float(expected[finite].abs().max()) + 1e-6


def _modern(proto: ModelProto, shape: Sequence[int]) -> ModelProto:
    """The model in operators that runtimes still have; they run none from before opset 7."""
    if opset_of(proto) >= _OLDEST:
        return proto
    sized = type(proto).FromString(proto.SerializeToString())
    for dim, size in zip(inputs_of(sized.graph)[0].type.tensor_type.shape.dim, shape, strict=False):
        dim.dim_value = size  # the converter asks for numbers
    try:
        return import_module("onnx.version_converter").convert_version(sized, _MODERN)  # type: ignore[no-any-return]
    except Exception:  # the C++ converter raises types of its own where it has no rule
        return proto


def _ending_in(proto: ModelProto, outputs: Mapping[str, str]) -> ModelProto:
    """The model with the wanted values as its outputs."""
    if set(outputs.values()) <= {value.name for value in proto.graph.output}:
        return proto
    changed = type(proto)()
    changed.CopyFrom(proto)
    kinds = {value.name: value for value in (*proto.graph.value_info, *proto.graph.output)}
    del changed.graph.output[:]
    for name in dict.fromkeys(outputs.values()):
        value = changed.graph.output.add()
        if name in kinds:
            value.CopyFrom(kinds[name])
        else:
            value.name = name
    return changed


def _onnxruntime(proto: ModelProto, outputs: Mapping[str, str]) -> Judge:
    runtime = import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = runtime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return _running(session.run, session.get_inputs()[0].name, outputs)


def _reference(proto: ModelProto, outputs: Mapping[str, str]) -> Judge:
    evaluator = import_module("onnx.reference").ReferenceEvaluator(proto)
    return _running(evaluator.run, inputs_of(proto.graph)[0].name, outputs)


def _running(run: Callable[..., Any], image: str, outputs: Mapping[str, str]) -> Judge:
    def judge(images: Tensor) -> Mapping[str, Tensor]:
        names = list(dict.fromkeys(outputs.values()))
        answers = dict(zip(names, run(names, {image: images.numpy()}), strict=True))
        return {label: torch.from_numpy(answers[name]) for label, name in outputs.items()}

    return judge
