"""The model under test, which every method is handed: a frozen private copy; the user's module is never changed."""

from __future__ import annotations

import copy
import hashlib
import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from audit.core.errors import ModelError, SetupError, UsageError
from audit.core.note import Note
from audit.core.types import Images, Labels, Logits, PassCount
from audit.models.batch_statistics import batch_statistics_notes, failed_forward
from audit.models.batching import ExecutionLayout, in_batches
from audit.models.flat_faces import GradientPoint, find_gradient_point
from audit.models.normalised_model import NormalisedModel, PassCounter
from audit.models.outputs import OutputChoice, OutputKind, OutputReader, choose_outputs, chosen_outputs, learn_outputs

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


class ModelUnderTest:
    """An image classifier that takes images in [0, 1], gives logits and counts its passes.

    The module is copied, set to eval mode and frozen.

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
        self.mean = _per_channel(mean, 0.0, channels, "mean")
        self.std = _per_channel(std, 1.0, channels, "std")
        if min(self.std) <= 0:
            raise UsageError(f"std {self.std} must be positive in every channel.")
        if len(self.classes) < 2:
            raise UsageError(f"A classifier needs at least two classes; {len(self.classes)} given.")
        self.net = _private_copy(module).to(self.device).to(memory_format=torch.channels_last)
        self.layout = ExecutionLayout.default(self.device)
        self.module = NormalisedModel(self.net, self.mean, self.std, self.layout).to(self.device).eval()
        choose_outputs(self.net, outputs or chosen_outputs(module))
        self.reader: OutputReader = self._probe()
        self.module.reader = self.reader
        self.module.meter.reset()

    @property
    def notes(self) -> tuple[Note, ...]:
        """What a reader should know about how the outputs come about and are read; empty when there is nothing."""
        return (*self.reader.notes, *batch_statistics_notes(self.net))

    @property
    def output_kind(self) -> OutputKind:
        """What the net's outputs mean."""
        return self.reader.kind

    @property
    def passes(self) -> PassCount:
        """Examples forwarded and back-propagated so far."""
        return self.module.meter.passes

    def charge(self, passes: PassCount) -> None:
        """Count passes that an earlier process made, on what this one goes on from.

        Args:
            passes: The passes.
        """
        self.module.meter.add(passes)

    @contextmanager
    def count(self) -> Iterator[PassCounter]:
        """Measure the cost of a block: `with model.count() as counter:`, then `counter.passes`."""
        before = self.passes
        counter = PassCounter()
        try:
            yield counter
        finally:
            difference = self.passes - before
            counter.forwards, counter.backwards = difference.forwards, difference.backwards

    def logits(self, images: Images) -> Logits:
        """Logits in float32 eager mode, without gradients.

        Args:
            images: Float (N, C, H, W) in [0, 1], on any device.

        Returns:
            Float32 (N, classes) on the model's device.
        """
        images = self.check_images(images)
        with torch.no_grad():
            try:
                parts = list(in_batches(len(images), self.layout, lambda rows: self.module(images[rows])))
            except torch.OutOfMemoryError:
                raise
            except (RuntimeError, ValueError) as fault:
                raise failed_forward(self.net, fault, min(len(images), self.layout.batch_size)) from fault
        return torch.cat(parts) if parts else images.new_zeros(0, len(self.classes))

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
            return find_gradient_point(self.module, self.input_shape, self.mean, self.device)
        finally:
            self.module.meter.forwards, self.module.meter.backwards = before.forwards, before.backwards

    def check_images(self, images: Images) -> Images:
        """Images on the model's device as float32.

        Args:
            images: Float (N, C, H, W).

        Raises:
            ModelError: For another shape.
        """
        if images.ndim != 4 or tuple(images.shape[1:]) != self.input_shape:
            raise ModelError(
                f"Images of shape {tuple(images.shape)} were given to a model of inputs (N, "
                f"{', '.join(map(str, self.input_shape))}): channels first, one image a row."
            )
        return images.to(self.device, torch.float32)

    def fingerprint(self) -> str:
        """SHA-256 of weights, structure, layer code, normalisation and classes: what the answers depend on."""
        digest = hashlib.sha256(repr((str(self.net), self.mean, self.std, self.classes, self.input_shape)).encode())
        if (choice := chosen_outputs(self.net)) != OutputChoice():
            digest.update(repr(choice).encode())
        for kind in sorted({type(layer) for layer in self.net.modules()}, key=lambda k: k.__qualname__):
            if not kind.__module__.startswith("torch."):
                digest.update(_source(kind).encode())
        for name, tensor in sorted(self.net.state_dict().items()):
            digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)}".encode())
            plain = tensor.detach().cpu().contiguous().flatten()
            digest.update(plain.view(torch.uint8).numpy().tobytes() if plain.numel() else b"")
        return digest.hexdigest()

    def _probe(self) -> OutputReader:
        """How outputs are read, learnt from four images of noise, which show too that the model runs at all."""
        generator = torch.Generator(device="cpu").manual_seed(0)
        noise = torch.rand(4, *self.input_shape, generator=generator, device="cpu").to(self.device)
        try:
            return learn_outputs(self._try_layouts, noise, len(self.classes), chosen_outputs(self.net))
        except (RuntimeError, TypeError, ValueError, IndexError, AttributeError) as fault:
            first_line = str(fault).strip().split("\n", 1)[0]
            raise ModelError(
                f"The model does not run on images of shape {self.input_shape} (channels, height, width): "
                f"{first_line}. Give the size it was trained for with --image-size, or another architecture."
            ) from fault

    def _try_layouts(self, noise: Images) -> Any:
        """Channels last is the faster layout; a net that calls `view` on its features needs the other."""
        try:
            return self.module(noise)
        except RuntimeError:
            self.layout.channels_last = False
            self.net.to(memory_format=torch.contiguous_format)
            return self.module(noise)


def resolve_device(name: torch.device | str = "auto") -> torch.device:
    """The torch device of a name.

    Args:
        name: "auto" for CUDA when there is one, then MPS, else the CPU; or any name that torch knows.

    Raises:
        SetupError: When the device is not usable here.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as fault:
        raise SetupError(f"Device {str(name)!r} is not usable here; use auto or cpu.") from fault
    return device


def _private_copy(module: nn.Module) -> nn.Module:
    try:
        copied = copy.deepcopy(module)
    except Exception as fault:
        raise ModelError(
            f"The model ({type(module).__name__}) cannot be copied, and the audit never works on the original: {fault}."
        ) from fault
    for parameter in copied.parameters():
        parameter.requires_grad_(False)
        parameter.grad = None
    return copied.eval()


def _per_channel(value: float | Sequence[float] | None, default: float, channels: int, name: str) -> tuple[float, ...]:
    if value is None:
        return (default,) * channels
    numbers = [float(value)] if isinstance(value, int | float) else [float(v) for v in value]
    if len(numbers) == 1:
        numbers *= channels
    if len(numbers) != channels:
        raise UsageError(f"{name} has {len(numbers)} values for images of {channels} channels: give one, or one each.")
    return tuple(numbers)


def _source(kind: type) -> str:
    try:
        return inspect.getsource(kind)
    except (OSError, TypeError):
        return kind.__qualname__
