"""Losses that rise towards a violation, for any goal: untargeted, one target class, or a mask of classes.

Each takes logits float (N, K) and the goal bool (N, K) (`Batch.violations`) and gives losses (N,). A class
outside the goal is "allowed". A goal that holds no class, or every class, gives a constant, never a NaN.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from audit.models.under_test import Loss
from audit.types import ClassMask, Logits

LossName = Literal["ce", "margin", "dlr"]

_ABSENT = -1e30
"""Stands for minus infinity: it keeps differences, and their gradients, finite."""


def loss_named(name: LossName, classes: int) -> Loss:
    """The loss called `name` for a model of `classes`; DLR needs three and is the margin on two."""
    if name == "ce":
        return cross_entropy
    if name == "dlr" and classes >= 3:
        return dlr
    return margin


def violated(logits: Logits, goal: ClassMask) -> Tensor:
    """Whether each prediction is in its goal, bool (N,)."""
    return goal.gather(1, logits.argmax(1, keepdim=True)).squeeze(1)


def cross_entropy(logits: Logits, goal: ClassMask) -> Tensor:
    """-log p(label) where one class is allowed; log p(goal) where more are."""
    everything = logits.logsumexp(1)
    allowed, broken = _masked(logits, ~goal).logsumexp(1), _masked(logits, goal).logsumexp(1)
    return torch.where((~goal).sum(1) == 1, everything - allowed, broken - everything)


def margin(logits: Logits, goal: ClassMask) -> Tensor:
    """The highest logit in the goal minus the highest outside: positive means broken (Carlini and Wagner 2017)."""
    return _masked(logits, goal).amax(1) - _masked(logits, ~goal).amax(1)


def dlr(logits: Logits, goal: ClassMask) -> Tensor:
    """The margin over the gap from the first to the third logit: free of the logits' scale and shift
    (Croce and Hein 2020, arXiv:2003.01690). Needs three classes."""
    top = logits.topk(3, dim=1).values
    return margin(logits, goal) / (top[:, 0] - top[:, 2] + 1e-12)


def dlr_targeted(logits: Logits, goal: ClassMask) -> Tensor:
    """The margin over the gap from the first logit to the mean of the third and fourth (same paper, eq. 7).

    With three classes the third stands alone; with two it is the margin.
    """
    if logits.shape[1] < 3:
        return margin(logits, goal)
    top = logits.topk(min(4, logits.shape[1]), dim=1).values
    return margin(logits, goal) / (top[:, 0] - top[:, 2:].mean(1) + 1e-12)


def only(classes: Tensor, goal: ClassMask) -> ClassMask:
    """The goal narrowed to one class an example; `classes` int64 (N,)."""
    return torch.zeros_like(goal).scatter_(1, classes[:, None], True)


def _masked(logits: Logits, keep: ClassMask) -> Tensor:
    return logits.masked_fill(~keep, _ABSENT)
