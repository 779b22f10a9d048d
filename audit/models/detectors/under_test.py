"""The detector under test, which every method is handed: a frozen private copy; the user's module is never changed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from audit.core.errors import AuditError, ModelError, UsageError, fault_line
from audit.core.note import Note
from audit.core.objects import Candidates, Detections, Objects
from audit.core.seeding import fork_global_rng
from audit.core.types import Images
from audit.models.batching import ExecutionLayout, in_batches, is_out_of_memory, set_memory_format
from audit.models.detectors.form import DetectorForm
from audit.models.devices import resolve_device
from audit.models.image_model import ImageModel
from audit.models.module_copy import copy_module
from audit.models.pass_counter import PassCounter
from audit.models.precision import ieee_float32
from audit.models.state_hash import hash_state

_Answer = TypeVar("_Answer")
BoxObjective = Callable[[list[Candidates], slice], Tensor]
"""`(candidates, rows) -> values (M,)`: one value for each image at the positions `rows` of the call, never reduced."""

_PIXELS_A_BATCH = 64 * 128 * 128
"""Pixels in a batch on a CPU: 64 images of 128 by 128, one of a detector that enlarges to 800 by 1333."""
_ON_AN_ACCELERATOR = 8
"""How many times as many there."""


class DetectorGradient(NamedTuple):
    """A value of each image and its gradient.

    Attributes:
        values: The losses, or what the objective gave, (N,).
        gradient: The gradient of each image's own value with respect to the image, (N, C, H, W).
    """

    values: Tensor
    gradient: Images


class DetectorUnderTest(ImageModel):
    """An object detector that takes images in [0, 1], answers in boxes, and counts its passes.

    The form is copied, set to eval mode and frozen.

    Args:
        form: The detector behind an adapter.
        classes: Names by position, one or more.
        input_shape: (C, H, W) of its images.
        device: Where it runs; "auto" takes an accelerator when there is one.

    Raises:
        ModelError: When it does not run on such images or answers with something else than boxes.
        UsageError: For no classes.
    """

    what = "detector"

    def __init__(
        self,
        form: DetectorForm,
        *,
        classes: Sequence[str],
        input_shape: tuple[int, int, int],
        device: torch.device | str = "auto",
    ) -> None:
        self.classes = tuple(str(name) for name in classes)
        channels, height, width = input_shape
        self.input_shape = (channels, height, width)
        self.device = resolve_device(device)
        if not self.classes:
            raise UsageError("A detector needs at least one class; none given.")
        self.form = copy_module(form).requires_grad_(False).eval().to(self.device)
        self.layout = ExecutionLayout(batch_size=_batch_size(self.form.working_pixels(height, width), self.device))
        set_memory_format(self.form, channels_last=True)
        self._meter = PassCounter()
        self._probe()

    @property
    def notes(self) -> tuple[Note, ...]:
        """What a reader should know about how the detector is run."""
        return self.form.notes

    @property
    def gives_losses(self) -> bool:
        """Whether there are losses; their gradients too, where `gives_gradients`."""
        return self.form.gives_losses

    @property
    def gives_candidates(self) -> bool:
        """Whether there are boxes before suppression."""
        return self.form.gives_candidates

    @property
    def gives_gradients(self) -> bool:
        """Whether losses and candidates have gradients with respect to the images."""
        return self.form.gives_gradients

    @property
    def meter(self) -> PassCounter:
        """Counts its passes."""
        return self._meter

    def detect(self, images: Images) -> list[Detections]:
        """What is found in each image, in float32 eager mode.

        Args:
            images: Float (N, C, H, W) in [0, 1], on any device.

        Returns:
            The detections in each image by falling score, on the detector's device.
        """
        images = self.check_images(images)

        def answer(rows: slice) -> list[Detections]:
            return [_by_score(found) for found in self._asked(self.form.detect, images[rows])]

        with torch.no_grad(), ieee_float32():
            return [found for part in in_batches(len(images), self.layout, answer) for found in part]

    def candidates(self, images: Images) -> list[Candidates]:
        """The boxes of each image before suppression, without gradients. Raises NotApplicable where there are none.

        Args:
            images: Float (N, C, H, W) in [0, 1], on any device.
        """
        images = self.check_images(images)
        with torch.no_grad(), ieee_float32():
            parts = in_batches(len(images), self.layout, lambda rows: self._asked(self.form.candidates, images[rows]))
            return [candidates for part in parts for candidates in part]

    def losses(self, images: Images, objects: Sequence[Objects]) -> Tensor:
        """The loss of each image that the detector is trained by, without gradients.

        What it draws at random, as Faster R-CNN does its samples of anchors, is drawn the same at each call and for
        each image. Raises NotApplicable where the detector gives no losses.

        Args:
            images: Float (N, C, H, W) in [0, 1], on any device.
            objects: What is to be found in each image, (N,): the truth, nothing, or what an attack wants to be found.

        Returns:
            Float32 (N,) on the detector's device.
        """
        images, there = self.check_images(images), self._check_objects(objects, len(images))
        with torch.no_grad(), ieee_float32():
            parts = list(in_batches(len(images), self.layout, lambda rows: self._losses(images[rows], there[rows])))
        return torch.cat(parts) if parts else images.new_zeros(0)

    def loss_gradient(self, images: Images, objects: Sequence[Objects]) -> DetectorGradient:
        """The losses, see `losses`, and the gradient of each image's own with respect to it; weights get none.

        Args:
            images: Float (N, C, H, W) in [0, 1].
            objects: What is to be found in each image, (N,).
        """
        images, there = self.check_images(images), self._check_objects(objects, len(images))
        return self._gradient(images, lambda leaf, rows: self._losses(leaf, there[rows]))

    def candidate_gradient(self, images: Images, objective: BoxObjective) -> DetectorGradient:
        """A value of each image's candidates and its gradient with respect to the image; weights get none.

        Args:
            images: Float (N, C, H, W) in [0, 1].
            objective: Gives one value for each image from its candidates.
        """
        images = self.check_images(images)
        return self._gradient(images, lambda leaf, rows: objective(self._asked(self.form.candidates, leaf), rows))

    def fingerprint(self) -> str:
        """SHA-256 of weights, structure, classes and input shape: what the answers depend on."""
        digest = hashlib.sha256(repr((str(self.form), self.classes, self.input_shape)).encode())
        hash_state(digest, self.form)
        return digest.hexdigest()

    def _check_objects(self, objects: Sequence[Objects], images: int) -> list[Objects]:
        if len(objects) != images:
            raise UsageError(f"Objects of {len(objects)} images were given with {images} images: one entry an image.")
        return [some.to(self.device) for some in objects]

    def _losses(self, images: Images, objects: Sequence[Objects]) -> Tensor:
        with fork_global_rng(self.device, "detector losses"):
            return self._asked(lambda leaf: self.form.losses(leaf, objects), images)

    def _gradient(self, images: Images, value: Callable[[Images, slice], Tensor]) -> DetectorGradient:
        def gradient_of(rows: slice) -> DetectorGradient:
            with torch.enable_grad():
                leaf = images[rows].detach().requires_grad_(True)
                values = value(leaf, rows)
                # The loss of an SSD where nothing is to be found does not depend on the image: it is flat.
                (gradient,) = torch.autograd.grad(values.sum() + 0 * leaf.sum(), leaf)
            self.meter.backwards += len(leaf)
            return DetectorGradient(values.detach(), gradient)

        with ieee_float32():
            parts = list(in_batches(len(images), self.layout, gradient_of))
        if not parts:
            return DetectorGradient(images.new_zeros(0), images)
        return DetectorGradient(*(torch.cat(column) for column in zip(*parts, strict=True)))

    def _asked(self, answer: Callable[[Images], _Answer], images: Images) -> _Answer:
        given = answer(images)
        self.meter.forwards += len(images)
        return given

    def _probe(self) -> None:
        """Show on an image of noise that it runs, with the channels last or else first, and answers with boxes."""
        generator = torch.Generator(device="cpu").manual_seed(0)
        noise = torch.rand(2, *self.input_shape, generator=generator, device="cpu").to(self.device)
        try:
            with torch.no_grad(), ieee_float32():
                try:
                    answers = self.form.detect(noise)
                except RuntimeError as fault:
                    if is_out_of_memory(fault):
                        raise
                    set_memory_format(self.form, channels_last=False)
                    answers = self.form.detect(noise)
        except AuditError:
            raise
        except Exception as fault:  # a user's forward raises whatever it likes
            if is_out_of_memory(fault):
                raise
            shape = " x ".join(map(str, self.input_shape))
            raise ModelError(
                f"The detector does not run on images of {shape}: {fault_line(fault)}. Give the size it expects with "
                "--image-size."
            ) from fault
        for found in answers:
            _require_boxes(found, len(self.classes))


def _by_score(found: Detections) -> Detections:
    """By falling score."""
    order = found.scores.argsort(descending=True, stable=True)
    return Detections(found.boxes.float()[order], found.labels.long()[order], found.scores.float()[order])


def _require_boxes(found: Detections, classes: int) -> None:
    """Raises ModelError for what is no detections."""
    boxes, labels, scores = found.boxes, found.labels, found.scores
    sizes = tuple(boxes.shape) == (len(scores), 4) and labels.shape == scores.shape
    if not sizes:
        raise ModelError(
            f"The detector answers with boxes {tuple(boxes.shape)}, labels {tuple(labels.shape)} and scores "
            f"{tuple(scores.shape)} for an image, where (M, 4), (M,) and (M,) were expected."
        )
    if not bool(boxes.isfinite().all() and scores.isfinite().all()):
        raise ModelError("The detector answers with boxes or scores that are not finite: check its weights.")
    if not bool(((scores >= 0) & (scores <= 1)).all()):
        raise ModelError("The detector's scores are not in [0, 1]: apply its sigmoid or softmax.")
    if not bool(((labels >= 0) & (labels < classes)).all()):
        raise ModelError(f"The detector answers with a label that is none of the {classes} classes.")
    if not bool((boxes[:, 2:] >= boxes[:, :2]).all()):
        raise ModelError("The detector's boxes are inverted: x1, y1, x2, y2 with x1 <= x2 and y1 <= y2 were expected.")


def _batch_size(pixels: int, device: torch.device) -> int:
    budget = _PIXELS_A_BATCH * (1 if device.type == "cpu" else _ON_AN_ACCELERATOR)
    return max(1, min(64, budget // pixels))
