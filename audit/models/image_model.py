"""What classifiers and detectors under test share: images of one shape on one device, and passes that are counted."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

import torch

from audit.core.errors import ModelError
from audit.core.pass_count import PassCount
from audit.core.types import Images
from audit.models.pass_counter import PassCounter


class ImageModel(ABC):
    """A model that takes images in [0, 1] and counts its passes.

    Attributes:
        what: What it is called in a sentence.
        input_shape: (C, H, W) of its images.
        device: Where it runs.
    """

    what: ClassVar[str]
    input_shape: tuple[int, int, int]
    device: torch.device

    @property
    @abstractmethod
    def meter(self) -> PassCounter:
        """Counts its passes."""

    @property
    def passes(self) -> PassCount:
        """Images forwarded and back-propagated so far."""
        return self.meter.passes

    def charge(self, passes: PassCount) -> None:
        """Count passes that an earlier process made, on what this one goes on from.

        Args:
            passes: The passes.
        """
        self.meter.add(passes)

    @contextmanager
    def count(self) -> Iterator[PassCounter]:
        """Measure the cost of a block: `with model.count() as counter:`, then `counter.passes`."""
        before, counter = self.passes, PassCounter()
        try:
            yield counter
        finally:
            counter.add(self.passes - before)

    def check_images(self, images: Images) -> Images:
        """Images on the model's device as float32.

        Args:
            images: Float (N, C, H, W).

        Raises:
            ModelError: For another shape.
        """
        self.check_shape(images)
        return images.to(self.device, torch.float32)

    def check_shape(self, images: Images) -> None:
        """Refuse images that the model cannot take.

        Args:
            images: Float (N, C, H, W).

        Raises:
            ModelError: For another shape.
        """
        if images.ndim != 4 or tuple(images.shape[1:]) != self.input_shape:
            raise ModelError(
                f"Images of shape {tuple(images.shape)} were given to a {self.what} of inputs (N, "
                f"{', '.join(map(str, self.input_shape))}): channels first, one image a row."
            )
