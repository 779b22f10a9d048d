"""The net in training: normalisation inside, logits out, passes counted; dropout and torch.compile around any net."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout

from audit.core.errors import ModelError, SetupError, UsageError
from audit.core.note import Note, note
from audit.core.types import Images, Logits, PassCount
from audit.models.batching import set_memory_format
from audit.models.output_entries import tensors_in
from audit.models.outputs import OutputReader, chosen_outputs, learn_outputs

_AUXILIARY = note(
    "training_auxiliary",
    "In training the net returns more than its scores, as nets with auxiliary heads do: only the scores were trained.",
)


class TrainingModule(nn.Module):
    """A net behind its normalisation: images in [0, 1] go in, float32 logits come out.

    Attributes:
        mean: Mean of each channel, float32 (1, C, 1, 1).
        std: Standard deviation of each channel, float32 (1, C, 1, 1).
    """

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
        self.net = net
        self.autocast = autocast
        self.reader: OutputReader | None = None
        self._auxiliary = False
        self.channels_last = True
        self.forwards = 0
        self.backwards = 0
        self.processes = 1
        """How many processes make the same passes at this time: each pass counts that many times."""
        self.register_buffer("mean", torch.tensor(mean, device="cpu").view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std, device="cpu").view(1, -1, 1, 1))

    def forward(self, images: Images) -> Logits:
        """Compute logits (N, classes).

        Args:
            images: Images (N, C, H, W) in [0, 1].
        """
        assert self.reader is not None
        outputs = self._outputs(self.normalised(images))
        self._auxiliary |= not isinstance(outputs, Tensor) and not self.reader.entry
        logits = self.reader(outputs, len(images))
        self.forwards += self.processes * len(images)
        if logits.requires_grad:
            logits.register_hook(self._count_backward)  # type: ignore[no-untyped-call]
        return logits

    def normalised(self, images: Images) -> Images:
        """Images as the net is given them.

        Args:
            images: Images (N, C, H, W) in [0, 1].
        """
        normalised = (images - self.mean).div_(self.std)
        return normalised.contiguous(memory_format=torch.channels_last) if self.channels_last else normalised

    def choose_layout(self, images: Images, *, to_pixels: bool) -> None:
        """Lay the weights out with the channels last where the net runs so; one that calls `view` may not.

        Args:
            images: A few images (N, C, H, W) in [0, 1].
            to_pixels: Whether gradients to the pixels are needed, as adversarial training does.

        Raises:
            ModelError: The net's outputs have no gradient to learn from.
        """
        training = self.training
        self.eval()
        try:
            set_memory_format(self.net, channels_last=True)
            _require_gradients(self, images, to_pixels=to_pixels)
        except RuntimeError:
            self.channels_last = False
            set_memory_format(self.net, channels_last=False)
            try:
                _require_gradients(self, images, to_pixels=to_pixels)
            except RuntimeError as fault:
                first_line = str(fault).strip().split("\n", 1)[0]
                raise ModelError(f"The model cannot be trained, as it fails on four images: {first_line}") from fault
        self.train(training)

    def _outputs(self, normalised: Images) -> Any:
        if not self.autocast:  # entering it costs a small net half a percent of its time
            return self.net(normalised)
        with torch.autocast(normalised.device.type, torch.bfloat16):
            return self.net(normalised)

    @property
    def passes(self) -> PassCount:
        """Examples forwarded and back-propagated so far, those of all processes."""
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
        self.reader = learn_outputs(self._raw, images, classes, chosen_outputs(self.net))
        self.train(training)

    def _raw(self, images: Images) -> Any:
        return self.net((images - self.mean) / self.std)

    @property
    def notes(self) -> tuple[Note, ...]:
        """What a reader should know about how the net's outputs are read."""
        notes = () if self.reader is None else self.reader.notes
        return (*notes, _AUXILIARY) if self._auxiliary else notes

    def _count_backward(self, gradient: Tensor) -> None:
        self.backwards += self.processes * len(gradient)


def _require_gradients(module: TrainingModule, images: Images, *, to_pixels: bool) -> None:
    if not any(True for _ in module.net.parameters()):
        raise ModelError(
            "The model has no weights that could be trained, as frozen scripts and quantised nets have none: give the "
            "net it was made of."
        )
    with torch.enable_grad():
        leaf = images.detach().clone().requires_grad_(to_pixels)
        outputs = list(tensors_in(module.net(module.normalised(leaf))).values())
    trainable = [output.sum() for output in outputs if output.requires_grad]
    if outputs and not trainable:
        raise ModelError(
            "The model's outputs have no gradient to its weights, as those of quantised nets and of forwards under "
            "no_grad have none: there is nothing to train by. Give the float model, with gradients throughout."
        )
    if to_pixels and trainable and torch.autograd.grad(trainable, leaf, allow_unused=True)[0] is None:
        raise ModelError(
            "The model's outputs have no gradient to the pixels, as part of its forward runs without autograd: "
            "adversarial training has nothing to follow. Let the whole forward run with gradients."
        )


@contextmanager
def dropout_before_head(net: nn.Module, probability: float) -> Iterator[None]:
    """Inside the block, dropout acts on the inputs of the last linear layer of `net` while that is in train mode.

    The structure of the net and the names of its weights stay as they are.

    Args:
        net: The net.
        probability: The share of inputs set to 0, in [0, 1).

    Raises:
        UsageError: When the net has no linear layer and `probability` is not 0.
    """
    if not probability:
        yield
        return
    layers = [module for module in net.modules() if isinstance(module, nn.Linear)]
    if not layers:
        raise UsageError(f"Dropout needs a linear layer, and {type(net).__name__} has none; set training.dropout to 0.")

    def drop(layer: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (dropout(inputs[0], probability, layer.training), *inputs[1:])

    hook = layers[-1].register_forward_pre_hook(drop)
    try:
        yield
    finally:
        hook.remove()


@contextmanager
def compiled(net: nn.Module, enabled: bool, images: Images) -> Iterator[None]:
    """Inside the block, calls of `net` go through torch.compile.

    One forward and backward pass of `images` shows at once whether that works on this machine; the net's buffers and
    gradients are put back after it.

    Args:
        net: The net, which has run on `images` before.
        enabled: Whether to compile at all.
        images: A few images as the net takes them: normalised, (N, C, H, W).

    Raises:
        SetupError: When torch.compile fails.
    """
    if not enabled:
        yield
        return
    net.compile()
    try:
        _try_passes(net, images)
        yield
    finally:
        net._compiled_call_impl = None


def _try_passes(net: nn.Module, images: Images) -> None:
    buffers = {name: buffer.clone() for name, buffer in net.named_buffers()}
    try:
        with torch.enable_grad():
            torch.stack([tensor.sum() for tensor in tensors_in(net(images)).values()]).sum().backward()  # type: ignore[no-untyped-call]
    except Exception as fault:  # a compiler's failures have no common type
        first_line = (str(fault).strip() or type(fault).__name__).split("\n", 1)[0]
        raise SetupError(
            f"torch.compile does not work for this net on this machine ({first_line[:200]}). Set training.compile to "
            "false, or install a C++ compiler that torch finds."
        ) from fault
    finally:
        net.zero_grad(set_to_none=True)
        for name, buffer in net.named_buffers():
            buffer.copy_(buffers[name])
