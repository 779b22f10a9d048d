"""Losses that rise towards a violation, for any goal: untargeted, one target class, or a mask of classes.

The goal is bool (N, K), the classes that count as broken (`Batch.target_mask`); a class outside it is "allowed". A goal
that holds no class, or every class, gives a constant, never a NaN.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from jaxtyping import Bool
from torch import Tensor

from audit.core.types import ClassMask, Logits
from audit.models.under_test import Loss

LossName = Literal["ce", "margin", "dlr"]
Aim: TypeAlias = Bool[Tensor, "n two classes"]
"""What a targeted loss is given: which class to move to, and which classes to leave."""

_ABSENT = -1e30
"""Stands for minus infinity: it keeps differences, and their gradients, finite."""


def loss_named(name: LossName, classes: int) -> Loss:
    """The loss of a name.

    Args:
        name: ce, margin or dlr.
        classes: Number of classes; dlr needs three and is the margin on two.
    """
    if name == "ce":
        return cross_entropy
    if name == "dlr" and classes >= 3:
        return dlr
    return margin


def dlr_classes(*, untargeted: bool) -> int:
    """The fewest classes for which a DLR loss is not the margin itself.

    Args:
        untargeted: Whether any class but the label counts as broken; else it has the form for named classes.
    """
    return 3 if untargeted else 4


def is_adversarial_logits(logits: Logits, goal: ClassMask) -> Tensor:
    """Whether each prediction is in its goal.

    Args:
        logits: Float (N, K).
        goal: The classes that count as broken, bool (N, K).

    Returns:
        Bool (N,).
    """
    return goal.gather(1, logits.argmax(1, keepdim=True)).squeeze(1)


def cross_entropy(logits: Logits, goal: ClassMask) -> Tensor:
    """Cross-entropy: -log p(label) where one class is allowed; log p(goal) where more are.

    Args:
        logits: Float (N, K).
        goal: The classes that count as broken, bool (N, K).

    Returns:
        Losses (N,).
    """
    total = logits.logsumexp(1)
    allowed, broken = _masked(logits, ~goal).logsumexp(1), _masked(logits, goal).logsumexp(1)
    return torch.where((~goal).sum(1) == 1, total - allowed, broken - total)


def margin(logits: Logits, goal: ClassMask) -> Tensor:
    """The highest logit in the goal minus the highest outside: positive means broken (Carlini and Wagner 2017).

    Args:
        logits: Float (N, K).
        goal: The classes that count as broken, bool (N, K).

    Returns:
        Losses (N,).
    """
    return _masked(logits, goal).amax(1) - _masked(logits, ~goal).amax(1)


def dlr(logits: Logits, goal: ClassMask) -> Tensor:
    """The margin over a gap between the highest logits: free of their scale and shift (Croce and Hein 2020).

    From the first to the third logit where one class is allowed; where more are, to the mean of the third and fourth,
    since a goal that stands third would make the plain ratio constant. That needs four classes, and the plain one
    three: below, it is the margin itself.

    Args:
        logits: Float (N, K).
        goal: The classes that count as broken, bool (N, K).

    Returns:
        Losses (N,).
    """
    untargeted = (~goal).sum(1) == 1
    return margin(logits, goal) / torch.where(untargeted, _gap(logits, 3), _gap(logits, 4))


def margin_targeted(logits: Logits, aim: Aim) -> Tensor:
    """The target's logit minus the highest outside the goal (Gowal et al. 2019, arXiv:1910.09338).

    Args:
        logits: Float (N, K).
        aim: The target class, then the classes to leave, bool (N, 2, K).

    Returns:
        Losses (N,).
    """
    return _masked(logits, aim[:, 0]).amax(1) - _masked(logits, aim[:, 1]).amax(1)


def dlr_targeted(logits: Logits, aim: Aim) -> Tensor:
    """The targeted margin over the gap from the first logit to the mean of the third and fourth.

    It is equation 7 of Croce and Hein 2020 (arXiv:2003.01690). With fewer than four classes it is the targeted margin.

    Args:
        logits: Float (N, K).
        aim: The target class, then the classes to leave, bool (N, 2, K).

    Returns:
        Losses (N,).
    """
    return margin_targeted(logits, aim) / _gap(logits, 4)


def one_hot_goal(targets: Tensor, goal: ClassMask) -> Aim:
    """One class of each goal to move to, away from the classes outside it.

    Args:
        targets: The class to move to, int64 (N,).
        goal: The classes that count as broken, bool (N, K).

    Returns:
        The aim, bool (N, 2, K).
    """
    target = torch.zeros_like(goal).scatter_(1, targets[:, None], True)
    return torch.stack([target, ~goal], dim=1)


def _gap(logits: Logits, order: int) -> Tensor:
    """The first logit less the mean of the third to the one of rank `order`; 1 where there are fewer classes."""
    if logits.shape[1] < order:
        return torch.ones_like(logits[:, 0])
    top = logits.topk(order, dim=1).values
    return top[:, 0] - top[:, 2:].mean(1) + 1e-12


def _masked(logits: Logits, mask: ClassMask) -> Tensor:
    return logits.masked_fill(~mask, _ABSENT)
