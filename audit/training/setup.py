"""What does not change during a training: examples on their device, their order, settings and adversary."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from audit.config import TrainingConfig
from audit.core.errors import UsageError
from audit.core.note import Note, note
from audit.core.objects import Objects
from audit.core.registry import Method, find, methods
from audit.core.seeding import Generators, torch_generator
from audit.core.threat import ThreatModel
from audit.core.types import Images, Labels, Logits
from audit.training.augment import augment
from audit.training.distributed import WorkerGroup
from audit.training.step import PerExampleLoss, TrainingStep
from audit.training.training_data import HeldOutPart, TrainingData

_RESIDENT_SHARE = 0.5
"""Share of a device's free memory that the images may take."""
_STEPS_AT_LEAST = 4
"""Batches an epoch is cut into where the images are fewer than one batch."""
_SINGLE_PROCESS = WorkerGroup()


@dataclass(frozen=True)
class Share:
    """The training images of one share of every batch.

    Attributes:
        images: (N, C, H, W) in [0, 1], on the device of the net when they fit there.
        labels: On the device, int64 (N,).
        generators: One random generator an image, on the device.
        objects: What is to be found in each image; empty for a classifier.
    """

    images: Images
    labels: Labels
    generators: Generators
    objects: tuple[Objects, ...] = ()


@dataclass(frozen=True)
class TrainingSetup:
    """The examples, their order, the settings and the adversary of a training.

    Attributes:
        settings: The validated configuration.
        recipe: The registered recipe that the settings name.
        recipe_settings: Its validated settings, defaults included.
        threat: The adversary; None for a recipe without one.
        seed: The seed of every draw of the training.
        device: Where the net is.
        data: What this process holds of the images, on the CPU.
        held_out: The parts on `device` of the images that choose the best epoch.
        shares: The training images by the number of their share, those of this process.
        keeps_perturbations: Whether the images are the same in each epoch, and a perturbation of each fits on the
            device beside them.
        teacher: The logits (N, classes) of another model, for recipes that learn from one.
        workers: The processes that train together.
    """

    settings: TrainingConfig
    recipe: Method
    recipe_settings: Mapping[str, Any]
    threat: ThreatModel | None
    seed: int
    device: torch.device
    data: TrainingData
    held_out: tuple[HeldOutPart, ...]
    shares: Mapping[int, Share]
    keeps_perturbations: bool
    teacher: Callable[[Images], Logits] | None = None
    workers: WorkerGroup = _SINGLE_PROCESS

    @property
    def batch_size(self) -> int:
        """The number of images of a batch: as configured, or a quarter of the images where they are fewer than that."""
        count = self.data.count
        return self.settings.batch_size if count >= self.settings.batch_size else max(2, count // _STEPS_AT_LEAST)

    @property
    def share_size(self) -> int:
        """The number of images of a share of a batch."""
        return max(1, self.batch_size // self.settings.shares)

    @property
    def steps_per_epoch(self) -> int:
        """The number of whole batches: a last short one would change the weight of its examples."""
        return self.data.count // self.settings.shares // self.share_size

    @property
    def notes(self) -> tuple[Note, ...]:
        """What a reader should know of the setup; empty where it is as configured."""
        if self.batch_size == self.settings.batch_size:
            return ()
        return (
            note(
                "training_small_batch",
                "Training has {count} images to learn from, fewer than a batch of {configured}: it took {taken} at a "
                "time.",
                count=self.data.count,
                configured=self.settings.batch_size,
                taken=self.batch_size,
            ),
        )

    @property
    def detects(self) -> bool:
        """Whether a detector is trained, on objects and not on labels."""
        return self.data.detects

    @property
    def adversarial(self) -> bool:
        """Whether the recipe trains against an adversary."""
        return bool(self.recipe.facts["adversarial"])

    def identity(self) -> dict[str, Any]:
        """JSON values that a checkpoint must agree with before it may be resumed."""
        threat = None if self.threat is None else str(self.threat)
        settings = self.settings.model_dump(mode="json")
        return settings | {"threat": threat, "seed": self.seed, "examples": self.data.digest}

    def epoch_order(self, epoch: int) -> dict[int, Tensor]:
        """Draw the order of the examples in an epoch.

        Args:
            epoch: The epoch, from 0.

        Returns:
            By share of this process, indices into its images, int64 (N,) on the CPU.
        """
        generator, count = torch_generator(self.seed, "training order", epoch), self.settings.shares
        order = torch.randperm(self.data.count, generator=generator, device="cpu")
        return {share: order[order % count == share] // count for share in self.shares}

    def training_step(
        self, share: int, indices: Tensor, epoch: int, recipe_state: dict[str, Tensor], progress: float = 0.0
    ) -> TrainingStep:
        """Put a share of a batch on the device, augmented with this epoch's draws.

        Args:
            share: The number of the share.
            indices: Indices into its images, int64 (N,) on the CPU.
            epoch: The epoch, from 0.
            recipe_state: What the recipe keeps of this share from one batch to the next.
            progress: Share of the training that is done, in [0, 1).

        Returns:
            What the recipe is given.
        """
        own = self.shares[share]
        on_device = indices.to(self.device, non_blocking=True)
        images = own.images[indices.to(own.images.device)].to(self.device, non_blocking=True)
        generators = own.generators.select(on_device).fork(epoch)
        images = augment(images, generators.fork(0), self.settings.augmentation)
        return TrainingStep(
            images=images,
            labels=own.labels[on_device],
            generators=generators.fork(1),
            loss=self.loss,
            threat=self.threat,
            recipe_state=recipe_state,
            indices=on_device,
            total=len(own.labels),
            progress=progress,
            teacher=self.teacher,
            keeps_perturbations=self.keeps_perturbations,
            objects=tuple(own.objects[i].to(self.device) for i in indices.tolist()) if own.objects else (),
        )

    @property
    def loss(self) -> PerExampleLoss:
        """The cross entropy of each example, labels smoothed as the settings say."""
        smoothing = self.settings.label_smoothing

        def smoothed(logits: Logits, labels: Labels) -> Tensor:
            return cross_entropy(logits, labels, reduction="none", label_smoothing=smoothing)

        return smoothed


def build_setup(
    data: TrainingData,
    settings: TrainingConfig,
    *,
    threat: ThreatModel | None,
    seed: int,
    device: torch.device,
    teacher: Callable[[Images], Logits] | None = None,
    workers: WorkerGroup = _SINGLE_PROCESS,
) -> TrainingSetup:
    """Check the settings against each other and move the images to the device.

    Args:
        data: What this process holds of the images.
        settings: The configuration of the training.
        threat: The adversary, which adversarial recipes need.
        seed: The seed of every draw.
        device: Where the net will be.
        teacher: The logits of another model, which recipes that learn from one need.
        workers: The processes that train together.

    Returns:
        The setup.

    Raises:
        UsageError: When the recipe lacks its adversary or its teacher, or its settings do not go together.
    """
    recipe = find("recipe", settings.recipe)
    adversarial = bool(recipe.facts["adversarial"])
    if adversarial and threat is None:
        raise UsageError(f"Recipe {recipe.name!r} trains against an adversary: give its norm and eps.")
    if recipe.facts.get("teacher") and teacher is None:
        raise UsageError(f"Recipe {recipe.name!r} learns from another model: give the teacher.")
    recipe_settings = recipe.settings(settings.recipe_settings)
    if recipe_settings.get("start") == "previous" and settings.augmentation.active:
        raise UsageError(
            "With start = 'previous' the adversary goes on where it left an image, and augmentation moves the image "
            "away from there: set augmentation to none, or start to auto or random."
        )
    require_recipe_of_task(settings, detects=data.detects)
    size = data.count * data.first[0].numel() * data.first.element_size()
    resident, kept = workers.from_rank0(
        lambda: tuple(_device_for_images(times * size // 2, device).type for times in (2, 3))
    )
    images_on = device if resident == device.type else torch.device("cpu")
    return TrainingSetup(
        settings=settings,
        recipe=recipe,
        recipe_settings=recipe_settings,
        threat=threat if adversarial else None,
        seed=seed,
        device=device,
        data=data,
        held_out=tuple(HeldOutPart(part.batch.to(device), part.attacked) for part in data.held_out),
        shares={
            share: Share(
                images=batch.images.to(images_on),
                labels=batch.labels.to(device),
                generators=Generators.of(batch.ids, seed=seed, purpose="training", device=device),
                objects=batch.objects or (),
            )
            for share, batch in data.shares.items()
        },
        keeps_perturbations=not settings.augmentation.active and kept == device.type,
        teacher=teacher,
        workers=workers,
    )


def require_recipe_of_task(settings: TrainingConfig, *, detects: bool) -> None:
    """Refuse a recipe of classifiers for a detector, or the reverse, and views of images that leave boxes behind.

    Args:
        settings: The configuration of the training.
        detects: Whether a detector is trained.

    Raises:
        UsageError: They do not go together.
    """
    recipe = find("recipe", settings.recipe)
    if (recipe.facts.get("task") == "detection") != detects:
        names = [method.name for method in methods("recipe") if (method.facts.get("task") == "detection") == detects]
        kind = "a detector" if detects else "a classifier"
        raise UsageError(f"Recipe {recipe.name!r} does not train {kind}; one of {', '.join(names)} was expected.")
    if detects and settings.augmentation.active:
        raise UsageError(
            "Augmentation moves images and leaves their boxes where they were: train a detector with augmentation none."
        )


def _device_for_images(size: int, device: torch.device) -> torch.device:
    """The device itself when the images of all processes would fit beside the net, in bytes, else the CPU.

    Those of all, though a process holds its own alone: what a recipe keeps of an image rests on it, and the number of
    processes must not change that.
    """
    if device.type != "cuda":
        return device
    free, _ = torch.cuda.mem_get_info(device)
    return device if size < free * _RESIDENT_SHARE else torch.device("cpu")
