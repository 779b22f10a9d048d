"""Attention rollout: how much each patch's token reaches the one that decides."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from audit.core.errors import NotApplicable
from audit.core.note import note
from audit.core.registry import attribution
from audit.core.types import Images, PassCount
from audit.explanation.captum_guard import restored
from audit.explanation.spec import Attribution, ExplanationSpec
from audit.explanation.target_layer import attention_layers
from audit.explanation.token_grid import token_grid
from audit.models.batching import in_batches
from audit.models.under_test import ModelUnderTest


@attribution(
    reference="arXiv:2005.00928",
    needs="scores",
    signed=False,
    passes=lambda settings, shape: PassCount(1, 0),
    unit="share",
)
def attention_rollout(model: ModelUnderTest, images: Images, spec: ExplanationSpec) -> Attribution:
    """The product over layers of (attention averaged over heads + identity) / 2, from the deciding token to each patch.

    Which tokens are which part of the image, and which are classified (a class token, a distillation token, all patches
    together, each with equal weight), is measured on the net. The same whatever the target: attention says what was
    read, not for which class. The map is (N, 1, H, W), enlarged bilinearly; its unit is a share.

    Args:
        model: The model to explain, a transformer.
        images: Float32 (N, C, H, W) in [0, 1].
        spec: Not used: attention does not depend on the class.

    Raises:
        NotApplicable: The model's attention cannot be read, or does not go from all patches to all.
    """
    layers = attention_layers(model.net)
    if not layers:
        raise NotApplicable(
            note("no_attention", "The model has no attention layer whose weights could be read (PyTorch's or timm's).")
        )

    def coarse_map(rows: slice) -> Tensor:
        product = rollout(attention_weights(model, layers, images[rows]), rows.stop - rows.start)
        grid = token_grid(model, product.shape[1])
        reached = torch.stack([product[:, group].mean(1) for group in grid.deciding]).mean(0)
        return reached[:, grid.patches].reshape(-1, 1, grid.rows, grid.columns)

    with torch.no_grad():
        coarse = torch.cat(list(in_batches(len(images), model.layout, coarse_map)))
    maps = functional.interpolate(coarse, size=images.shape[2:], mode="bilinear", align_corners=False)
    return Attribution(maps, facts={"layers": len(layers), "grid": list(coarse.shape[2:])})


def attention_weights(model: ModelUnderTest, layers: list[nn.Module], images: Images) -> list[Tensor]:
    """Each layer's attention averaged over heads, (N, tokens, tokens), in the order they ran.

    Fused kernels keep no weights: they are switched off for this pass, and the layers are as they were after it.

    Args:
        model: The model, run once.
        layers: The layers to read, see `attention_layers`.
        images: Float32 (N, C, H, W) in [0, 1].
    """
    weights: list[Tensor] = []
    with restored(model):
        for layer in layers:
            _record(layer, weights)
        model.module(images)
    return weights


def rollout(attentions: list[Tensor], images: int) -> Tensor:
    """The product over layers, (N, tokens, tokens): row i says what token i has of each.

    Args:
        attentions: Each layer's attention averaged over heads, (N, tokens, tokens), first layer first.
        images: N.

    Raises:
        NotApplicable: The layers do not work on one set of tokens.
    """
    tokens = attentions[0].shape[1] if attentions else 0
    if not attentions or any(attention.shape != (images, tokens, tokens) for attention in attentions):
        raise NotApplicable(
            note(
                "attention_tokens",
                "The attention layers do not all work on one set of tokens (they attend within windows, or pool), so "
                "they cannot be multiplied.",
            )
        )
    # Attention rollout of arXiv:2005.00928: A = (W + I) / 2, rows normalised, multiplied from the first layer up.
    product = torch.eye(tokens, device=attentions[0].device).expand_as(attentions[0])
    for attention in attentions:
        mixed = (attention + torch.eye(tokens, device=attention.device)) / 2
        product = mixed / mixed.sum(-1, keepdim=True) @ product
    return product


def _record(layer: nn.Module, weights: list[Tensor]) -> None:
    if isinstance(layer, nn.MultiheadAttention):
        _record_torch(layer, weights)
        return

    def record_weights(_: nn.Module, args: tuple[Tensor, ...]) -> None:
        weights.append(args[0].mean(1))

    layer.__dict__["fused_attn"] = False
    layer.get_submodule("attn_drop").register_forward_pre_hook(record_weights)


def _record_torch(layer: nn.Module, weights: list[Tensor]) -> None:
    def request_weights(
        _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return args[:3], kwargs | {"need_weights": True, "average_attn_weights": True}

    def record_weights(_: nn.Module, args: object, kwargs: object, output: tuple[Tensor, Tensor | None]) -> None:
        if output[1] is not None:
            weights.append(output[1])

    layer.register_forward_pre_hook(request_weights, with_kwargs=True)
    layer.register_forward_hook(record_weights, with_kwargs=True)
