"""Detectors in ONNX files, in the forms that exporters of the YOLO family and torchvision's write."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from audit.core.errors import ModelError, SetupError, UntrustedError, fault_line, one_line
from audit.core.note import Note, note
from audit.core.objects import Candidates, Detections
from audit.core.types import Images
from audit.models.detectors.boxes import suppressed
from audit.models.detectors.build import DetectorClasses
from audit.models.detectors.form import DetectorForm
from audit.models.detectors.onnx_outputs import OutputForm, output_form_of
from audit.models.formats.onnx_file import onnx
from audit.models.loaded import InputShape

_LEAST_SCORE, _SAME_OBJECT, _MOST = 0.01, 0.6, 100
"""What is suppressed where the file does not do it itself."""


def read_onnx_detector(path: Path, classes: DetectorClasses, input_shape: InputShape) -> DetectorForm:
    """The detector of an .onnx file. Its operators are converted to torch, for gradients; else onnxruntime runs it.

    Args:
        path: The file.
        classes: The classes of the data, in the order of the file's.
        input_shape: (C, H, W) of the images.

    Raises:
        SetupError: Without the extra `onnx`.
        ModelError: The outputs are of no known form: they are listed, with those that are known.
    """
    session = OnnxSession(path)
    session.require_size(input_shape)
    with torch.no_grad():
        answers = session(torch.full((1, *input_shape), 0.5, device="cpu"))
    shapes = {name: tuple(answer.shape) for name, answer in zip(session.outputs, answers, strict=True)}
    form = output_form_of(shapes, len(classes.names), path.name)
    if form.raw is None:
        return OnnxFinalForm(session, form)
    converted, reason = _converted(path)
    return OnnxRawForm(session if converted is None else converted, form, reason)


class OnnxSession(nn.Module):
    """A file run by onnxruntime on the CPU; it holds no state.

    Args:
        path: The file.

    Attributes:
        outputs: The names of its outputs.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        try:
            runtime: Any = import_module("onnxruntime")
        except ImportError as fault:
            raise SetupError(f"{path.name} needs onnxruntime; install it with pip install 'audit[onnx]'.") from fault
        options = runtime.SessionOptions()
        options.log_severity_level = 4
        try:
            self.session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as fault:  # the runtime raises types of its own
            raise ModelError(
                f"{path.name} does not run in onnxruntime ({one_line(fault)}); export it again."
            ) from fault
        self.name, self.input = path.name, self.session.get_inputs()[0]
        self.outputs = tuple(output.name for output in self.session.get_outputs())
        if len(self.session.get_inputs()) != 1 or len(self.input.shape) != 4:
            raise ModelError(
                f"{path.name} takes {[tuple(one.shape) for one in self.session.get_inputs()]}, where one input of "
                "images (N, C, H, W) was expected."
            )

    def __deepcopy__(self, memo: dict[int, Any]) -> OnnxSession:
        return self

    def require_size(self, shape: InputShape) -> None:
        """Raises ModelError where the file takes images of another size.

        Args:
            shape: (C, H, W) of the images.
        """
        own = tuple(self.input.shape[1:])
        if any(isinstance(side, int) and side != given for side, given in zip(own, shape, strict=True)):
            side = f" --image-size {own[1]} gives it." if own[0] == shape[0] and own[1] == own[2] else ""
            raise ModelError(
                f"{self.name} takes images of {'x'.join(map(str, own))}, not {'x'.join(map(str, shape))}.{side}"
            )

    def forward(self, images: Images) -> tuple[Tensor, ...]:
        """Its outputs for images, as many at a time as the file takes.

        Args:
            images: Float32 (N, C, H, W) in [0, 1].
        """
        pixels = images.detach().cpu().numpy()
        single = self.input.shape[0] == 1
        parts = [pixels[row : row + 1] for row in range(len(pixels))] if single else [pixels]
        answers = [self.session.run(None, {self.input.name: np.ascontiguousarray(part)}) for part in parts]
        joined = (
            np.concatenate(column) if single and len(parts) != 1 else column[0] for column in zip(*answers, strict=True)
        )
        return tuple(torch.from_numpy(np.asarray(values)).to(images.device) for values in joined)


class OnnxRawForm(DetectorForm):
    """A file that gives boxes and class scores before suppression; the form suppresses.

    Args:
        net: What gives the outputs.
        output: Their form.
        reason: Why there are no gradients; empty where there are.
    """

    gives_losses = False

    def __init__(self, net: nn.Module, output: OutputForm, reason: str) -> None:
        super().__init__()
        self.net, self.output = net, output
        self.gives_gradients = not reason
        told = note(
            "detector_onnx_raw",
            "The file gives boxes before suppression ({form}): those that score at least {score} are kept, and of a "
            "class those that overlap by more than {overlap} count as one.",
            form=output.what,
            score=_LEAST_SCORE,
            overlap=_SAME_OBJECT,
        )
        self.notes = (told, *(_no_gradients(reason) if reason else ()))

    def candidates(self, images: Images) -> list[Candidates]:
        """The boxes that the file gives.

        Args:
            images: Float32 (N, C, H, W) in [0, 1].
        """
        answers: Any = self.net(images)
        outputs = list(answers.values()) if isinstance(answers, Mapping) else answers
        outputs = [outputs] if isinstance(outputs, Tensor) else outputs
        assert self.output.raw is not None
        boxes, scores = self.output.raw(outputs)
        return [Candidates(own, some) for own, some in zip(boxes, scores, strict=True)]

    def detect(self, images: Images) -> list[Detections]:
        """What is left after suppression.

        Args:
            images: Float32 (N, C, H, W) in [0, 1].
        """
        return [
            suppressed(some, least_score=_LEAST_SCORE, overlap=_SAME_OBJECT, most=_MOST)
            for some in self.candidates(images)
        ]


class OnnxFinalForm(DetectorForm):
    """A file that suppresses inside: its boxes are all there is.

    Args:
        session: What gives the outputs.
        output: Their form.
    """

    gives_losses = gives_candidates = gives_gradients = False

    def __init__(self, session: OnnxSession, output: OutputForm) -> None:
        super().__init__()
        self.net, self.output = session, output
        self.notes = (
            note(
                "detector_onnx_final",
                "The file suppresses inside ({form}): the detector is asked for its boxes alone.",
                form=output.what,
            ),
        )

    def detect(self, images: Images) -> list[Detections]:
        """What the file answers, an image at a time.

        Args:
            images: Float32 (N, C, H, W) in [0, 1].
        """
        assert self.output.final is not None
        return [self.output.final(self.net(images[row : row + 1]), 0) for row in range(len(images))]


def _converted(path: Path) -> tuple[nn.Module | None, str]:
    """The file in torch; else None and why."""
    try:
        return onnx(path, ()).module, ""
    except UntrustedError:
        raise
    except Exception as fault:  # whatever the conversion refuses, the runtime still runs it
        return None, fault_line(fault).rstrip(".")


def _no_gradients(reason: str) -> tuple[Note, ...]:
    return (
        note(
            "detector_onnx_no_gradients",
            "The file is run by onnxruntime and has no gradients here, as it is not converted to torch: {reason}.",
            reason=reason,
        ),
    )
