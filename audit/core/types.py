"""Tensor types and the values that methods exchange."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from audit.core.objects import Objects
from audit.core.pass_count import PassCount as PassCount

Images: TypeAlias = Float[Tensor, "n channels height width"]
"""float32 in [0, 1], NCHW."""
Labels: TypeAlias = Int64[Tensor, " n"]
Logits: TypeAlias = Float[Tensor, "n classes"]
ClassMask: TypeAlias = Bool[Tensor, "n classes"]
"""True for the classes whose prediction counts as adversarial."""
Attributions: TypeAlias = Float[Tensor, "n channels_or_one height width"]
Segments: TypeAlias = Int64[Tensor, "n height width"]
Masks: TypeAlias = Bool[Tensor, "n height width"]
"""True where the object is."""


@dataclass(frozen=True)
class Batch:
    """Examples with their labels.

    Attributes:
        images: Float32 (N, C, H, W) in [0, 1].
        labels: True classes, int64 (N,).
        ids: A stable id per example, which seeds its random draws.
        adversarial_classes: The predictions that count as adversarial, bool (N, classes); None for every class but the
            label.
        masks: Where the object is, bool (N, H, W); None where the data has no masks; all False for an image without
            one.
        objects: What is to be found in each image, N of them; None where each image has one label alone.
    """

    images: Images
    labels: Labels
    ids: tuple[str, ...]
    adversarial_classes: ClassMask | None = None
    masks: Masks | None = None
    objects: tuple[Objects, ...] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def select(self, index: Tensor) -> Batch:
        """Some of the examples.

        Args:
            index: Their positions, int64 (M,), or a mask, bool (N,).
        """
        if index.dtype == torch.bool:
            index = index.nonzero().flatten()
        return replace(
            self,
            images=self.images[index],
            labels=self.labels[index],
            ids=tuple(self.ids[i] for i in index.tolist()),
            adversarial_classes=None if self.adversarial_classes is None else self.adversarial_classes[index],
            masks=None if self.masks is None else self.masks[index],
            objects=None if self.objects is None else tuple(self.objects[i] for i in index.tolist()),
        )

    def to(self, device: torch.device | str) -> Batch:
        """The batch on a device.

        Args:
            device: Where the tensors are to be; ids stay.
        """
        return replace(
            self,
            images=self.images.to(device),
            labels=self.labels.to(device),
            adversarial_classes=None if self.adversarial_classes is None else self.adversarial_classes.to(device),
            masks=None if self.masks is None else self.masks.to(device),
            objects=None if self.objects is None else tuple(some.to(device) for some in self.objects),
        )

    def target_mask(self, classes: int) -> ClassMask:
        """The predictions that count as adversarial.

        Args:
            classes: Number of classes, K; not used where `adversarial_classes` is set.

        Returns:
            bool (N, K).
        """
        if self.adversarial_classes is not None:
            return self.adversarial_classes
        mask = torch.ones(len(self), classes, dtype=torch.bool, device=self.labels.device)
        return mask.scatter_(1, self.labels[:, None], False)


def concatenate(batches: Sequence[Batch]) -> Batch:
    """Concatenate batches.

    Args:
        batches: At least one batch; either all or none have `adversarial_classes`. Masks and objects are dropped
            unless all have them.
    """
    first = batches[0]
    masks = [b.masks for b in batches if b.masks is not None]
    objects = [b.objects for b in batches if b.objects is not None]
    return Batch(
        images=torch.cat([b.images for b in batches]),
        labels=torch.cat([b.labels for b in batches]),
        ids=tuple(name for b in batches for name in b.ids),
        adversarial_classes=None
        if first.adversarial_classes is None
        else torch.cat([b.target_mask(0) for b in batches]),
        masks=torch.cat(masks) if len(masks) == len(batches) else None,
        objects=sum(objects, ()) if len(objects) == len(batches) else None,
    )
