"""Train a net: in this process, or in several that share every batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from audit.config import TrainingConfig
from audit.core.errors import UsageError
from audit.core.registry import find
from audit.core.threat import ThreatModel
from audit.core.threat_format import CONVEX_NORMS
from audit.core.types import Batch, Images, Logits
from audit.training.callbacks import TrainingCallbacks
from audit.training.distributed import WorkerGroup, require_shareable, why_one_process
from audit.training.job import TrainingJob
from audit.training.launcher import train_in_processes
from audit.training.state import TrainingResult
from audit.training.training_data import SplitImages
from audit.training.world import world


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
    callbacks: TrainingCallbacks | None = None,
    nproc: int | None = None,
) -> TrainingResult:
    """Train a net and give the weights of its best epoch.

    The best epoch is that of highest accuracy on held-out images, under attack for adversarial recipes: the last often
    is not the best (robust overfitting, Rice et al. 2020, arXiv:2002.11569). Where the learning rate has fallen to zero
    the last is kept unless another is better by more than the standard error (see `selection_error`). Killed and called
    again with the same `callbacks.scratch`, it ends in the same weights, bit for bit on one device.

    Args:
        module: The net, trained in place.
        train: Images in [0, 1] with labels and ids, on the CPU.
        settings: The configuration of the training; its `shares` of a batch are what processes divide among them.
        classes: The number of classes.
        threat: The adversary, which adversarial recipes need.
        seed: The seed of every draw.
        mean: Mean of all channels or of each, in units of [0, 1]; measured on `train` where None.
        std: Standard deviation likewise.
        device: Where to train.
        teacher: The logits (N, classes) of another model on `device`, for distillation.
        callbacks: What to call on the way.
        nproc: Processes that train together, see `processes_of`: those of `audit.training.world.world` where there are
            any, else as many as are started here. None for this one alone.

    Returns:
        The best weights and the history.

    Raises:
        TrainingDiverged: When the loss is not finite.
        Interrupted: When `callbacks.stopping` asked to stop.
        DataError: When there are too few images, or all have one label.
        UsageError: When the settings do not go together, or a checkpoint has others.
        ModelError: When the net's output does not fit the classes, or a checkpoint is damaged.
        SetupError: When torch.compile fails, a process fails again and again, there is no GPU for each, or the disk
            refuses.
    """
    if threat is not None and threat.norm not in CONVEX_NORMS:
        raise UsageError(f"No model is trained against {threat.norm}: give {' or '.join(CONVEX_NORMS)}.")
    count = 1 if nproc is None else nproc
    require_shareable(settings, count, alone=why_one_process(find("recipe", settings.recipe).facts))
    statistics = channel_statistics(train.images)
    job = TrainingJob(
        settings=settings,
        classes=classes,
        threat=threat,
        seed=seed,
        normalisation=(_per_channel(mean, statistics[0]), _per_channel(std, statistics[1])),
        device=torch.device(device),
        threads=torch.get_num_threads(),
    )
    images = SplitImages(train, settings)
    others = None if nproc is None else world()
    if others is not None:
        return others.train(job, module, images, callbacks)
    if count > 1:
        return train_in_processes(count, job, module, images, callbacks or TrainingCallbacks())
    return job.run(WorkerGroup(), module, images.of(WorkerGroup(), 0), callbacks, teacher)


def channel_statistics(images: Images) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Measure mean and standard deviation of each channel over all images.

    Args:
        images: Images (N, C, H, W) in [0, 1].

    Returns:
        C means and C standard deviations, in units of [0, 1]; that of a constant channel is 1.
    """
    pixels = images.double()
    std = pixels.std((0, 2, 3), correction=0)
    std = std.where(std > 1e-6, torch.ones_like(std))
    return tuple(pixels.mean((0, 2, 3)).tolist()), tuple(std.tolist())


def _per_channel(value: float | Sequence[float] | None, measured: tuple[float, ...]) -> tuple[float, ...]:
    if value is None:
        return measured
    numbers = (float(value),) if isinstance(value, int | float) else tuple(float(v) for v in value)
    return numbers * len(measured) if len(numbers) == 1 else numbers
