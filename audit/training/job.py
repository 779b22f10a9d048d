"""A training that several processes share, as rank 0 hands it to the others."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import cloudpickle
import torch
from torch import nn

from audit.config import TrainingConfig
from audit.core.errors import SetupError, UsageError
from audit.core.threat import ThreatModel
from audit.core.types import Images, Logits
from audit.models.batching import is_out_of_memory
from audit.training.callbacks import TrainingCallbacks
from audit.training.distributed import WorkerGroup
from audit.training.loop import run_training
from audit.training.state import TrainingResult
from audit.training.training_data import SplitImages, TrainingData


@dataclass(frozen=True)
class TrainingJob:
    """What every process of a training is told, but for its images.

    Attributes:
        settings: The configuration of the training.
        classes: The number of classes.
        threat: The adversary, which adversarial recipes need.
        seed: The seed of every draw.
        normalisation: Mean and standard deviation of each channel, in units of [0, 1].
        device: "cpu" or "cuda", or in one process any device.
        threads: CPU threads of the process that began.
    """

    settings: TrainingConfig
    classes: int
    threat: ThreatModel | None
    seed: int
    normalisation: tuple[tuple[float, ...], tuple[float, ...]]
    device: torch.device
    threads: int

    def run(
        self,
        workers: WorkerGroup,
        module: nn.Module,
        data: TrainingData,
        callbacks: TrainingCallbacks | None = None,
        teacher: Callable[[Images], Logits] | None = None,
    ) -> TrainingResult:
        """Train as one process of a group.

        Args:
            workers: This process among the others.
            module: The net, trained in place.
            data: What this process holds of the images.
            callbacks: What to call on the way.
            teacher: The logits (N, classes) of another model, for distillation.

        Raises:
            AuditError: As `audit.training.fit.fit` says.
        """
        with _saying_how_to_save_memory(self.settings), _threads_of_a_share(self.threads, self.settings.shares):
            return run_training(
                workers,
                module=module,
                data=data,
                settings=self.settings,
                classes=self.classes,
                threat=self.threat,
                seed=self.seed,
                normalisation=self.normalisation,
                device=self.device,
                teacher=teacher,
                callbacks=callbacks,
            )


def lead(
    workers: WorkerGroup, job: TrainingJob, module: nn.Module, images: SplitImages, callbacks: TrainingCallbacks | None
) -> TrainingResult:
    """Train as rank 0 of several processes, the others of which `follow`.

    Args:
        workers: The processes.
        job: The training.
        module: The net, trained in place.
        images: All images.
        callbacks: What to call on the way.
    """
    workers.from_rank0(lambda: (job, pickled(module)))
    data = workers.scatter(lambda rank: images.of(workers, rank))
    return job.run(workers, module, data, callbacks)


def follow(workers: WorkerGroup, device: torch.device, callbacks: TrainingCallbacks | None = None) -> TrainingResult:
    """Train as another rank than 0 of several processes.

    Args:
        workers: The processes.
        device: Where this process trains.
        callbacks: What to call on the way.
    """
    told: tuple[TrainingJob, bytes] = workers.from_rank0(_given_by_rank0)
    job, body = told
    data: TrainingData = workers.scatter(_given_by_rank0)
    return replace(job, device=device).run(workers, pickle.loads(body), data, callbacks)


def _given_by_rank0(*_: int) -> Any:
    raise AssertionError("Rank 0 leads and gives this.")


def pickled(module: nn.Module) -> bytes:
    """A net for another process; code that the user trusts by its file goes with it.

    Args:
        module: The net.

    Raises:
        UsageError: When the net cannot be pickled.
    """
    names = {type(layer).__module__ for layer in module.modules()}
    local_modules = [sys.modules[name] for name in names if _not_importable(name)]
    for code in local_modules:
        cloudpickle.register_pickle_by_value(code)
    try:
        return bytes(cloudpickle.dumps(module))
    except Exception as fault:  # whatever a class of the user's raises when it is pickled
        raise UsageError(
            f"Several processes each need the net, and {type(module).__name__} cannot be handed to another process "
            f"({fault}). Leave --nproc out."
        ) from fault
    finally:
        for code in local_modules:
            cloudpickle.unregister_pickle_by_value(code)


def _not_importable(name: str) -> bool:
    """Whether another process cannot import the module, as with code that the user trusts by its file."""
    return name in sys.modules and name != "__main__" and sys.modules[name].__spec__ is None


@contextmanager
def _threads_of_a_share(threads: int, shares: int) -> Iterator[None]:
    """The threads that a share is computed with: sums over a batch differ by them, so they rest on the shares alone."""
    before = torch.get_num_threads()
    wanted = before if shares == 1 else max(1, threads // shares)
    if wanted != before:
        torch.set_num_threads(wanted)
    try:
        yield
    finally:
        if wanted != before:
            torch.set_num_threads(before)


@contextmanager
def _saying_how_to_save_memory(settings: TrainingConfig) -> Iterator[None]:
    """What to say where the passes of a training do not fit in parts either (see `audit.training.memory`)."""
    try:
        yield
    except (RuntimeError, MemoryError) as fault:
        if not is_out_of_memory(fault):
            raise
        raise SetupError(
            f"Out of memory while training with batches of {settings.batch_size}; nothing finished is lost. Train with "
            f"--batch-size {max(2, settings.batch_size // 2)}, a smaller --image-size or a smaller architecture."
        ) from fault
