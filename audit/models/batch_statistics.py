"""Nets whose answer to an image depends on the other images of the batch, by their layers; and nets that fail on some
sizes of batch."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from audit.core.errors import ModelError, one_line
from audit.core.note import Note, listed_with_more, note


def batch_statistics_notes(net: nn.Module) -> tuple[Note, ...]:
    """A sentence that names the layers which normalise by the batch at hand; none where each has its own statistics.

    Args:
        net: The net, in eval mode.
    """
    names = _without_statistics(net)
    if not names:
        return ()
    return (
        note(
            "model_batch_statistics",
            "The model normalises by the batch at hand, as it holds no running statistics ({names}): its answer to an "
            "image depends on the other images.",
            names=listed_with_more(names, 3),
        ),
    )


def failed_forward(net: nn.Module, fault: Exception, images: int) -> ModelError:
    """What to raise where a net that ran on some batch fails on one of another size.

    Args:
        net: The net.
        fault: What it raised.
        images: The number of images at most in the batch.
    """
    batch = "a single image" if images == 1 else f"a batch of {images} images"
    names = _without_statistics(net)
    remedy = "Give a net that answers a batch of any size."
    if names:
        remedy = (
            f"It normalises by the batch at hand ({', '.join(names[:3])}), so an answer depends on the other images: "
            "build it with track_running_stats=True, and give weights that hold the statistics."
        )
    return ModelError(f"The model fails on {batch}: {one_line(fault)}. {remedy}")


def _without_statistics(net: nn.Module) -> list[str]:
    return [
        name or type(layer).__name__
        for name, layer in net.named_modules()
        if isinstance(layer, _BatchNorm) and layer.running_mean is None
    ]
