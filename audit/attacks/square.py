"""Square: a random search over square patches that asks the model for scores alone."""

from __future__ import annotations

import torch
from torch import Tensor

from audit.adversarial.active_set import SearchState, State, StepResult, run_search
from audit.adversarial.gradient_step import PositiveFloat, PositiveInt
from audit.adversarial.square_pyramids import pyramid_proposal, pyramid_start
from audit.adversarial.windows import random_window
from audit.core.registry import attack
from audit.core.seeding import Generators
from audit.core.threat import ThreatModel
from audit.core.types import Batch, ClassMask, Images
from audit.models.losses import is_adversarial_logits, margin
from audit.models.under_test import ModelUnderTest

SHRINK_AT = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""Queries, of 10,000, after which the patch's area halves; one more halving each."""


@attack(reference="arXiv:1912.00049", needs="scores", norms=("linf", "l2", "l1"))
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
    `share` is the first patch's share of the image's area; it halves along the published schedule, stretched
    to the number of `queries`.
    """
    schedule = torch.tensor(areas(queries, share), device=model.device)
    start = stripes if threat.norm == "linf" else pyramid_start
    propose = patched if threat.norm == "linf" else pyramid_proposal

    def begin(origin: Images, goal: ClassMask, draws: Generators) -> State:
        first = start(origin, threat, draws.fork(0))
        low = torch.full((len(origin),), -torch.inf, device=origin.device)
        return {"images": first, "best": origin, "margin": low}

    def step(slots: SearchState) -> StepResult:
        shown, state = slots.images, slots.state
        logits = model.logits(shown)
        value = margin(logits, slots.goal)
        better = value > state["margin"]
        best = torch.where(better.view(-1, 1, 1, 1), shown, state["best"])
        draws = slots.generators.fork(slots.age + 1)
        following = propose(best, slots.origin, threat, draws, schedule[slots.age.clamp(max=queries - 1)])
        kept = torch.maximum(value, state["margin"])
        return StepResult(
            shown, is_adversarial_logits(logits, slots.goal), {"images": following, "best": best, "margin": kept}
        )

    return run_search(model, batch, generators, start=begin, step=step, steps=queries)


def areas(queries: int, share: float) -> list[float]:
    """The patch's share of the image after each query."""
    scaled = [int(10000 * query / queries) for query in range(queries)]
    return [share / 2 ** sum(query > mark for mark in SHRINK_AT) for query in scaled]


def stripes(origin: Images, threat: ThreatModel, draws: Generators) -> Images:
    """Vertical stripes of plus or minus eps, one sign a column and channel."""
    signs = draws.signs(origin.shape[1], 1, origin.shape[3])
    return (origin + threat.eps * signs).clamp(0, 1)


def patched(best: Images, origin: Images, threat: ThreatModel, draws: Generators, area: Tensor) -> Images:
    """`best` with one square of each image at plus or minus eps, one sign a channel."""
    height, width = origin.shape[2:]
    side = (area * height * width).sqrt().round().long().clamp(1, min(height, width) - 1)
    window = random_window(side, draws, height, width)
    signs = draws.fork(2).signs(origin.shape[1], 1, 1)
    return torch.where(window.inside, (origin + threat.eps * signs).clamp(0, 1), best)
