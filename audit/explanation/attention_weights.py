"""Reading the attention of a model's layers, of PyTorch's own kind or timm's, while it runs."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from audit.core.types import Images
from audit.explanation.captum_guard import restored
from audit.models.under_test import ModelUnderTest


def attention_layers(net: nn.Module) -> list[nn.Module]:
    """The layers whose weights can be read: `nn.MultiheadAttention`, and timm's, known by `fused_attn` and the
    `attn_drop` that its weights go through when they are not fused."""
    return [layer for layer in net.modules() if isinstance(layer, nn.MultiheadAttention) or _like_timms(layer)]


def attention_weights(model: ModelUnderTest, layers: list[nn.Module], images: Images) -> list[Tensor]:
    """Each layer's attention averaged over heads, (N, tokens, tokens), in the order they ran.

    Fused kernels keep no weights: they are switched off for this pass, and the layers are as they were after it.
    """
    found: list[Tensor] = []
    with restored(model):
        for layer in layers:
            _watch(layer, found)
        model.module(images)
    return found


def prefix_tokens(net: nn.Module) -> tuple[int, bool] | None:
    """How many tokens precede the patches, and whether the first of them decides; None where the net does not say.

    timm's transformers do.
    """
    for part in net.modules():
        count, pooled = getattr(part, "num_prefix_tokens", None), getattr(part, "global_pool", None)
        if isinstance(count, int) and isinstance(pooled, str):
            return count, pooled == "token"
    return None


def _like_timms(layer: nn.Module) -> bool:
    return isinstance(getattr(layer, "fused_attn", None), bool) and isinstance(
        getattr(layer, "attn_drop", None), nn.Module
    )


def _watch(layer: nn.Module, found: list[Tensor]) -> None:
    if isinstance(layer, nn.MultiheadAttention):
        _watch_torchs(layer, found)
        return

    def keep(_: nn.Module, args: tuple[Tensor, ...]) -> None:
        found.append(args[0].mean(1))

    layer.__dict__["fused_attn"] = False
    layer.get_submodule("attn_drop").register_forward_pre_hook(keep)


def _watch_torchs(layer: nn.Module, found: list[Tensor]) -> None:
    def ask(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return args[:3], kwargs | {"need_weights": True, "average_attn_weights": True}

    def keep(_: nn.Module, args: object, kwargs: object, output: tuple[Tensor, Tensor | None]) -> None:
        if output[1] is not None:
            found.append(output[1])

    layer.register_forward_pre_hook(ask, with_kwargs=True)
    layer.register_forward_hook(keep, with_kwargs=True)
