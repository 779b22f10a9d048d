"""What stands still while a net is trained: the examples on their device, their order, the settings, the adversary."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from audit.config import TrainingConfig
from audit.core.errors import DataError, UsageError
from audit.core.registry import Method, find
from audit.core.seeding import Generators, derive_seed, torch_generator
from audit.core.threat import ThreatModel
from audit.core.types import Batch, Images, Labels, Logits
from audit.training.augment import augment
from audit.training.distributed import WorkerGroup
from audit.training.step import Loss, TrainingStep

_RESIDENT_SHARE = 0.5
"""Of a device's free memory that the images may take."""
_ALONE = WorkerGroup()


@dataclass(frozen=True)
class TrainingSetup:
    """`examples` and `held_out` are disjoint; `images` those of `examples`, on the device when they fit;
    `keys` one random key an example; `teacher` logits to learn from; `settings` and `recipe_settings` are validated;
    `team` the processes that train together."""

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
    keys: Generators
    teacher: Callable[[Images], Logits] | None = None
    team: WorkerGroup = _ALONE

    @property
    def batch_share(self) -> int:
        """Images of a batch that this process learns from."""
        return self.settings.batch_size // self.team.size

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches only: a last short one would change the weight of its examples."""
        return len(self.examples) // self.team.size // self.batch_share

    @property
    def adversarial(self) -> bool:
        """Whether the recipe trains against an adversary."""
        return bool(self.recipe.facts["adversarial"])

    def identity(self) -> dict[str, Any]:
        """What a checkpoint must agree on before it may be resumed."""
        threat = None if self.threat is None else str(self.threat)
        examples = derive_seed(*self.examples.ids, *self.held_out.ids)
        return self.settings.model_dump(mode="json") | {"threat": threat, "seed": self.seed, "examples": examples}

    def order(self, epoch: int) -> Tensor:
        """The order of this process's examples in an epoch, int64 (N,) on the CPU."""
        generator = torch_generator(self.seed, "training order", epoch)
        return self.team.share(torch.randperm(len(self.examples), generator=generator, device="cpu"))

    def lesson(self, index: Tensor, epoch: int, memory: dict[str, Tensor]) -> TrainingStep:
        """The examples at `index` (int64, CPU), on the device, with this epoch's random draws."""
        here = index.to(self.device, non_blocking=True)
        images = self.images[index.to(self.images.device)].to(self.device, non_blocking=True)
        generators = self.keys.select(here).fork(epoch)
        images = augment(images, generators.fork(0), self.settings.augmentation)
        return TrainingStep(
            images=images,
            labels=self.labels[here],
            generators=generators.fork(1),
            loss=self.loss,
            threat=self.threat,
            memory=memory,
            positions=here,
            total=len(self.examples),
            teacher=self.teacher,
        )

    @property
    def loss(self) -> Loss:
        """Cross entropy of each example, labels smoothed as the settings say."""
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
    team: WorkerGroup = _ALONE,
) -> TrainingSetup:
    """Check the settings against the data and lay everything out. Raises UsageError and DataError."""
    recipe = find("recipe", settings.recipe)
    adversarial = bool(recipe.facts["adversarial"])
    if adversarial and threat is None:
        raise UsageError(f"Recipe {recipe.name!r} trains against an adversary: give its norm and eps.")
    if recipe.facts.get("teacher") and teacher is None:
        raise UsageError(f"Recipe {recipe.name!r} learns from another model: give the teacher.")
    chosen = recipe.settings(settings.recipe_settings)
    if chosen.get("start") == "previous" and settings.augmentation.active:
        raise UsageError(
            "With start = 'previous' the adversary goes on where it left an image, and augmentation moves the image "
            "away from there: set augmentation to none, or start to random."
        )
    examples, held_out = split(train, settings.held_out)
    _require_enough(examples, held_out, settings.batch_size)
    return TrainingSetup(
        settings=settings,
        recipe=recipe,
        recipe_settings=chosen,
        threat=threat if adversarial else None,
        seed=seed,
        device=device,
        examples=examples,
        held_out=held_out.to(device),
        images=examples.images.to(_home(examples.images, device)),
        labels=examples.labels.to(device),
        keys=Generators.of(examples.ids, seed=seed, purpose="training", device=device),
        teacher=teacher,
        team=team,
    )


def split(train: Batch, share: float) -> tuple[Batch, Batch]:
    """The examples to learn from and those held out.

    The choice rests on the ids alone, so that a net trained further, under whatever seed, is never judged on
    images its start has learnt.
    """
    count = round(share * len(train))
    by_draw = sorted(range(len(train)), key=lambda i: derive_seed("held out", train.ids[i]))
    chosen = torch.zeros(len(train), dtype=torch.bool, device="cpu")
    chosen[by_draw[:count]] = True
    return train.select(~chosen), train.select(chosen)


def _require_enough(examples: Batch, held_out: Batch, batch_size: int) -> None:
    if len(examples) < batch_size or len(held_out) == 0:
        raise DataError(
            f"Training has {len(examples)} images to learn from and {len(held_out)} held out, fewer than one batch of "
            f"{batch_size} and one held out. Give more images, or a smaller batch_size."
        )
    if bool((examples.labels == examples.labels[0]).all()):
        raise DataError(
            f"All {len(examples)} training images have the label {int(examples.labels[0])}: there is nothing to tell "
            "apart. Give images of at least two classes."
        )


def _home(images: Images, device: torch.device) -> torch.device:
    """The device itself when the images fit beside the net, else the CPU."""
    if device.type != "cuda":
        return device
    free, _ = torch.cuda.mem_get_info(device)
    fits = images.numel() * images.element_size() < free * _RESIDENT_SHARE
    return device if fits else torch.device("cpu")
