"""Train a net: in this process, or in several that share every batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from audit.config import TrainingConfig
from audit.core.threat import ThreatModel
from audit.core.types import Batch, Images, Logits
from audit.training.callbacks import TrainingCallbacks
from audit.training.distributed import WorkerGroup, require_shareable
from audit.training.launcher import launch_workers
from audit.training.loop import TrainingResult, run_training


def fit(
    module: nn.Module,
    train: Batch,
    settings: TrainingConfig,
    *,
    classes: int,
    threat: ThreatModel | None = None,
    seed: int = 0,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    device: torch.device | str = "cpu",
    teacher: Callable[[Images], Logits] | None = None,
    watch: TrainingCallbacks | None = None,
) -> TrainingResult:
    """Train `module` in place on `train` (CPU, images in [0, 1]) and give the weights of its best epoch.

    The best is that of highest accuracy on held-out images, under attack for adversarial recipes: the last
    often is not (robust overfitting, arXiv:2002.11569). `teacher` gives logits on the device, for
    distillation. `mean` and `std` are measured where None. Killed and
    called again with the same `watch.scratch`, it ends in the same weights, bit for bit on one device. With
    `settings.workers` above 1, other processes take their share of every batch. Raises Diverged, Interrupted,
    DataError, UsageError, SetupError.
    """
    place, measured = torch.device(device), channel_statistics(train.images)
    normal = (_each(mean, measured[0]), _each(std, measured[1]))
    given: dict[str, Any] = {
        "settings": settings,
        "classes": classes,
        "threat": threat,
        "seed": seed,
        "normal": normal,
        "device": place,
    }
    if settings.workers == 1:
        return run_training(WorkerGroup(), train=train, module=module, teacher=teacher, watch=watch, **given)
    require_shareable(settings, taught=teacher is not None)
    with launch_workers(settings.workers, train, module, place, given) as team:
        return run_training(team, train=train, module=module, watch=watch, **given)


def channel_statistics(images: Images) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel over all images, a constant channel's deviation being 1."""
    pixels = images.double()
    spread = pixels.std((0, 2, 3), correction=0)
    spread = spread.where(spread > 1e-6, torch.ones_like(spread))
    return tuple(pixels.mean((0, 2, 3)).tolist()), tuple(spread.tolist())


def _each(given: float | Sequence[float] | None, measured: tuple[float, ...]) -> tuple[float, ...]:
    if given is None:
        return measured
    numbers = (float(given),) if isinstance(given, int | float) else tuple(float(v) for v in given)
    return numbers * len(measured) if len(numbers) == 1 else numbers
