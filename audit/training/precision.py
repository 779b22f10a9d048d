"""The arithmetic of the passes of a training: bfloat16 where the processor has it and the net gains by it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from audit.core.errors import ModelError
from audit.core.note import Note, note
from audit.core.seeding import restored_global_rng
from audit.core.types import Images
from audit.models.forward_watch import OperationWatch
from audit.models.precision import ieee_float32, processor_has_bfloat16
from audit.training.setup import TrainingSetup
from audit.training.training_module import TrainingModule

IN_BFLOAT16 = note(
    "trained_in_bfloat16",
    "The passes of this training ran in bfloat16, which this processor has instructions for; its weights, its "
    'optimiser and its held-out accuracies are in float32 (precision = "float32" trains in that throughout).',
)
"""What the reader of a model should know that was trained so without being asked."""


def choose_precision(net: TrainingModule, setup: TrainingSetup, images: Images) -> tuple[Note, ...]:
    """Settle on bfloat16 or float32 where the configuration leaves it open; all processes on what the first has.

    Detectors, recipes that prove while they train, and what torch.compile makes stay in float32.

    Args:
        net: The net, whose `autocast` is set.
        setup: The training.
        images: A few images (N, C, H, W) in [0, 1], on the net's device.

    Returns:
        What a reader should know of it.
    """
    plain = not (setup.detects or setup.recipe.facts.get("proves") or setup.settings.compile)
    if setup.settings.precision != "auto" or not plain:
        return ()
    training = net.training
    with restored_global_rng(net.device), ieee_float32():
        net.eval()
        gains = gains_by_bfloat16(lambda: net.gradients(images), net.device) and _runs_in_bfloat16(net, images)
        net.train(training)
    net.autocast = setup.workers.from_rank0(lambda: gains)
    return (IN_BFLOAT16,) if net.autocast else ()


def _runs_in_bfloat16(net: TrainingModule, images: Images) -> bool:
    net.autocast = True
    try:
        return all(bool(torch.isfinite(gradient).all()) for gradient in net.gradients(images))
    except (RuntimeError, ModelError):
        return False


def gains_by_bfloat16(passes: Callable[[], object], device: torch.device) -> bool:
    """Whether a training is cheaper in bfloat16 here, by what processor and net are: no clock is read.

    So the same machine trains to the same bytes, however busy it is. Of a step and of the gradient of its images, on
    one core of an AMD EPYC with AVX512-BF16, bfloat16 took .51 to .80 of the time of float32 for plain, residual and
    recurrent nets (cnn-28 .72, row-lstm .62, resnet18 .57), 1.2 to 2.6 times as long where convolutions have groups
    (efficientnet_b0, mnasnet0_5) or attention is one operation (self-attention, vit_b_32), whose gradients have no such
    kernels (torch 2.14.1).

    Args:
        passes: Runs the net on a few images, forward and back, in float32.
        device: Where it is.

    Returns:
        False for another device than a processor with AVX512-BF16.
    """
    if device.type != "cpu" or not processor_has_bfloat16():
        return False
    with _Watch() as watch:
        passes()
    return not watch.slow


class _Watch(OperationWatch):  # type: ignore[no-untyped-call]
    """Notices operations whose gradients are slower in bfloat16."""

    slow = False

    def __torch_dispatch__(
        self, operation: Any, types: Any, arguments: tuple[Any, ...] = (), options: dict[str, Any] | None = None
    ) -> Any:
        name = operation.name()
        if name in ("aten::convolution", "aten::_convolution"):
            self.slow |= arguments[_GROUPS] > 1
        self.slow |= "scaled_dot_product" in name
        return operation(*arguments, **(options or {}))


_GROUPS = 8
"""Which argument of a convolution they are."""
