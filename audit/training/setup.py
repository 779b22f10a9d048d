"""What does not change during a training: examples on their device, their order, settings and adversary."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from audit.config import TrainingConfig
from audit.core.errors import DataError, UsageError
from audit.core.note import Note, note
from audit.core.objects import Objects
from audit.core.registry import Method, find, methods
from audit.core.seeding import Generators, derive_seed, torch_generator
from audit.core.threat import ThreatModel
from audit.core.types import Batch, Images, Labels, Logits
from audit.training.augment import augment
from audit.training.distributed import WorkerGroup
from audit.training.step import PerExampleLoss, TrainingStep

_RESIDENT_SHARE = 0.5
"""Share of a device's free memory that the images may take."""
_STEPS_AT_LEAST = 4
"""Batches an epoch is cut into where the images are fewer than one batch."""
_SINGLE_PROCESS = WorkerGroup()


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
        examples: The training images, none of them in `held_out`, on the CPU.
        held_out: The images on `device` that choose the best epoch.
        images: The images of `examples`, (N, C, H, W) in [0, 1], on `device` when they fit there.
        labels: The labels of `examples` on `device`, int64 (N,).
        generators: One random generator for each of `examples`.
        teacher: The logits (N, classes) of another model, for recipes that learn from one.
        workers: The processes that train together.
    """

    settings: TrainingConfig
    recipe: Method
    recipe_settings: Mapping[str, Any]
    threat: ThreatModel | None
    seed: int
    device: torch.device
    examples: Batch
    held_out: Batch
    images: Images
    labels: Labels
    generators: Generators
    teacher: Callable[[Images], Logits] | None = None
    workers: WorkerGroup = _SINGLE_PROCESS

    @property
    def batch_size(self) -> int:
        """The number of images of a batch: as configured, or a quarter of the images where they are fewer than that."""
        count = len(self.examples)
        return self.settings.batch_size if count >= self.settings.batch_size else max(2, count // _STEPS_AT_LEAST)

    @property
    def local_batch_size(self) -> int:
        """The number of images of a batch that this process learns from."""
        return max(1, self.batch_size // self.workers.world_size)

    @property
    def steps_per_epoch(self) -> int:
        """The number of whole batches: a last short one would change the weight of its examples."""
        return len(self.examples) // self.workers.world_size // self.local_batch_size

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
                count=len(self.examples),
                configured=self.settings.batch_size,
                taken=self.batch_size,
            ),
        )

    @property
    def detects(self) -> bool:
        """Whether a detector is trained, on objects and not on labels."""
        return self.examples.objects is not None

    @property
    def objects(self) -> tuple[Objects, ...]:
        """What is to be found in each of `examples`; empty for a classifier."""
        return self.examples.objects or ()

    @cached_property
    def keeps_perturbations(self) -> bool:
        """Whether the images are the same in each epoch, and a perturbation of each fits on the device beside them."""
        return not self.settings.augmentation.active and _device_for_images(self.images, self.device) == self.device

    @property
    def adversarial(self) -> bool:
        """Whether the recipe trains against an adversary."""
        return bool(self.recipe.facts["adversarial"])

    def identity(self) -> dict[str, Any]:
        """JSON values that a checkpoint must agree with before it may be resumed."""
        threat = None if self.threat is None else str(self.threat)
        examples = derive_seed(*self.examples.ids, *self.held_out.ids)
        return self.settings.model_dump(mode="json") | {"threat": threat, "seed": self.seed, "examples": examples}

    def epoch_order(self, epoch: int) -> Tensor:
        """Draw the order of this process's examples in an epoch.

        Args:
            epoch: The epoch, from 0.

        Returns:
            Indices into `examples`, int64 (N,) on the CPU.
        """
        generator = torch_generator(self.seed, "training order", epoch)
        return self.workers.shard(torch.randperm(len(self.examples), generator=generator, device="cpu"))

    def training_step(
        self, indices: Tensor, epoch: int, recipe_state: dict[str, Tensor], progress: float = 0.0
    ) -> TrainingStep:
        """Put a batch on the device, augmented with this epoch's draws.

        Args:
            indices: Indices into `examples`, int64 (N,) on the CPU.
            epoch: The epoch, from 0.
            recipe_state: What the recipe keeps from one batch to the next.
            progress: Share of the training that is done, in [0, 1).

        Returns:
            What the recipe is given.
        """
        on_device = indices.to(self.device, non_blocking=True)
        images = self.images[indices.to(self.images.device)].to(self.device, non_blocking=True)
        generators = self.generators.select(on_device).fork(epoch)
        images = augment(images, generators.fork(0), self.settings.augmentation)
        return TrainingStep(
            images=images,
            labels=self.labels[on_device],
            generators=generators.fork(1),
            loss=self.loss,
            threat=self.threat,
            recipe_state=recipe_state,
            indices=on_device,
            total=len(self.examples),
            progress=progress,
            teacher=self.teacher,
            keeps_perturbations=self.keeps_perturbations,
            objects=tuple(self.objects[i].to(self.device) for i in indices.tolist()) if self.detects else (),
        )

    @property
    def loss(self) -> PerExampleLoss:
        """The cross entropy of each example, labels smoothed as the settings say."""
        smoothing = self.settings.label_smoothing

        def smoothed(logits: Logits, labels: Labels) -> Tensor:
            return cross_entropy(logits, labels, reduction="none", label_smoothing=smoothing)

        return smoothed


def build_setup(
    train: Batch,
    settings: TrainingConfig,
    *,
    threat: ThreatModel | None,
    seed: int,
    device: torch.device,
    teacher: Callable[[Images], Logits] | None = None,
    workers: WorkerGroup = _SINGLE_PROCESS,
) -> TrainingSetup:
    """Check the settings against the data, hold images out and move the others to the device.

    Args:
        train: Images on the CPU with labels and ids.
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
        DataError: When there are too few images, or all have one label.
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
    _require_the_task(recipe, settings, detects=train.objects is not None)
    examples, held_out = hold_out(train, settings.held_out)
    _require_enough(examples, held_out, workers.world_size)
    return TrainingSetup(
        settings=settings,
        recipe=recipe,
        recipe_settings=recipe_settings,
        threat=threat if adversarial else None,
        seed=seed,
        device=device,
        examples=examples,
        held_out=held_out.to(device),
        images=examples.images.to(_device_for_images(examples.images, device)),
        labels=examples.labels.to(device),
        generators=Generators.of(examples.ids, seed=seed, purpose="training", device=device),
        teacher=teacher,
        workers=workers,
    )


def hold_out(train: Batch, share: float) -> tuple[Batch, Batch]:
    """Split examples into those to learn from and those held out.

    The choice rests on the ids alone, so that a net trained further, under whatever seed, is never judged on images
    that its first training has learnt.

    Args:
        train: All examples.
        share: The share to hold out, in [0, 1]; one example at least.

    Returns:
        The examples to learn from, and those held out.
    """
    count = max(1, round(share * len(train)))
    by_id = sorted(range(len(train)), key=lambda i: derive_seed("held out", train.ids[i]))
    mask = torch.zeros(len(train), dtype=torch.bool, device="cpu")
    mask[by_id[:count]] = True
    return train.select(~mask), train.select(mask)


def _require_the_task(recipe: Method, settings: TrainingConfig, *, detects: bool) -> None:
    """Raises UsageError for a recipe of classifiers on images with objects or the reverse, or views without boxes."""
    if (recipe.facts.get("task") == "detection") != detects:
        names = [method.name for method in methods("recipe") if (method.facts.get("task") == "detection") == detects]
        kind = "a detector" if detects else "a classifier"
        raise UsageError(f"Recipe {recipe.name!r} does not train {kind}; one of {', '.join(names)} was expected.")
    if detects and settings.augmentation.active:
        raise UsageError(
            "Augmentation moves images and leaves their boxes where they were: train a detector with augmentation none."
        )


def _require_enough(examples: Batch, held_out: Batch, workers: int) -> None:
    fewest = max(2, workers)
    if len(examples) < fewest or len(held_out) == 0:
        raise DataError(
            f"Training has {len(examples)} images to learn from and {len(held_out)} held out, where at least {fewest} "
            "and one were expected. Give more images."
        )
    if examples.objects is None and bool((examples.labels == examples.labels[0]).all()):
        raise DataError(
            f"All {len(examples)} training images have the label {int(examples.labels[0])}: there is nothing to tell "
            "apart. Give images of at least two classes."
        )


def _device_for_images(images: Images, device: torch.device) -> torch.device:
    """The device itself when the images fit beside the net, else the CPU."""
    if device.type != "cuda":
        return device
    free, _ = torch.cuda.mem_get_info(device)
    fits = images.numel() * images.element_size() < free * _RESIDENT_SHARE
    return device if fits else torch.device("cpu")
