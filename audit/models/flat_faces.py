"""Where gradients are taken: a hair inside the box where a net has a kink on pixel values that pictures are full of.

Black and white pixels lie on the faces of [0, 1], and a net that clamps its input first (`clamp`, hardtanh, ReLU, the
Clip of an ONNX graph) has a kink exactly there: autograd then gives some slope between those of both sides, often 0,
and attacks that follow it are blind at such pixels. What `torch.clamp` gives on a bound differs between versions of
torch. The slope towards the inside of the box is the one that an attack can use; a hair inside it is what autograd
gives.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from audit.core.note import Note, note
from audit.core.seeding import derive_seed, fork_global_rng
from audit.core.types import Images, Logits

HAIR = 2.0**-20
"""In the pixel range: far above the rounding of a normalisation in float32, far below a level of any camera."""
_SHALLOW = 2.0**-7
"""Twice the step of bfloat16 below 1: so far a net in lower precision rounds pixels onto a face."""
_DEEPEST = 0.25
"""How deep a flat face is looked for: a net that clamps its input to [0.1, 0.9] is flat for a tenth of the range."""
_HALVINGS = 8
_TOLERANCE = 0.1
"""Share by which a slope may differ from the one a hair away before that counts as a kink."""


@dataclass(frozen=True)
class GradientPoint:
    """How far from an image its gradient is taken.

    Attributes:
        low: What every pixel is at least, in the pixel range.
        high: What every pixel is at most.
        shift: What every pixel is moved by before that.
    """

    low: float = 0.0
    high: float = 1.0
    shift: float = 0.0

    @property
    def notes(self) -> tuple[Note, ...]:
        """What a reader should know: empty where gradients are those of the image itself."""
        if self == AT_THE_IMAGE:
            return ()
        return (
            note(
                "model_flat_faces",
                "The model has a kink on the edge of the pixel range or on a value that many pixels share (it clamps "
                "its input, say): gradients are taken {beside} beside it, where they are the slope that a change of "
                "the image meets.",
                beside=f"{max(self.low, 1 - self.high):.1g}",
            ),
        )

    @property
    def near(self) -> GradientPoint:
        """The same beside the image: what lies deeper than rounding in lower precision is left out."""
        low, high = self.low if self.low <= _SHALLOW else 0.0, self.high if self.high >= 1 - _SHALLOW else 1.0
        return GradientPoint(low, high, self.shift)

    def of(self, images: Images) -> Images:
        """The point at which the gradient of each image is taken; its derivative to the image is 1 in every pixel.

        Args:
            images: Float32 (N, C, H, W) in [0, 1].

        Returns:
            The images themselves, or images a hair beside them.
        """
        if self == AT_THE_IMAGE:
            return images
        with torch.no_grad():
            move = (images + self.shift).clamp(self.low, self.high) - images
        return images + move


AT_THE_IMAGE = GradientPoint()


def find_gradient_point(
    logits: Callable[[Images], Logits], shape: tuple[int, int, int], mean: Sequence[float], device: torch.device
) -> GradientPoint:
    """Compare the slopes of a net at pixels of 0, 1, one half, its mean and whole 8-bit levels with those a hair away.

    Two images are drawn here; they are forwarded and back-propagated three times, twice more where slopes differ.

    Args:
        logits: Gives logits (N, classes) of images (N, C, H, W) in [0, 1].
        shape: (C, H, W) of an image.
        mean: What is subtracted from each channel first: a pixel of that value becomes 0.
        device: Where the net is.

    Returns:
        `AT_THE_IMAGE` where the slopes agree, and where the net has none.
    """
    images = _probe_images(shape, mean).to(device)
    try:
        return _search(logits, images)
    except (RuntimeError, TypeError, ValueError):
        return AT_THE_IMAGE  # There is no gradient to follow: the checks of the model say so.


def _search(logits: Callable[[Images], Logits], images: Images) -> GradientPoint:
    up, down = (GradientPoint(HAIR, 1 - HAIR, shift) for shift in (HAIR, -HAIR))
    here, above, below = (_slopes(logits, images, point) for point in (AT_THE_IMAGE, up, down))
    at_faces = _differ(here[_FACES], above[_FACES]) or bool(((here == 0) & (above != 0))[_FLAT].any())
    inside = _differ(here[_BETWEEN], above[_BETWEEN]) or _differ(here[_BETWEEN], below[_BETWEEN])
    low, high = _flat_depths(logits, images, here, above)
    if low or high:
        deeper = _slopes(logits, images, GradientPoint(low or HAIR, 1 - (high or HAIR)))
        low, high = (inset if bool(deeper[face] > 0) else 0.0 for face, inset in enumerate((low, high)))
    if not (at_faces or inside or low or high):
        return AT_THE_IMAGE
    if _differ(here, _slopes(logits, images, AT_THE_IMAGE)):
        return AT_THE_IMAGE  # It draws random numbers outside torch: nothing can be compared.
    shift = 0.0
    if inside:
        shift = up.shift if float(above[_BETWEEN].nansum()) >= float(below[_BETWEEN].nansum()) else down.shift
    return GradientPoint(low or HAIR, 1 - (high or HAIR), shift)


def _flat_depths(logits: Callable[[Images], Logits], images: Images, here: Tensor, above: Tensor) -> tuple[float, ...]:
    """By face how far inside it a net begins to answer otherwise, where a hair changes nothing; 0 where a hair does.

    The depth is doubled until the answer changes, then halved towards where it begins to.
    """
    flat_faces = [face for face in (0, 1) if not bool(here[face] + above[face])]
    if not flat_faces or not bool(here[_BETWEEN].sum() > 0):
        return 0.0, 0.0
    with torch.no_grad():
        before = logits(images)

        def unchanged(face: int, depth: float) -> bool:
            point = images.clamp(max=1 - depth) if face else images.clamp(min=depth)
            return torch.equal(logits(point), before)

        depths = []
        for face in (0, 1):
            depth = 0.0
            if face in flat_faces:
                flat, depth = 0.0, HAIR
                while depth < _DEEPEST and unchanged(face, depth):
                    flat, depth = depth, 2 * depth
                for _ in range(_HALVINGS if depth > _SHALLOW else 0):
                    middle = (flat + depth) / 2
                    flat, depth = (middle, depth) if unchanged(face, middle) else (flat, middle)
            depths.append(depth if depth < _DEEPEST else 0.0)
    return tuple(depths)


_FACES, _FLAT, _BETWEEN = slice(0, 2), slice(2, 4), slice(4, 6)
"""Of the slopes: pixels on the faces scattered among others, areas of black and of white, and pixels between."""


def _slopes(logits: Callable[[Images], Logits], images: Images, point: GradientPoint) -> Tensor:
    """The slope of a mix of the logits over groups of pixels that share a value or lie on the 8-bit levels.

    It is the sum of sizes where pixels lie scattered; where they lie together, the size of their sum, for a max-pool
    may take any of them.
    """
    with fork_global_rng(images.device, "gradient point"), torch.enable_grad():
        leaf = point.of(images).detach().requires_grad_(True)
        outputs = logits(leaf)
        index = torch.arange(outputs.shape[1], device=outputs.device)
        (gradient,) = torch.autograd.grad((outputs * (1 + 1 / (1 + index)) * (-1.0) ** index).sum(), leaf)
    black, white, grey, levels = _groups(images)
    scattered, flat = gradient[0].abs(), gradient[1]
    groups = [scattered[black[0]], scattered[white[0]], flat[black[1]], flat[white[1]]]
    return torch.stack([group.sum().abs() for group in (*groups, scattered[grey[0]], scattered[levels[0]])])


def _groups(images: Images) -> tuple[Tensor, ...]:
    """Black, white, the values that become 0 or lie in the middle, and all others; bool (N, C, H, W) each."""
    black, white = images == 0, images == 1
    whole = ((images * 255).round() / 255 - images).abs() < HAIR
    return black, white, ~whole, whole & ~black & ~white


def _probe_images(shape: tuple[int, int, int], mean: Sequence[float]) -> Images:
    """Black, white, grey, the mean and 8-bit levels scattered; half black and half white."""
    generator = torch.Generator("cpu").manual_seed(derive_seed("gradient point"))
    levels = torch.randint(1, 255, shape, generator=generator, device="cpu") / 255
    centre = torch.tensor([m if 0.01 < m < 0.99 else 0.5 for m in mean], device="cpu")[:, None, None].expand(shape)
    kind = torch.randint(0, 6, shape, generator=generator, device="cpu")
    choices = torch.stack(
        [
            torch.zeros(shape, device="cpu"),
            torch.ones(shape, device="cpu"),
            torch.full(shape, 0.5, device="cpu"),
            centre,
            levels,
            levels,
        ]
    )
    upper = torch.arange(shape[1], device="cpu")[:, None] < (shape[1] + 1) // 2
    halves = torch.where(upper, 0.0, 1.0).expand(shape)
    return torch.stack([choices.gather(0, kind[None])[0], halves])


def _differ(first: Tensor, second: Tensor) -> bool:
    """Whether a group of pixels has another slope, or one of them has a slope that is no number."""
    apart = (first - second).abs() > _TOLERANCE * torch.maximum(first.abs(), second.abs())
    return bool((apart | (first.isfinite() != second.isfinite())).any())
