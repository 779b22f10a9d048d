"""Losses against plain formulas, for untargeted, targeted and mask goals."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from audit.models.losses import (
    cross_entropy,
    dlr,
    dlr_targeted,
    is_adversarial_logits,
    loss_named,
    margin,
    one_hot_goal,
)

LOGITS = torch.randn(50, 6, generator=torch.Generator().manual_seed(0)) * 3
LABELS = torch.randint(0, 6, (50,), generator=torch.Generator().manual_seed(1))


def one_hot(classes: Tensor) -> Tensor:
    return F.one_hot(classes, 6).bool()


def test_untargeted_cross_entropy_is_the_usual_one() -> None:
    expected = F.cross_entropy(LOGITS, LABELS, reduction="none")
    assert torch.allclose(cross_entropy(LOGITS, ~one_hot(LABELS)), expected, atol=1e-5)


def test_targeted_cross_entropy_is_the_negated_usual_one() -> None:
    target = (LABELS + 1) % 6
    expected = -F.cross_entropy(LOGITS, target, reduction="none")
    assert torch.allclose(cross_entropy(LOGITS, one_hot(target)), expected, atol=1e-5)


def test_the_margin_is_positive_exactly_where_the_goal_is_reached() -> None:
    goal = one_hot(LABELS) | one_hot((LABELS + 2) % 6)
    assert torch.equal(margin(LOGITS, goal) > 0, is_adversarial_logits(LOGITS, goal))


def test_dlr_is_the_papers_formula() -> None:
    ordered = LOGITS.sort(dim=1, descending=True).values
    label = LOGITS.gather(1, LABELS[:, None]).squeeze(1)
    other = LOGITS.masked_fill(one_hot(LABELS), -torch.inf).amax(1)
    expected = -(label - other) / (ordered[:, 0] - ordered[:, 2])
    assert torch.allclose(dlr(LOGITS, ~one_hot(LABELS)), expected, atol=1e-5)


def test_targeted_dlr_is_the_papers_formula() -> None:
    target = (LABELS + 1) % 6
    ordered = LOGITS.sort(dim=1, descending=True).values
    label = LOGITS.gather(1, LABELS[:, None]).squeeze(1)
    wanted = LOGITS.gather(1, target[:, None]).squeeze(1)
    expected = -(label - wanted) / (ordered[:, 0] - (ordered[:, 2] + ordered[:, 3]) / 2)
    aim = one_hot_goal(target, ~one_hot(LABELS))
    assert torch.allclose(dlr_targeted(LOGITS, aim), expected, atol=1e-5)


def test_a_target_that_stands_third_still_has_a_gradient() -> None:
    third = LOGITS.argsort(dim=1, descending=True)[:, 2]
    leaf = LOGITS.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(dlr(leaf, one_hot(third)).sum(), leaf)
    assert (gradient.gather(1, third[:, None]) > 1e-3).all()


def test_dlr_ignores_the_scale_of_the_logits() -> None:
    goal = ~one_hot(LABELS)
    assert torch.allclose(dlr(LOGITS, goal), dlr(LOGITS * 100, goal), atol=1e-4)


def test_dlr_on_two_classes_is_the_margin() -> None:
    assert loss_named("dlr", 2) is margin and loss_named("dlr", 3) is dlr


@pytest.mark.parametrize("loss", [cross_entropy, margin, dlr])
@pytest.mark.parametrize("value", [True, False])
def test_a_goal_of_all_or_no_classes_gives_finite_gradients(loss: object, value: bool) -> None:
    leaf = LOGITS.clone().requires_grad_(True)
    goal = torch.full((50, 6), value)
    losses = loss(leaf, goal)  # type: ignore[operator]
    (gradient,) = torch.autograd.grad(losses.sum(), leaf)
    assert torch.isfinite(gradient).all()


def test_dlr_at_a_tie_of_the_first_three_is_finite_with_a_finite_gradient() -> None:
    """Its denominator is 0 there: the first logit less the third."""
    leaf = torch.tensor([[1.0, 1.0, 1.0, 0.0], [2.0, 2.0, 2.0, 2.0], [1.0, 1.0, 1.0, 1.0]], requires_grad=True)
    value = dlr(leaf, ~F.one_hot(torch.tensor([0, 1, 3]), 4).bool())
    assert value.tolist() == [0.0, 0.0, 0.0]
    (gradient,) = torch.autograd.grad(value.sum(), leaf)
    assert gradient.isfinite().all() and gradient.any()


def test_scores_on_a_grid_of_256_levels_are_judged_by_the_prediction_alone() -> None:
    """As those of an int8 file: ties are common, margins are whole steps, and a tie goes to the class named first."""
    scores = torch.randint(-3, 3, (500, 4), generator=torch.Generator().manual_seed(0)).float() * 0.25
    labels = torch.randint(0, 4, (500,), generator=torch.Generator().manual_seed(1))
    goal = ~F.one_hot(labels, 4).bool()
    broken, gap = is_adversarial_logits(scores, goal), margin(scores, goal)
    first = torch.tensor([row.index(max(row)) for row in scores.tolist()])
    assert torch.equal(broken, first != labels)
    assert broken[gap > 0].all() and not broken[gap < 0].any()
    tied = gap == 0
    assert tied.sum() > 50 and 0 < broken[tied].float().mean() < 1
    assert torch.equal(gap / 0.25, (gap / 0.25).round())
