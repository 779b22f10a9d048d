"""What a detector looks like to the audit, whoever wrote it: the base of all adapters."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import Tensor, nn

from audit.core.errors import NotApplicable
from audit.core.note import Note, note
from audit.core.objects import Candidates, Detections, Objects
from audit.core.types import Images


class DetectorForm(nn.Module, ABC):
    """A detector that takes images of one shape in [0, 1] and answers in their pixels and in the data's classes.

    Normalisation and resizing are inside. What it gives for an image does not depend on the other images of the batch.

    Attributes:
        gives_losses: Whether `losses` gives the losses that the detector is trained by.
        gives_candidates: Whether `candidates` gives the boxes before suppression.
        gives_gradients: Whether losses and candidates have gradients with respect to the images.
        notes: What a reader should know about how the detector is run.
    """

    gives_losses: bool = True
    gives_candidates: bool = True
    gives_gradients: bool = True
    notes: tuple[Note, ...] = ()

    @abstractmethod
    def detect(self, images: Images) -> list[Detections]:
        """What the detector finds, after its own thresholds and suppression.

        Args:
            images: Float32 (N, C, H, W) in [0, 1].

        Returns:
            The detections in each image, in any order.
        """

    def losses(self, images: Images, objects: Sequence[Objects]) -> Tensor:
        """The loss of each image that the detector is trained by, all its parts added up.

        Args:
            images: Float32 (N, C, H, W) in [0, 1].
            objects: What is there in each; may be none.

        Returns:
            Float32 (N,), each what it is for a batch of that image alone.
        """
        raise NotApplicable(note("detector_no_losses", "The detector does not give the losses it is trained by."))

    def candidates(self, images: Images) -> list[Candidates]:
        """The boxes of each image before suppression, with the score of every class.

        Args:
            images: Float32 (N, C, H, W) in [0, 1].
        """
        raise NotApplicable(note("detector_no_candidates", "The detector gives no boxes before its suppression."))

    def working_pixels(self, height: int, width: int) -> int:
        """The pixels that it computes on for one image, which say how many images fit in a batch.

        Args:
            height: Of the images it is given.
            width: Of the images it is given.
        """
        return height * width
