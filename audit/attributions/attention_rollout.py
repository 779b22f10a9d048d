"""Attention rollout: how much each patch's token reaches the one that decides."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from audit.attributions.explained import Explained, Explanation
from audit.attributions.library import borrowed
from audit.errors import NotApplicable
from audit.models.batching import in_batches
from audit.models.under_test import ModelUnderTest
from audit.registry import attribution
from audit.types import Images


@attribution(reference="arXiv:2005.00928", needs="scores", signed=False)
def attention_rollout(model: ModelUnderTest, images: Images, explained: Explained) -> Explanation:
    """The product over layers of (attention averaged over heads + identity) / 2, from the deciding token to each patch.

    The deciding token is the first where tokens are one more than a grid of patches (a class token), all of them
    equally else. The same whatever the target: attention says what was read, not for which class. (N, 1, H, W),
    enlarged bilinearly. Raises NotApplicable for a model without `nn.MultiheadAttention` over them. Units: share.
    """
    layers = [layer for layer in model.net.modules() if isinstance(layer, nn.MultiheadAttention)]
    if not layers:
        raise NotApplicable("The model has no nn.MultiheadAttention layer whose weights could be read.")

    def one(part: slice) -> Tensor:
        return _rollout(_attentions(model, layers, images[part]), images.shape[2] / images.shape[3])

    with torch.no_grad():
        coarse = torch.cat(list(in_batches(len(images), model.layout, one)))
    maps = functional.interpolate(coarse, size=images.shape[2:], mode="bilinear", align_corners=False)
    return Explanation(maps, facts={"layers": len(layers), "grid": list(coarse.shape[2:])})


def _attentions(model: ModelUnderTest, layers: list[nn.MultiheadAttention], images: Images) -> list[Tensor]:
    """Each layer's attention averaged over heads, (N, tokens, tokens), in the order they ran."""
    found: list[Tensor] = []

    def ask(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return args[:3], kwargs | {"need_weights": True, "average_attn_weights": True}

    def keep(_: nn.Module, args: object, kwargs: object, output: tuple[Tensor, Tensor | None]) -> None:
        if output[1] is not None:
            found.append(output[1])

    with borrowed(model):
        for layer in layers:
            layer.register_forward_pre_hook(ask, with_kwargs=True)
            layer.register_forward_hook(keep, with_kwargs=True)
        model.module(images)
    return found


def _rollout(attentions: list[Tensor], aspect: float) -> Tensor:
    """The rolled-out attention on its grid of patches, (N, 1, h, w)."""
    sizes = {tuple(one.shape[1:]) for one in attentions}
    if len(sizes) != 1 or len(set(next(iter(sizes)))) != 1:
        raise NotApplicable("The attention layers do not all work on one set of tokens, so they cannot be multiplied.")
    tokens = attentions[0].shape[1]
    whole = torch.eye(tokens, device=attentions[0].device).expand_as(attentions[0])
    for attention in attentions:
        mixed = (attention + torch.eye(tokens, device=attention.device)) / 2
        whole = mixed / mixed.sum(-1, keepdim=True) @ whole
    for extra in (1, 0):
        grid = _grid(tokens - extra, aspect)
        if grid is not None:
            reached = whole[:, 0, 1:] if extra else whole.mean(1)
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
