"""The model under test, which every method is handed: a frozen private copy; the user's module is never changed."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from audit.core.errors import AuditError, ModelError, UsageError
from audit.core.note import Note
from audit.core.types import Images, Labels, Logits
from audit.models.batch_statistics import batch_statistics_notes, failed_forward
from audit.models.batching import ExecutionLayout, in_batches, is_out_of_memory, set_memory_format
from audit.models.devices import resolve_device
from audit.models.flat_faces import GradientPoint, find_gradient_point
from audit.models.image_model import ImageModel
from audit.models.module_checks import as_module, why_it_does_not_run
from audit.models.net_form import NetForm, other_forms, private_copy
from audit.models.normalised_model import NormalisedModel, normalisation
from audit.models.outputs import OutputChoice, OutputKind, OutputReader, choose_outputs, chosen_outputs, learn_outputs
from audit.models.pass_counter import PassCounter
from audit.models.precision import ieee_float32
from audit.models.state_hash import hash_state

Loss = Callable[[Logits, Labels], Tensor]
"""`(logits, labels) -> losses (N,)`: one value an example, never reduced."""


class LossGradient(NamedTuple):
    """The loss of each example and its gradient.

    Attributes:
        logits: (N, classes).
        losses: (N,).
        gradient: The gradient of each example's own loss with respect to its image, (N, C, H, W).
    """

    logits: Logits
    losses: Tensor
    gradient: Images


class ModelUnderTest(ImageModel):
    """An image classifier that takes images in [0, 1], gives logits and counts its passes.

    The module is copied, set to eval mode and frozen.

    Attributes:
        runtime: What answers in place of the module where no gradient is asked for, as the runtime of a quantised file
            does: images in [0, 1] to logits. None for the module itself.

    Args:
        module: The classifier; it gives logits, probabilities or one sigmoid output.
        classes: Names in the order of its outputs.
        input_shape: (C, H, W) of its images.
        mean: The normalisation it was trained with, one number or one a channel, for images in [0, 1]; None for 0.
        std: What it divides by after that, one number or one a channel; None for 1.
        device: Where it runs; "auto" takes an accelerator when there is one.
        outputs: What its outputs mean and where they are; None for what the module carries, else told from the module.

    Raises:
        ModelError: When it does not run on such images or gives no finite scores.
        UsageError: For fewer than two classes, a std that is not positive, or the wrong number of values.
    """

    what = "model"

    def __init__(
        self,
        module: nn.Module,
        *,
        classes: Sequence[str],
        input_shape: tuple[int, int, int],
        mean: float | Sequence[float] | None = None,
        std: float | Sequence[float] | None = None,
        device: torch.device | str = "auto",
        outputs: OutputChoice | None = None,
    ) -> None:
        self.classes = tuple(str(name) for name in classes)
        channels, height, width = input_shape
        self.input_shape = (channels, height, width)
        self.device = resolve_device(device)
        self.mean, self.std = normalisation(mean, std, channels)
        if len(self.classes) < 2:
            raise UsageError(f"A classifier needs at least two classes; {len(self.classes)} given.")
        module = as_module(module)
        form = private_copy(module, self.device)
        self.net, self.form_notes = form.net, form.notes
        self.runtime: nn.Module | None = None
        self.layout = ExecutionLayout.default(self.device, largest=getattr(self.net, "largest_batch", 0))
        set_memory_format(self.net, channels_last=True)
        self.module = NormalisedModel(self.net, self.mean, self.std, self.layout).to(self.device).eval()
        choose_outputs(self.net, outputs or chosen_outputs(module))
        self.reader: OutputReader = self._probe(module)
        self.module.reader = self.reader
        self.meter.reset()

    @property
    def notes(self) -> tuple[Note, ...]:
        """What a reader should know about how the module is run and its outputs come about and are read."""
        return (*self.form_notes, *self.reader.notes, *batch_statistics_notes(self.net))

    @property
    def output_kind(self) -> OutputKind:
        """What the net's outputs mean."""
        return self.reader.kind

    @property
    def meter(self) -> PassCounter:
        """Counts its passes."""
        return self.module.meter

    def logits(self, images: Images) -> Logits:
        """Logits in float32 eager mode, without gradients; as exact inside a block of autocast, see `ieee_float32`.

        Args:
            images: Float (N, C, H, W) in [0, 1], on any device.

        Returns:
            Float32 (N, classes) on the model's device.
        """
        images = self.check_images(images)
        with torch.no_grad(), self._arithmetic():
            try:
                parts = list(in_batches(len(images), self.layout, lambda rows: self._answer(images[rows])))
            except (RuntimeError, ValueError) as fault:
                if is_out_of_memory(fault):
                    raise
                raise failed_forward(self.net, fault, min(len(images), self.layout.batch_size)) from fault
        return torch.cat(parts) if parts else images.new_zeros(0, len(self.classes))

    def _arithmetic(self) -> AbstractContextManager[None]:
        return ieee_float32(tf32=self.module.arithmetic == "tf32")

    def _answer(self, images: Images) -> Logits:
        if self.runtime is None:
            return self.module(images)  # type: ignore[no-any-return]
        self.meter.forwards += len(images)
        return self.runtime(images)  # type: ignore[no-any-return]

    def predictions(self, images: Images) -> Labels:
        """The class of the highest logit.

        Args:
            images: Float (N, C, H, W) in [0, 1], on any device.

        Returns:
            Int64 (N,).
        """
        return self.logits(images).argmax(1)

    def loss_gradient(self, images: Images, labels: Labels, loss: Loss) -> LossGradient:
        """Logits, losses and the gradient of each example's loss with respect to its image; weights get none.

        Args:
            images: Float (N, C, H, W) in [0, 1].
            labels: What `loss` takes beside the logits, sliced like the images: labels (N,), or a goal (N, classes).
            loss: Gives one value an example.
        """
        images, point = self.check_images(images), self.gradient_point

        def gradient_of(rows: slice) -> LossGradient:
            with torch.enable_grad():
                leaf = point.of(images[rows]).detach().requires_grad_(True)
                try:
                    logits = self.module(leaf)
                except ValueError as fault:
                    raise failed_forward(self.net, fault, len(leaf)) from fault
                losses = loss(logits, labels[rows])
                (gradient,) = torch.autograd.grad(losses.sum(), leaf)
            return LossGradient(logits.detach(), losses.detach(), gradient)

        with self._arithmetic():
            parts = list(in_batches(len(images), self.layout, gradient_of))
        if not parts:
            return LossGradient(images.new_zeros(0, len(self.classes)), images.new_zeros(0), images)
        return LossGradient(*(torch.cat(column) for column in zip(*parts, strict=True)))

    @cached_property
    def gradient_point(self) -> GradientPoint:
        """Where gradients are taken: at the image, or a hair beside it where the net has a kink on common values."""
        return self.furthest_gradient_point.near

    @cached_property
    def furthest_gradient_point(self) -> GradientPoint:
        """Where they are taken to see over faces that are flat up to some depth, as of a net that clamps to less than
        [0, 1]: there the model answers as at the image, and a step further it does not.

        It is looked for once, on images drawn for it; those passes are not counted.
        """
        before = self.passes
        try:
            with ieee_float32(), self.module.computing_in("float32"):  # whoever asks first
                return find_gradient_point(self.module, self.input_shape, self.mean, self.device)
        finally:
            self.meter.forwards, self.meter.backwards = before.forwards, before.backwards

    def fingerprint(self) -> str:
        """SHA-256 of weights, structure, layer code, normalisation and classes: what the answers depend on."""
        digest = hashlib.sha256(repr((str(self.net), self.mean, self.std, self.classes, self.input_shape)).encode())
        if (choice := chosen_outputs(self.net)) != OutputChoice():
            digest.update(repr(choice).encode())
        for kind in sorted({type(layer) for layer in self.net.modules()}, key=lambda k: k.__qualname__):
            if not kind.__module__.startswith("torch."):
                digest.update(_source(kind).encode())
        hash_state(digest, self.net)
        return digest.hexdigest()

    def _probe(self, original: nn.Module) -> OutputReader:
        """How outputs are read, learnt from four images of noise, which show too that the model runs at all."""
        generator = torch.Generator(device="cpu").manual_seed(0)
        noise = torch.rand(4, *self.input_shape, generator=generator, device="cpu", dtype=torch.float32).to(self.device)
        try:
            choice = chosen_outputs(self.net)
            with ieee_float32():
                return learn_outputs(lambda some: self._run_somehow(some, original), noise, len(self.classes), choice)
        except AuditError:
            raise
        except Exception as fault:  # a user's forward raises whatever it likes
            if is_out_of_memory(fault):
                raise
            raise ModelError(why_it_does_not_run(self.net, fault, self.input_shape)) from fault

    def _run_somehow(self, noise: Images, original: nn.Module) -> Any:
        """What the net gives, in the first form in which it runs (see `other_forms`)."""
        try:
            return self.module(noise)
        except Exception as fault:
            choice = chosen_outputs(self.net)
            for form in other_forms(NetForm(self.net, self.form_notes), original, noise, self.layout):
                self.net = self.module.net = form.net
                self.form_notes, self.module.input_type = form.notes, form.input_type
                choose_outputs(self.net, choice)
                with suppress(Exception):
                    return self.module(noise)
            raise fault


def require_wrapped(model: object) -> None:
    """Check that a public function was given a wrapped model.

    Args:
        model: What it was given.

    Raises:
        UsageError: It is something else, such as the bare module.
    """
    if not isinstance(model, ModelUnderTest):
        raise UsageError(
            f"The model is a {type(model).__name__}, where a wrapped one was expected: give what audit.wrap(module, "
            "classes=..., input_shape=...) returns."
        )


def _source(kind: type) -> str:
    try:
        return inspect.getsource(kind)
    except (OSError, TypeError):
        return kind.__qualname__
