"""Square: a random search over square patches that asks the model for scores alone (Andriushchenko et al. 2020,
arXiv:1912.00049). Within an l2 or l1 ball its proposals are two-sided pyramids that take their budget from another
window; the l1 form measures every size by its sum (Croce and Hein 2021, arXiv:2103.01208, section 5).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from audit.adversarial.active_set import run_search
from audit.adversarial.search_state import SearchState, State, StepResult
from audit.adversarial.targets import PositiveFloat, PositiveInt
from audit.core.registry import attack
from audit.core.seeding import Generators
from audit.core.threat import Norm, ThreatModel, norms
from audit.core.types import Batch, ClassMask, Images, PassCount
from audit.models.losses import is_adversarial_logits, margin
from audit.models.under_test import ModelUnderTest

SHRINK_AT = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""Queries, of 10,000, after which the patch's area halves; one more halving each."""


@attack(
    reference="arXiv:1912.00049",
    needs="scores",
    norms=("linf", "l2", "l1"),
    passes=lambda s, shape: PassCount(s["queries"], 0),
    effort=("queries",),
)
def square(
    model: ModelUnderTest,
    batch: Batch,
    threat: ThreatModel,
    generators: Generators,
    *,
    queries: PositiveInt = 1000,
    share: PositiveFloat = 0.8,
) -> Images:
    """Random patches of extreme perturbation, kept where they raise the margin (Andriushchenko et al. 2020).

    Squares of plus or minus eps for linf, two-sided pyramids for l2 and l1 (Croce and Hein 2021, arXiv:2103.01208).

    Args:
        model: The model under attack.
        batch: N examples: images float32 (N, C, H, W) in [0, 1], labels, and which predictions count as misclassified.
        threat: The norm and eps of the ball that proposals stay in.
        generators: One random generator an example.
        queries: Queries of the model.
        share: The first patch's share of the image's area; it halves along the published schedule, stretched to the
            number of `queries`.

    Returns:
        Proposals, float32 (N, C, H, W): the first that broke each example, else the last one.
    """
    schedule = torch.tensor(areas(queries, share), device=model.device)
    start = stripes if threat.norm == "linf" else pyramid_start
    propose = patched if threat.norm == "linf" else pyramid_proposal

    def begin(origin: Images, goal: ClassMask, draws: Generators) -> State:
        first = start(origin, threat, draws.fork(0))
        low = torch.full((len(origin),), -torch.inf, device=origin.device)
        return {"images": first, "best": origin, "margin": low}

    def step(slots: SearchState) -> StepResult:
        images, state = slots.images, slots.state
        logits = model.logits(images)
        value = margin(logits, slots.goal)
        better = value > state["margin"]
        best = torch.where(better.view(-1, 1, 1, 1), images, state["best"])
        draws = slots.generators.fork(slots.age + 1)
        following = propose(best, slots.origin, threat, draws, schedule[slots.age.clamp(max=queries - 1)])
        best_margin = torch.maximum(value, state["margin"])
        return StepResult(
            images,
            is_adversarial_logits(logits, slots.goal),
            {"images": following, "best": best, "margin": best_margin},
        )

    return run_search(model, batch, generators, start=begin, step=step, steps=queries)


def areas(queries: int, share: float) -> list[float]:
    """The patch's share of the image after each query.

    Args:
        queries: Queries of the whole search.
        share: The first patch's.
    """
    scaled = [int(10000 * query / queries) for query in range(queries)]
    return [share / 2 ** sum(query > mark for mark in SHRINK_AT) for query in scaled]


def stripes(origin: Images, threat: ThreatModel, draws: Generators) -> Images:
    """Vertical stripes of plus or minus eps, one sign a column and channel.

    Args:
        origin: The clean images, float32 (N, C, H, W) in [0, 1].
        threat: The norm and eps of the ball that proposals stay in.
        draws: One random generator an example.
    """
    signs = draws.rademacher(origin.shape[1], 1, origin.shape[3])
    return (origin + threat.eps * signs).clamp(0, 1)


def patched(best: Images, origin: Images, threat: ThreatModel, draws: Generators, area: Tensor) -> Images:
    """`best` with one square of each image at plus or minus eps, one sign a channel.

    Args:
        best: The images of largest margin so far, as `origin`.
        origin: The clean images, float32 (N, C, H, W) in [0, 1].
        threat: The norm and eps of the ball that proposals stay in.
        draws: One random generator an example.
        area: The square's share of the image, (N,).
    """
    height, width = origin.shape[2:]
    side = (area * height * width).sqrt().round().long().clamp(1, min(height, width) - 1)
    window = random_window(side, draws, height, width)
    signs = draws.fork(2).rademacher(origin.shape[1], 1, 1)
    return torch.where(window.inside, (origin + threat.eps * signs).clamp(0, 1), best)


TILES = 5
"""The first perturbation is a grid of this many pyramids a side."""

POWER = {"l2": 2, "l1": 1}
"""The power in which each norm's budget adds up over pixels."""

_TINY = 1e-12


def pyramid_start(origin: Images, threat: ThreatModel, draws: Generators) -> Images:
    """A grid of pyramids of random signs, scaled to eps.

    Args:
        origin: The clean images, float32 (N, C, H, W) in [0, 1].
        threat: The norm and eps of the ball that proposals stay in.
        draws: One random generator an example.
    """
    count, channels, height, width = origin.shape
    side = max(min(height, width) // TILES, 1)
    delta = torch.zeros_like(origin)
    for tile, (top, left) in enumerate(_grid(height, width, side)):
        window = fixed_window(slice(top, top + side), slice(left, left + side), count, height, width, origin.device)
        tile_draws = draws.fork(tile)
        delta = delta + pyramid(window, tile_draws.fork(0), threat.norm) * tile_draws.fork(1).rademacher(channels, 1, 1)
    return _scaled(delta, origin, threat)


def pyramid_proposal(best: Images, origin: Images, threat: ThreatModel, draws: Generators, area: Tensor) -> Images:
    """`best` with a new pyramid in one window, paid for by emptying another (section 3.3 of the paper).

    Args:
        best: The images of largest margin so far, as `origin`.
        origin: The clean images, float32 (N, C, H, W) in [0, 1].
        threat: The norm and eps of the ball that proposals stay in.
        draws: One random generator an example.
        area: The window's share of the image, (N,).
    """
    channels, height, width = origin.shape[1:]
    norm, power = threat.norm, POWER[threat.norm]
    side = (area * height * width).sqrt().round().long().clamp(min=3)
    side = (side + 1 - side % 2).clamp(max=min(height, width))
    target = random_window(side, draws.fork(0), height, width)
    source = random_window(side, draws.fork(1), height, width)
    delta = best - origin
    new = pyramid(target, draws.fork(2), norm) * draws.fork(3).rademacher(channels, 1, 1)
    new = new + delta * target.inside / (_TINY + _size(delta * target.inside, norm))
    unused = (threat.eps**power - norms(delta, norm) ** power).clamp(min=0).view(-1, 1, 1, 1) / channels
    budget = (unused + _size(delta * (target.inside | source.inside), norm) ** power) ** (1 / power)
    moved = delta.masked_fill(source.inside, 0.0)
    moved = torch.where(target.inside, new / (_TINY + _size(new, norm)) * budget, moved)
    return _scaled(moved, origin, threat)


def pyramid(window: Window, draws: Generators, norm: Norm) -> Tensor:
    """A positive and a negative pyramid side by side in the window, of norm 1, turned at random, (N, 1, H, W).

    Args:
        window: Where they stand.
        draws: One random generator an example.
        norm: l2 or l1.
    """
    horizontal = (draws.rademacher(1, 1) > 0).view(-1, 1, 1)
    across, down = window.columns[:, None, :], window.rows[:, :, None]
    along, beside = torch.where(horizontal, across, down), torch.where(horizontal, down, across)
    half = (window.side // 2).view(-1, 1, 1)
    first = along < half
    depth = torch.where(first, half, window.side.view(-1, 1, 1) - half)
    centre = depth // 2 + torch.where(first, 0, half)
    ring = torch.maximum((along - centre).abs(), (beside - half).abs())
    height = _tail(ring, half + 1) * window.inside[:, 0]
    upper, lower = height * first, height * ~first
    return (_unit(upper, norm) - _unit(lower, norm))[:, None] / 2 ** (1 / POWER[norm])


def _tail(ring: Tensor, end: Tensor) -> Tensor:
    """The sum of 1 / (k + 1)^2 from k = ring to end - 1."""
    counts = torch.arange(1, 1 + 4096, device=ring.device, dtype=torch.float32)
    sums = torch.cat([torch.zeros(1, device=ring.device), (1 / counts**2).cumsum(0)])
    return (sums[end.clamp(0, 4096)] - sums[ring.clamp(0, 4096)]).clamp(min=0)


def _grid(height: int, width: int, side: int) -> list[tuple[int, int]]:
    margins = [(size - side * (size // side)) // 2 for size in (height, width)]
    return [
        (margins[0] + row * side, margins[1] + column * side)
        for row in range(height // side)
        for column in range(width // side)
    ]


def _scaled(delta: Images, origin: Images, threat: ThreatModel) -> Images:
    size = norms(delta, threat.norm).clamp(min=_TINY).view(-1, 1, 1, 1)
    return (origin + delta * (threat.eps / size)).clamp(0, 1)


def _size(delta: Images, norm: Norm) -> Tensor:
    """The norm of each channel, (N, C, 1, 1)."""
    power = POWER[norm]
    return delta.abs().pow(power).sum((2, 3), keepdim=True).pow(1 / power)


def _unit(height: Tensor, norm: Norm) -> Tensor:
    power = POWER[norm]
    return height / height.abs().pow(power).sum((1, 2), keepdim=True).pow(1 / power).clamp(min=_TINY)


class Window(NamedTuple):
    """A square in each image.

    Attributes:
        rows: Rows counted from its top left corner, int64 (N, H).
        columns: Columns counted from there, int64 (N, W).
        side: In pixels, int64 (N,).
    """

    rows: Tensor
    columns: Tensor
    side: Tensor

    @property
    def inside(self) -> Tensor:
        """Where the squares are, bool (N, 1, H, W)."""
        rows = (self.rows >= 0) & (self.rows < self.side[:, None])
        columns = (self.columns >= 0) & (self.columns < self.side[:, None])
        return (rows[:, :, None] & columns[:, None, :])[:, None]


def random_window(side: Tensor, draws: Generators, height: int, width: int) -> Window:
    """A square anywhere in each image.

    Args:
        side: In pixels, int64 (N,).
        draws: One random generator an example.
        height: Of the images, in pixels.
        width: Of the images, in pixels.
    """
    top = draws.fork(0).integers(height - side + 1)
    left = draws.fork(1).integers(width - side + 1)
    device = side.device
    rows = torch.arange(height, device=device) - top[:, None]
    return Window(rows, torch.arange(width, device=device) - left[:, None], side)


def fixed_window(rows: slice, columns: slice, count: int, height: int, width: int, device: torch.device) -> Window:
    """The same square in every image.

    Args:
        rows: Its rows.
        columns: Its columns.
        count: The number of images.
        height: Of the images, in pixels.
        width: Of the images, in pixels.
        device: Where the tensors are made.
    """
    side = torch.full((count,), rows.stop - rows.start, dtype=torch.int64, device=device)
    down = torch.arange(height, device=device).expand(count, -1) - rows.start
    return Window(down, torch.arange(width, device=device).expand(count, -1) - columns.start, side)
