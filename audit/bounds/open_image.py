"""One image that the cheap bounds left open, on its way through the dear ones."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from audit.bounds.alpha import Optimised
from audit.bounds.graph import Box
from audit.bounds.outcome import Outcome, Rung
from audit.bounds.propagate import Values
from audit.bounds.region import Region

_ALL = slice(None)


@dataclass
class OpenImage:
    """What is known of one image, and what its bounds may still take.

    Attributes:
        row: Of the region that is asked.
        values: Bounds on its values in float32, one row.
        region: Its region, one row.
        functions: Those to be proven above 0, float64 (1, S, outputs).
        best: The best lower bound of each so far, float64 (1, S).
        tie: What a bound must exceed to count.
        outcome: What is known; `seconds` are those of cheap and dear bounds so far.
        limit: The most seconds that dear bounds may take; None for no limit.
        spent: Seconds that they took so far.
        optimised: What alpha-CROWN reached on the functions `asked`; None before.
        exact: Bounds on its values in float64, from alpha-CROWN on.
        asked: The functions that were open before alpha-CROWN, int64 (K,).
    """

    row: int
    values: Values
    region: Region
    functions: Tensor
    best: Tensor
    tie: float
    outcome: Outcome
    limit: float | None = None
    spent: float = 0.0
    optimised: Optimised | None = None
    exact: Values | None = None
    asked: Tensor | None = None

    @property
    def open(self) -> bool:
        """Whether it is neither proven nor broken."""
        return self.outcome.verdict == "open"

    @property
    def late(self) -> bool:
        """Whether its time is over."""
        return self.limit is not None and self.spent > self.limit

    def raise_bounds(self, bounds: Tensor, rung: Rung, index: Tensor | slice = _ALL) -> None:
        """Take what is better of new bounds; it is proven where all exceed the tie.

        Args:
            bounds: Of the functions of `index`, float64 (K,).
            rung: What gave them.
            index: Which functions.
        """
        self.best = self.best.clone()
        self.best[0, index] = torch.maximum(self.best[0, index], bounds)
        proven = bool((self.best > self.tie).all())
        self.settle("proven" if proven else "open", rung if proven else None)

    def settle(self, verdict: Literal["proven", "broken", "open"], rung: Rung | None, **more: Any) -> None:
        """Enter what it came to.

        Args:
            verdict: "proven", "broken" or "open".
            rung: What decided it; None where nothing did.
            more: Fields of `Outcome`.
        """
        self.outcome = replace(self.outcome, verdict=verdict, rung=rung, bound=float(self.best.min()), **more)


@contextmanager
def timed(images: Sequence[OpenImage], stopping: Callable[[], bool] | None) -> Iterator[Callable[[], bool]]:
    """Charge images with equal shares of what a block takes.

    Args:
        images: Those that the block works on.
        stopping: Turns true when all is to stop.

    Yields:
        What turns true when the time of the images together is over, or all is to stop.
    """
    begun = time.monotonic()
    left = [image.limit - image.spent for image in images if image.limit is not None]

    def late() -> bool:
        over = bool(left) and time.monotonic() - begun > sum(left)
        return over or (stopping is not None and stopping())

    yield late
    share = (time.monotonic() - begun) / len(images)
    for image in images:
        image.spent += share
        image.outcome = replace(image.outcome, seconds=image.outcome.seconds + share)


def rows_together(images: Sequence[OpenImage]) -> tuple[Values, Region]:
    """The values and the regions of several images, one row each.

    Args:
        images: At least one.
    """
    first, regions = images[0].values, [image.region for image in images]
    boxes = {
        i: Box(*(torch.cat([image.values.boxes[i][end] for image in images]) for end in (0, 1))) for i in first.boxes
    }
    slack = {i: torch.cat([image.values.slack[i] for image in images]) for i in first.slack}
    centre, low, high = (torch.cat([getattr(region, name) for region in regions]) for name in ("centre", "low", "high"))
    return Values(boxes, slack), replace(regions[0], centre=centre, low=low, high=high)
