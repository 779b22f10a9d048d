"""The net in training: normalisation inside, logits out, passes counted."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from audit.core.types import Images, Logits, PassCount
from audit.models.outputs import OutputKind, detect_output_kind, to_logits


class TrainingModule(nn.Module):
    """`net` behind its normalisation (`mean`, `std` one a channel). Images in [0, 1] go in, float32 logits come
    out; with `autocast` the net itself runs in bfloat16. `forwards` and `backwards` count examples, each for as
    many processes as do the same at that time (`copies`)."""

    mean: Tensor
    std: Tensor

    def __init__(self, net: nn.Module, mean: Sequence[float], std: Sequence[float], *, autocast: bool = False) -> None:
        super().__init__()
        self.net = net
        self.autocast = autocast
        self.output_kind: OutputKind = "logits"
        self.forwards = 0
        self.backwards = 0
        self.copies = 1
        self.register_buffer("mean", torch.tensor(mean, device="cpu").view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std, device="cpu").view(1, -1, 1, 1))

    def forward(self, images: Images) -> Logits:
        """Logits (N, classes) of images (N, C, H, W)."""
        normal = (images - self.mean).div_(self.std).contiguous(memory_format=torch.channels_last)
        logits = to_logits(self._outputs(normal), self.output_kind)
        self.forwards += self.copies * len(images)
        if logits.requires_grad:
            logits.register_hook(self._count_backward)  # type: ignore[no-untyped-call]
        return logits

    def _outputs(self, normal: Images) -> Tensor:
        if not self.autocast:  # entering it costs a small net half a percent of its time
            return self.net(normal)  # type: ignore[no-any-return]
        with torch.autocast(normal.device.type, torch.bfloat16):
            return self.net(normal)  # type: ignore[no-any-return]

    @property
    def passes(self) -> PassCount:
        """Examples forwarded and back-propagated so far."""
        return PassCount(self.forwards, self.backwards)

    @passes.setter
    def passes(self, value: PassCount) -> None:
        self.forwards, self.backwards = value.forwards, value.backwards

    def learn_output_kind(self, images: Images, classes: int) -> None:
        """Tell logits from probabilities on a few images. Raises ModelError for an output that does not fit."""
        training = self.training
        with torch.no_grad():
            outputs = self.eval().net((images - self.mean) / self.std)
        self.output_kind = detect_output_kind(outputs, classes)
        self.train(training)

    def _count_backward(self, gradient: Tensor) -> None:
        self.backwards += self.copies * len(gradient)
