"""A patch that fools on whatever image it is put, and the threat it belongs to."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from audit.adversarial.targets import PositiveFloat, PositiveInt
from audit.adversarial.universal_ascent import AscentSettings, capped_loss_gradient, mean_gradient_ascent
from audit.core.errors import UsageError, unknown_name
from audit.core.precise import precise
from audit.core.registry import attack
from audit.core.seeding import Generators
from audit.core.types import Batch, Images
from audit.models.losses import LossName, loss_named
from audit.models.under_test import ModelUnderTest

PatchPosition = Literal["top-left", "top-right", "bottom-left", "bottom-right", "centre"]
PATCH_POSITIONS: tuple[PatchPosition, ...] = get_args(PatchPosition)


class PaintedThreat:
    """Paint some pixels of an image, known before, in any colours: a base of patches, which say which pixels."""

    def inside(self, images: Images) -> Tensor:
        """Which pixels, bool (1, 1, H, W) or (N, 1, H, W).

        Args:
            images: The images, (N, C, H, W).
        """
        raise NotImplementedError

    def allows(self, images: Images, origin: Images) -> Tensor:
        """Whether nothing else changed and all is in the box, bool (N,).

        Args:
            images: Float32 (N, C, H, W) in [0, 1].
            origin: The clean images, float32 (N, C, H, W) in [0, 1].
        """
        unchanged = (images == origin).logical_or(self.inside(origin)).flatten(1).all(1)
        flat = images.flatten(1)
        return unchanged & (flat >= 0).all(1) & (flat <= 1).all(1)

    def project(self, images: Images, origin: Images) -> Images:
        """The images where they may be painted, the originals elsewhere.

        Args:
            images: Float32 (N, C, H, W) in [0, 1].
            origin: The clean images, float32 (N, C, H, W) in [0, 1].
        """
        return torch.where(self.inside(origin), images.clamp(0, 1), origin)

    def distance(self, images: Images, origin: Images) -> Tensor:
        """The share of the pixels that changed, float64 (N,).

        Args:
            images: Float32 (N, C, H, W) in [0, 1].
            origin: The clean images, float32 (N, C, H, W) in [0, 1].
        """
        return precise((images != origin).any(1).flatten(1)).mean(1)


@dataclass(frozen=True)
class PatchThreat(PaintedThreat):
    """Paint a square of the image in any colours (Brown et al. 2017, arXiv:1712.09665, at a known position).

    Where the image is too narrow for the square, a rectangle over its whole width has the square's place.

    Attributes:
        area: Share of the image that the square covers, in (0, 1); its sides are rounded to whole pixels, at least one,
            so that the share really covered is `share_of`.
        position: Where the square is.

    Raises:
        UsageError: For an area outside (0, 1), or an unknown position.
    """

    area: float
    position: PatchPosition = "centre"

    def __post_init__(self) -> None:
        if not 0 < self.area < 1:
            raise UsageError(f"A patch over {self.area!r} of the image is outside (0, 1): write 0.05 for 5%.")
        if self.position not in PATCH_POSITIONS:
            raise unknown_name("position of a patch", str(self.position), PATCH_POSITIONS)

    def __str__(self) -> str:
        return _in_words(self.area, self.position)

    def inside(self, images: Images) -> Tensor:
        """Where the square is, bool (1, 1, H, W).

        Args:
            images: Images of the size asked about, (N, C, H, W).
        """
        height, width = images.shape[2:]
        rows, columns = square_within(self.area, height, width)
        middle = self.position == "centre"
        top = (height - rows) // 2 if middle else (height - rows) * self.position.startswith("bottom")
        left = (width - columns) // 2 if middle else (width - columns) * self.position.endswith("right")
        square = torch.zeros(1, 1, height, width, dtype=torch.bool, device=images.device)
        square[..., top : top + rows, left : left + columns] = True
        return square

    def share_of(self, images: Images) -> float:
        """The share of the image that is really painted, in (0, 1].

        Args:
            images: Images of the size asked about, (N, C, H, W).
        """
        return float(precise(self.inside(images)).mean())

    def described(self, images: Images) -> str:
        """The threat in words, with the share that is really painted.

        Args:
            images: Images of the size asked about, (N, C, H, W).
        """
        return _in_words(self.share_of(images), self.position)

    def painted(self, images: Images, paint: Images) -> Images:
        """The images under the square of `paint`.

        Args:
            images: Float32 (N, C, H, W) in [0, 1].
            paint: The patch, float32 (1, C, H, W) or (N, C, H, W), of the images' size.
        """
        return torch.where(self.inside(images), paint.to(images.dtype), images)

    def pulled_back(self, gradient: Images) -> Images:
        """The gradient to the paint, summed over the images, (1, C, H, W).

        Args:
            gradient: That to the painted images, float32 (N, C, H, W).
        """
        return gradient.sum(0, keepdim=True) * self.inside(gradient)

    def paint_shape(self, image: tuple[int, int, int]) -> tuple[int, int, int]:
        """Channels, height and width of the paint: those of an image, of which the square counts.

        Args:
            image: Channels, height and width of an image.
        """
        return image

    def select(self, index: Tensor) -> PatchThreat:
        """The threat to some of the images: the same.

        Args:
            index: Their positions, int64 (M,).
        """
        return self


def square_within(area: float, height: int, width: int) -> tuple[int, int]:
    """Rows and columns of a square over a share of an area; of a rectangle over its whole width or height, where the
    square does not fit in.

    Args:
        area: The share, in (0, 1).
        height: Of the area, in pixels.
        width: Of the area, in pixels.

    Returns:
        Whole pixels, at least one each.
    """
    side = max(1, round(math.sqrt(area * height * width)))
    if side > height:
        return height, max(1, round(area * width))
    if side > width:
        return max(1, round(area * height)), width
    return side, side


def _in_words(share: float, position: PatchPosition) -> str:
    return f"patch over {share:.1%} of the image, {position}"


@attack(
    reference="arXiv:1712.09665",
    needs="gradients",
    norms=(),
    threat="one patch for every image, in a square of known place",
    effort=("steps",),
)
def patch(
    model: ModelUnderTest,
    batch: Batch,
    threat: PatchThreat,
    generators: Generators,
    *,
    steps: PositiveInt = 150,
    images_a_step: PositiveInt = 64,
    rate: PositiveFloat = 0.1,
    decay: PositiveFloat = 0.9,
    loss: LossName = "ce",
) -> Images:
    """One patch, made on `batch` by ascent on its images' capped loss (Brown et al. 2017, at a known position).

    It begins at random. Towards one class where the batch's goal is that class. Put it on images it was not made on and
    count what breaks. Costs steps x images_a_step passes each way.

    Args:
        model: The model under attack.
        batch: N examples: images float32 (N, C, H, W) in [0, 1], labels, and which predictions count as misclassified.
        threat: The square.
        generators: One random generator an example.
        steps: Gradient steps, at least 1.
        images_a_step: Images whose mean gradient one step follows.
        rate: Length of the first step, in pixel units.
        decay: Factor of the momentum at each step.
        loss: The loss to raise: "ce" (cross-entropy), "margin" or "dlr".

    Returns:
        The paint, float32 (1, C, H, W) in [0, 1], of which the threat's square counts.
    """
    inside = threat.inside(batch.images[:1]).to(model.device)
    patch_draws = Generators(generators.keys.sum().view(1).to(model.device))
    first = patch_draws.uniform(*model.input_shape) * inside

    def move(paint: Images, direction: Images, step: float) -> Images:
        return (paint + rate * step * direction.sign() * inside).clamp(0, 1)

    gradient = capped_loss_gradient(model, batch, loss_named(loss, len(model.classes)), threat.painted)
    ascent = AscentSettings(steps, images_a_step, decay)
    return mean_gradient_ascent(gradient, generators, first, ascent=ascent, move=move)
