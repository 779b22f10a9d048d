"""Attention rollout: how much each patch's token reaches the one that decides."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from audit.core.errors import NotApplicable
from audit.core.registry import attribution
from audit.core.types import Images
from audit.explanation.attention_weights import attention_layers, attention_weights, prefix_tokens
from audit.explanation.spec import Attribution, ExplanationSpec
from audit.models.batching import in_batches
from audit.models.under_test import ModelUnderTest


@attribution(reference="arXiv:2005.00928", needs="scores", signed=False)
def attention_rollout(model: ModelUnderTest, images: Images, explained: ExplanationSpec) -> Attribution:
    """The product over layers of (attention averaged over heads + identity) / 2, from the deciding token to each patch.

    The deciding token is the class token where the model says that it pools it (timm's `global_pool`) or the tokens are
    one more than a grid of patches; all patches equally else. The same whatever the target: attention says what was
    read, not for which class. (N, 1, H, W), enlarged bilinearly. Units: share. Raises NotApplicable for a model whose
    attention cannot be read or does not go from all patches to all.
    """
    layers = attention_layers(model.net)
    if not layers:
        raise NotApplicable("The model has no attention layer whose weights could be read (PyTorch's or timm's).")
    prefix = prefix_tokens(model.net)

    def one(part: slice) -> Tensor:
        weights = attention_weights(model, layers, images[part])
        return _rollout(weights, part.stop - part.start, images.shape[2] / images.shape[3], prefix)

    with torch.no_grad():
        coarse = torch.cat(list(in_batches(len(images), model.layout, one)))
    maps = functional.interpolate(coarse, size=images.shape[2:], mode="bilinear", align_corners=False)
    return Attribution(maps, facts={"layers": len(layers), "grid": list(coarse.shape[2:])})


def _rollout(attentions: list[Tensor], images: int, aspect: float, prefix: tuple[int, bool] | None) -> Tensor:
    """The rolled-out attention on its grid of patches, (N, 1, h, w)."""
    tokens = attentions[0].shape[1] if attentions else 0
    if not attentions or any(one.shape != (images, tokens, tokens) for one in attentions):
        raise NotApplicable(
            "The attention layers do not all work on one set of tokens (they attend within windows, or pool), so they "
            "cannot be multiplied."
        )
    whole = torch.eye(tokens, device=attentions[0].device).expand_as(attentions[0])
    for attention in attentions:
        mixed = (attention + torch.eye(tokens, device=attention.device)) / 2
        whole = mixed / mixed.sum(-1, keepdim=True) @ whole
    for extra, class_token in [prefix] if prefix else [(1, True), (0, False)]:
        grid = _grid(tokens - extra, aspect)
        if grid is not None:
            reached = whole[:, 0, extra:] if class_token else whole[:, extra:, extra:].mean(1)
            return reached.reshape(len(reached), 1, *grid)
    raise NotApplicable(f"{tokens} tokens are no grid of patches, with or without a class token.")


def _grid(patches: int, aspect: float) -> tuple[int, int] | None:
    """Rows and columns with the image's aspect, or None."""
    if patches < 4:
        return None
    rows = round(math.sqrt(patches * aspect))
    if rows < 1 or patches % rows or abs(rows / (patches // rows) - aspect) > 1e-6:
        return None
    return rows, patches // rows
