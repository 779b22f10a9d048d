"""The images of a training, cut for the processes that share it: each holds its own shares of them and no others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from audit.config import TrainingConfig
from audit.core.errors import DataError
from audit.core.seeding import derive_seed
from audit.core.types import Batch, Images
from audit.training.distributed import WorkerGroup

_HELD_OUT_AT_ONCE = 128
_HELD_OUT_AT_LEAST = 16
_FIRST = 4


@dataclass(frozen=True)
class HeldOutPart:
    """Held-out images that are looked at in one batch.

    Attributes:
        batch: The images with labels and ids.
        attacked: How many of the first are attacked.
    """

    batch: Batch
    attacked: int


@dataclass(frozen=True)
class TrainingData:
    """What one process holds of the images of a training, on the CPU.

    Attributes:
        count: The number of images to learn from, those of all processes.
        shares: Of those, the images of each share of this process; example i of all is in share i modulo their number.
        held_out: The parts of the held-out images that this process looks at.
        held_out_count: The number of held-out images, those of all processes.
        attacked_count: How many of those are attacked.
        first: The first held-out images, (up to 4, C, H, W), the same in every process.
        digest: A number that tells these images, and what was held out, from others.
    """

    count: int
    shares: Mapping[int, Batch]
    held_out: tuple[HeldOutPart, ...]
    held_out_count: int
    attacked_count: int
    first: Images
    digest: int

    @property
    def detects(self) -> bool:
        """Whether the images have objects to find, and not one label each."""
        return any(batch.objects is not None for batch in self.shares.values())


class SplitImages:
    """The images of a training, some of them held out.

    Attributes:
        examples: The images to learn from.
        held_out: The others.
    """

    def __init__(self, train: Batch, settings: TrainingConfig) -> None:
        """Hold images out.

        Args:
            train: Images on the CPU with labels and ids.
            settings: The share to hold out, the shares of a batch, and how many held-out images are attacked.

        Raises:
            DataError: When there are too few images, or all have one label.
        """
        self.examples, self.held_out = hold_out(train, settings.held_out)
        self._shares = settings.shares
        self._attacked = min(settings.probe_examples, len(self.held_out))
        _require_enough(self.examples, self.held_out, settings.shares)
        self._digest = derive_seed(*self.examples.ids, *self.held_out.ids)

    def packed(self) -> dict[str, Any]:
        """All of it as tensors and plain values, for a file."""
        batches = {"examples": self.examples, "held_out": self.held_out}
        return {name: (batch.images, batch.labels, list(batch.ids)) for name, batch in batches.items()} | {
            "numbers": [self._shares, self._attacked, self._digest]
        }

    @classmethod
    def unpacked(cls, values: Mapping[str, Any]) -> SplitImages:
        """The images again.

        Args:
            values: What `packed` gave.
        """
        split = cls.__new__(cls)
        split.examples, split.held_out = (
            Batch(images, labels, tuple(ids)) for images, labels, ids in (values["examples"], values["held_out"])
        )
        split._shares, split._attacked, split._digest = values["numbers"]
        return split

    def of(self, workers: WorkerGroup, rank: int) -> TrainingData:
        """What one process holds.

        Args:
            workers: The processes.
            rank: The number of the process.
        """
        return TrainingData(
            count=len(self.examples),
            shares={share: self._share(share) for share in workers.shares(self._shares, rank)},
            held_out=self._parts(rank, workers.world_size),
            held_out_count=len(self.held_out),
            attacked_count=self._attacked,
            first=self.held_out.images[:_FIRST].clone(),
            digest=self._digest,
        )

    def _share(self, share: int) -> Batch:
        if self._shares == 1:
            return self.examples
        return self.examples.select(torch.arange(share, len(self.examples), self._shares, device="cpu"))

    def _parts(self, rank: int, world_size: int) -> tuple[HeldOutPart, ...]:
        """The size of a part rests on the number of shares alone: in another the last bits of a logit may differ."""
        size = _HELD_OUT_AT_ONCE
        if self._shares > 1:
            size = max(_HELD_OUT_AT_LEAST, size // self._shares)
        count = len(self.held_out)
        return tuple(
            HeldOutPart(
                self.held_out.select(torch.arange(start, min(start + size, count), device="cpu")),
                min(size, max(0, self._attacked - start)),
            )
            for start in range(rank * size, count, world_size * size)
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


def _require_enough(examples: Batch, held_out: Batch, shares: int) -> None:
    fewest = max(2, shares)
    if len(examples) < fewest:
        raise DataError(
            f"{len(examples) + len(held_out)} training images are too few: {len(held_out)} held out to judge by, "
            f"{len(examples)} left to learn from, where at least {fewest} were expected. Give more images."
        )
    if examples.objects is None and bool((examples.labels == examples.labels[0]).all()):
        raise DataError(
            f"All {len(examples)} training images have the label {int(examples.labels[0])}: there is nothing to tell "
            "apart. Give images of at least two classes."
        )
