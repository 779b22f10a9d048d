"""Where gradients are taken: a hair inside the box where a net has a kink on pixel values that pictures are full of.

Black and white pixels lie on the faces of [0, 1], and a net that clamps its input first (`clamp`, hardtanh, ReLU, the
Clip of an ONNX graph) has a kink exactly there: autograd then gives some slope between those of both sides, often 0,
and attacks that follow it are blind at such pixels. What `torch.clamp` gives on a bound differs between versions of
torch. The slope towards the inside of the box is the one that an attack can use; a hair inside it is what autograd
gives.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

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
        low: What every pixel is at least, in the pixel range; one number, or one a channel.
        high: What every pixel is at most, likewise.
        shift: What every pixel is moved by before that.
    """

    low: tuple[float, ...] = (0.0,)
    high: tuple[float, ...] = (1.0,)
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
                beside=f"{self.depth:.1g}",
            ),
        )

    @property
    def depth(self) -> float:
        """How far inside [0, 1] the gradient of a black or white pixel is taken at most."""
        return max(*self.low, *(1 - high for high in self.high))

    @property
    def near(self) -> GradientPoint:
        """The same beside the image: what lies deeper than rounding in lower precision is left out."""
        low = tuple(value if value <= _SHALLOW else 0.0 for value in self.low)
        high = tuple(value if value >= 1 - _SHALLOW else 1.0 for value in self.high)
        unmoved = not any(low) and all(value == 1 for value in high) and not self.shift
        return AT_THE_IMAGE if unmoved else GradientPoint(low, high, self.shift)

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
            low, high = (_by_channel(bound, images) for bound in (self.low, self.high))
            move = (images + self.shift).clamp(low, high) - images
        return images + move


def _by_channel(values: tuple[float, ...], images: Images) -> Tensor:
    """One number, or one a channel, (1, 1 or C, 1, 1), filled in where it lies: a copy would wait for the device."""
    return torch.stack([images.new_full((), value) for value in values]).view(1, -1, 1, 1)


AT_THE_IMAGE = GradientPoint()
A_HAIR_INSIDE = GradientPoint((HAIR,), (1 - HAIR,))


def find_gradient_point(
    logits: Callable[[Images], Logits], shape: tuple[int, int, int], mean: Sequence[float], device: torch.device
) -> GradientPoint:
    """Compare the slopes of a net at pixels of 0, 1, one half, its mean and whole 8-bit levels with those a hair away.

    Two images are drawn here; they are forwarded and back-propagated three times. Where slopes differ they are once
    more, and where a channel is flat they are forwarded to find how deep.

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


class _Slopes(NamedTuple):
    """The slope of a mix of the logits over groups of pixels.

    Attributes:
        faces: Black and white pixels, by channel, (2, C).
        between: Pixels that become 0 or lie in the middle; other 8-bit levels, (2,).
    """

    faces: Tensor
    between: Tensor


def _search(logits: Callable[[Images], Logits], images: Images) -> GradientPoint:
    up, down = (replace(A_HAIR_INSIDE, shift=shift) for shift in (HAIR, -HAIR))
    here, above, below = (_slopes(logits, images, point) for point in (AT_THE_IMAGE, up, down))
    at_faces = _differ(here.faces, above.faces)
    inside = _differ(here.between, above.between) or _differ(here.between, below.between)
    deep = _flat_depths(logits, images, (here.faces == 0) & (above.faces == 0)) if bool(here.between.any()) else None
    if not (at_faces or inside or deep):
        return AT_THE_IMAGE
    if any(_differ(*pair) for pair in zip(here, _slopes(logits, images, AT_THE_IMAGE), strict=True)):
        return AT_THE_IMAGE  # It draws random numbers outside torch: nothing can be compared.
    shift = 0.0
    if inside:
        shift = up.shift if float(above.between.nansum()) >= float(below.between.nansum()) else down.shift
    return replace(deep or A_HAIR_INSIDE, shift=shift)


def _flat_depths(logits: Callable[[Images], Logits], images: Images, flat: Tensor) -> GradientPoint | None:
    """By channel where a net begins to answer otherwise near 0 and near 1, a hair inside where it does at once; None
    where it does at once everywhere, and where nothing begins in reach.

    Args:
        logits: Gives logits of images.
        images: The images that show it.
        flat: By face and channel whether a hair changes nothing, bool (2, C).
    """
    if not bool(flat.any()):
        return None
    depths = torch.full(flat.shape, HAIR, device="cpu")
    with torch.no_grad():
        before = logits(images)
        for face, channel in flat.nonzero().tolist():

            def unchanged(depth: float, face: int = face, channel: int = channel) -> bool:
                point = images.clone()
                point[:, channel] = point[:, channel].clamp(depth * (1 - face), 1 - depth * face)
                return torch.equal(logits(point), before)

            depths[face, channel] = _where_it_changes(unchanged)
    alive = _slopes(logits, images, _inside_by(depths)).faces.cpu() > 0
    if not bool((alive & flat.cpu()).any()):
        return None
    depths[~alive] = HAIR
    return _inside_by(depths)


def _inside_by(depths: Tensor) -> GradientPoint:
    """Inside [0, 1] by so much at 0 and at 1 in each channel, (2, C)."""
    return GradientPoint(tuple(depths[0].tolist()), tuple((1 - depths[1]).tolist()))


def _where_it_changes(unchanged: Callable[[float], bool]) -> float:
    """The depth is doubled until the answer changes, then halved towards where it begins to."""
    flat, depth = 0.0, HAIR
    while unchanged(depth):
        if depth >= _DEEPEST:
            return HAIR
        flat, depth = depth, 2 * depth
    for _ in range(_HALVINGS if depth > _SHALLOW else 0):
        middle = (flat + depth) / 2
        flat, depth = (middle, depth) if unchanged(middle) else (flat, middle)
    return depth


def _slopes(logits: Callable[[Images], Logits], images: Images, point: GradientPoint) -> _Slopes:
    """The sums of the sizes of the gradient of a mix of the logits."""
    with fork_global_rng(images.device, "gradient point"), torch.enable_grad():
        leaf = point.of(images).detach().requires_grad_(True)
        outputs = logits(leaf)
        index = torch.arange(outputs.shape[1], device=outputs.device)
        (gradient,) = torch.autograd.grad((outputs * (1 + 1 / (1 + index)) * (-1.0) ** index).sum(), leaf)
    sizes, black, white = gradient.abs(), images == 0, images == 1
    whole = ((images * 255).round() / 255 - images).abs() < HAIR
    faces = torch.stack([(sizes * mask).sum((0, 2, 3)) for mask in (black, white)])
    return _Slopes(faces, torch.stack([sizes[mask].sum() for mask in (~whole, whole & ~black & ~white)]))


def _probe_images(shape: tuple[int, int, int], mean: Sequence[float]) -> Images:
    """Two images of black, white, grey, the mean and 8-bit levels, scattered: side by side, equal pixels would tie in a
    max-pool."""
    generator = torch.Generator("cpu").manual_seed(derive_seed("gradient point"))
    size = (2, *shape)
    levels = torch.randint(1, 255, size, generator=generator, device="cpu") / 255
    centre = torch.tensor([m if 0.01 < m < 0.99 else 0.5 for m in mean], device="cpu").view(1, -1, 1, 1).expand(size)
    values = [torch.full(size, value, device="cpu") for value in (0.0, 1.0, 0.5)]
    kind = torch.randint(0, 6, size, generator=generator, device="cpu")
    return torch.stack([*values, centre, levels, levels]).gather(0, kind[None])[0]


def _differ(first: Tensor, second: Tensor) -> bool:
    """Whether a group of pixels has another slope, or one of them has a slope that is no number."""
    apart = (first - second).abs() > _TOLERANCE * torch.maximum(first.abs(), second.abs())
    return bool((apart | (first.isfinite() != second.isfinite())).any())
