"""Divergences that several recipes descend."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import kl_div

from audit.core.types import Logits


def kl_divergence(probabilities: Tensor, logits: Logits) -> Tensor:
    """KL(probabilities || softmax(logits)) of each row, (N,)."""
    return kl_div(logits.log_softmax(1), probabilities, reduction="none").sum(1)
