"""The net in training: normalisation inside, logits out, passes counted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from audit.core.errors import ModelError
from audit.core.note import Note, note
from audit.core.threat import Norm
from audit.core.types import Images, Logits, PassCount
from audit.models.batch_statistics import failed_forward
from audit.models.batching import is_out_of_memory, set_memory_format
from audit.models.flat_faces import AT_THE_IMAGE, GradientPoint, find_gradient_point
from audit.models.output_entries import tensors_in
from audit.models.outputs import OutputReader, chosen_outputs, learn_outputs
from audit.models.precision import bfloat16_autocast, recurrent_gradients
from audit.training.memory import PassMemory, draws_or_mixes, fitting

_AUXILIARY = note(
    "training_auxiliary",
    "In training the net returns more than its scores, as nets with auxiliary heads do: only the scores were trained.",
)


class TrainingModule(nn.Module):
    """A net behind its normalisation: images in [0, 1] go in, float32 logits come out.

    Attributes:
        mean: Mean of each channel, float32 (1, C, 1, 1).
        std: Standard deviation of each channel, float32 (1, C, 1, 1).
        gradient_point: Where the gradient of images is taken.
        memory: How its passes fit the memory.
    """

    gradient_point: GradientPoint = AT_THE_IMAGE
    mean: Tensor
    std: Tensor

    def __init__(self, net: nn.Module, mean: Sequence[float], std: Sequence[float], *, autocast: bool = False) -> None:
        """Put `net` behind the normalisation.

        Args:
            net: The net, which takes normalised images (N, C, H, W).
            mean: Mean of each channel, in units of [0, 1].
            std: Standard deviation of each channel, in units of [0, 1], above 0.
            autocast: Whether the net runs in bfloat16.
        """
        super().__init__()
        self.net, self.autocast = net, autocast
        self.reader: OutputReader | None = None
        self._auxiliary, self.channels_last = False, True
        self.memory, self._few = PassMemory(), torch.zeros(0)
        self.forwards = self.backwards = 0
        self.register_buffer("mean", torch.tensor(mean, device="cpu").view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std, device="cpu").view(1, -1, 1, 1))

    def forward(self, images: Images) -> Logits:
        """Compute logits (N, classes).

        Args:
            images: Images (N, C, H, W) in [0, 1].
        """
        if not torch.is_grad_enabled():  # a whole pass; one with a graph is whole with its way back
            return fitting(self, lambda: self._counted(images))
        return self._counted(images)

    def _counted(self, images: Images) -> Logits:
        parts = self.memory.parts(len(images), training=self.training)
        if len(parts) == 1:
            logits = self._logits(images)
        elif torch.is_grad_enabled():  # nothing within the net is kept: going back, each part is asked again
            logits = torch.cat([checkpoint(self._logits, images[part], use_reentrant=False) for part in parts])
        else:
            logits = torch.cat([self._logits(images[part]) for part in parts])
        self.forwards += len(images)
        if logits.requires_grad:
            logits.register_hook(self._count_backward)  # type: ignore[no-untyped-call]
        return logits

    def _logits(self, images: Images) -> Logits:
        assert self.reader is not None
        if images.requires_grad:
            images = self.gradient_point.of(images)
        outputs = self._outputs(self.normalised(images))
        self._auxiliary |= not isinstance(outputs, Tensor) and not self.reader.entry
        return self.reader(outputs, len(images))

    @property
    def device(self) -> torch.device:
        """Where the net is."""
        return self.mean.device

    @property
    def inner(self) -> nn.Module:
        """The net."""
        return self.net

    def needs_whole_batch(self) -> bool:
        """Whether, as it is, it draws for a batch or mixes the images of one; these passes are not counted."""
        return draws_or_mixes(self, self._logits, self._few)

    def normalised(self, images: Images) -> Images:
        """Images as the net is given them.

        Args:
            images: Images (N, C, H, W) in [0, 1].
        """
        normalised = (images - self.mean).div_(self.std)
        return normalised.contiguous(memory_format=torch.channels_last) if self.channels_last else normalised

    def choose_layout(self, images: Images) -> None:
        """Lay the weights out with the channels last where the net runs so; one that calls `view` may not.

        Args:
            images: A few images (N, C, H, W) in [0, 1].

        Raises:
            ModelError: The net has no weights, or does not run.
        """
        if not any(True for _ in self.net.parameters()):
            raise ModelError(
                "The model has no weights that could be trained, as frozen scripts and quantised nets have none: give "
                "the net it was made of."
            )
        training = self.training
        self.eval()
        try:
            set_memory_format(self.net, channels_last=True)
            self.gradients(images)
        except RuntimeError as fault:
            if is_out_of_memory(fault):
                raise
            self.channels_last = False
            set_memory_format(self.net, channels_last=False)
            try:
                self.gradients(images)
            except RuntimeError as second:
                first_line = str(second).strip().split("\n", 1)[0]
                raise ModelError(f"The model cannot be trained, as it fails on four images: {first_line}") from second
        self.train(training)

    @contextmanager
    def in_float32(self) -> Iterator[None]:
        """A block in which the net runs in float32, for what judges it."""
        before, self.autocast = self.autocast, False
        try:
            yield
        finally:
            self.autocast = before

    def gradients(self, images: Images) -> Sequence[Tensor]:
        """The gradients of weights on a few images, to see whether the net runs so: `view` may fail on either way.

        Args:
            images: A few images (N, C, H, W) in [0, 1].

        Returns:
            Those that there are; none of a net without.
        """
        with torch.enable_grad():
            outputs = [value.sum() for value in tensors_in(self._outputs(self.normalised(images))).values()]
        trainable = [output for output in outputs if output.requires_grad]
        if not trainable:
            return ()
        weights = [p for p in self.net.parameters() if p.requires_grad]
        return [g for g in torch.autograd.grad(trainable, weights, allow_unused=True) if g is not None]

    def _outputs(self, normalised: Images) -> Any:
        if not self.autocast:  # entering it costs a small net half a percent of its time
            return self._run(normalised)
        with bfloat16_autocast(normalised.device):
            return self._run(normalised)

    def _run(self, normalised: Images) -> Any:
        try:
            with recurrent_gradients(self.net):
                return self.net(normalised)
        except ValueError as fault:  # as of batch norm without statistics on a single image
            raise failed_forward(self.net, fault, len(normalised)) from fault

    @property
    def passes(self) -> PassCount:
        """Examples forwarded and back-propagated so far."""
        return PassCount(self.forwards, self.backwards)

    @passes.setter
    def passes(self, value: PassCount) -> None:
        self.forwards, self.backwards = value.forwards, value.backwards

    def learn_outputs(self, images: Images, classes: int) -> None:
        """Learn from a few images how to read logits from what the net returns.

        Args:
            images: Images (N, C, H, W) in [0, 1].
            classes: The number of classes.

        Raises:
            ModelError: When nothing that the net returns fits that many classes.
        """
        training = self.training
        self.eval()
        choice, self._few = chosen_outputs(self.net), images
        self.reader = learn_outputs(lambda some: self._run(self.normalised(some)), images, classes, choice)
        self.train(training)

    @property
    def notes(self) -> tuple[Note, ...]:
        """What a reader should know about how the net's outputs are read."""
        notes = () if self.reader is None else self.reader.notes
        return (*notes, _AUXILIARY) if self._auxiliary else notes

    def require_gradients(self, images: Images, *, adversarial: bool) -> None:
        """Check that autograd follows the forward pass; these passes are not counted.

        Args:
            images: A few images (N, C, H, W) in [0, 1].
            adversarial: Whether attacks on the net need the gradient of its images too.

        Raises:
            ModelError: When weights or images have no gradient.
        """
        training, passes = self.training, self.passes
        self.eval()
        try:
            with torch.enable_grad():
                followed = self._followed(images, adversarial)
        finally:
            self.train(training)
            self.passes = passes
        if not followed:
            raise ModelError(
                f"The net cannot be trained{' against an adversary' * adversarial}: its forward pass, or the part "
                "behind its input, runs without autograd (torch.no_grad, a detach, rounding or NumPy). Take that out."
            )

    def _followed(self, images: Images, adversarial: bool) -> bool:
        try:
            outputs = self(images)
            if not outputs.requires_grad or not adversarial:
                return bool(outputs.requires_grad)
            leaf = images.detach().requires_grad_(True)
            return torch.autograd.grad(self(leaf).sum(), leaf, allow_unused=True)[0] is not None
        except RuntimeError as fault:
            if "requires grad" in str(fault):  # NumPy refuses tensors that do.
                return False
            raise

    def learn_gradient_point(self, shape: tuple[int, int, int], norm: Norm) -> None:
        """Find where the gradient of images is to be taken, for attacks on this net; these passes are not counted.

        Args:
            shape: (C, H, W) of an image.
            norm: The norm of the attacks: in linf alone it pays to see over a face that is flat to some depth.
        """
        training, passes = self.training, self.passes
        mean: list[float] = self.mean.flatten().tolist()
        furthest = find_gradient_point(self.eval(), shape, mean, self.mean.device)
        self.gradient_point = furthest if norm == "linf" else furthest.near
        self.train(training)
        self.passes = passes

    def _count_backward(self, gradient: Tensor) -> None:
        self.backwards += len(gradient)
