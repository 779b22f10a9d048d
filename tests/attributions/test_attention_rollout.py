"""Rollout against its product written plainly, with and without a class token, and where it has no meaning."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from audit.attributions.attention_rollout import rollout
from audit.core.errors import NotApplicable
from audit.explanation.run import explain_images
from audit.models.under_test import ModelUnderTest
from tests.pretended_device import on_both


class Transformer(nn.Module):
    """3x3 patches of a 12x9 image (4 x 3 tokens), two encoder layers, a class token if asked."""

    def __init__(self, class_token: bool, fixed: bool = False) -> None:
        super().__init__()
        self.embed = nn.Conv2d(1, 8, 3, stride=3)
        self.token = nn.Parameter(torch.randn(1, 1, 8)) if class_token else None
        self.layers = nn.ModuleList(
            [nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True) for _ in range(2)]
        )
        self.head = nn.Linear(8, 3)
        if fixed:
            for layer in self.layers:
                nn.init.zeros_(layer.self_attn.in_proj_weight)  # type: ignore[union-attr, arg-type]

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.embed(images).flatten(2).mT
        if self.token is not None:
            tokens = torch.cat([self.token.expand(len(tokens), -1, -1), tokens], 1)
        for layer in self.layers:
            tokens = layer(tokens)
        scores: Tensor = self.head(tokens[:, 0] if self.token is not None else tokens.mean(1))
        return scores


IMAGES = torch.rand(3, 1, 12, 9, generator=torch.Generator().manual_seed(4))


def wrapped(net: nn.Module) -> ModelUnderTest:
    return ModelUnderTest(net, classes="abc", input_shape=(1, 12, 9), device="cpu")


@pytest.mark.parametrize("class_token", [True, False])
def test_map_is_the_product_of_the_attentions(class_token: bool) -> None:
    torch.manual_seed(0)
    net = Transformer(class_token).eval()
    found = explain_images(wrapped(net), IMAGES, method="attention-rollout")
    assert found.facts["grid"] == [4, 3]
    tokens = net.embed(IMAGES).flatten(2).mT
    if class_token:
        assert net.token is not None
        tokens = torch.cat([net.token.expand(3, -1, -1), tokens], 1)
    whole = torch.eye(tokens.shape[1]).expand(3, -1, -1)
    for layer in net.layers:
        _, attention = layer.self_attn(tokens, tokens, tokens, need_weights=True)  # type: ignore[union-attr, operator]
        whole = (0.5 * attention + 0.5 * torch.eye(tokens.shape[1])) @ whole
        tokens = layer(tokens)
    coarse = whole[:, 0, 1:] if class_token else whole.mean(1)
    expected = nn.functional.interpolate(coarse.reshape(3, 1, 4, 3), size=(12, 9), mode="bilinear")
    assert torch.allclose(found.attributions, expected.detach(), atol=1e-5)


def test_another_device_gives_the_same_map() -> None:
    torch.manual_seed(0)
    net = Transformer(True).eval()

    def maps(device: torch.device) -> Tensor:
        model = ModelUnderTest(net, classes="abc", input_shape=(1, 12, 9), device=device)
        found = explain_images(model, IMAGES.to(device), method="attention-rollout").attributions
        assert found is not None
        return found

    here, there = on_both(maps)
    torch.testing.assert_close(here, there, atol=1e-5, rtol=1e-4)


def test_even_attention_gives_an_even_map() -> None:
    torch.manual_seed(0)
    found = explain_images(wrapped(Transformer(True, fixed=True)), IMAGES, method="attention-rollout")
    assert found.attributions is not None
    assert float(found.attributions.std()) < 1e-6
    assert float(found.attributions.mean()) == pytest.approx(0.75 / 13, rel=1e-4)


def test_model_is_left_without_hooks_and_without_attention_it_is_not_applicable(cnn_model: ModelUnderTest) -> None:
    model = wrapped(Transformer(True))
    explain_images(model, IMAGES, method="attention-rollout")
    assert not any(layer._forward_hooks or layer._forward_pre_hooks for layer in model.net.modules())
    found = explain_images(cnn_model, torch.rand(1, 1, 12, 12), method="attention-rollout")
    assert found.status == "not_applicable"
    assert "no attention layer" in str(found.reason)


def test_tokens_of_different_numbers_are_refused() -> None:
    with pytest.raises(NotApplicable, match="one set of tokens"):
        rollout([torch.rand(1, 9, 9), torch.rand(1, 4, 4)], 1)


SMALL = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 3, "num_heads": 2, "num_classes": 4}


def timms(name: str, **settings: Any) -> tuple[nn.Module, ModelUnderTest]:
    timm = pytest.importorskip("timm")
    torch.manual_seed(1)
    net = timm.create_model(name, pretrained=False, **settings).eval()
    return net, ModelUnderTest(net, classes="abcd", input_shape=(3, 32, 32), device="cpu")


COLOURED = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(5))


def plain_rollout(net: Any, images: Tensor) -> Tensor:
    """The product with each block's softmax(q k / sqrt(d)) written out."""
    tokens = net.norm_pre(net.patch_drop(net._pos_embed(net.patch_embed(images))))
    whole = torch.eye(tokens.shape[1]).expand(len(images), -1, -1)
    for block in net.blocks:
        layer, seen = block.attn, block.norm1(tokens)
        query, key, _ = layer.qkv(seen).unflatten(2, (3, layer.num_heads, -1)).permute(2, 0, 3, 1, 4)
        weights = (query @ key.mT / query.shape[-1] ** 0.5).softmax(-1).mean(1)
        whole = (weights + torch.eye(tokens.shape[1])) / 2 @ whole
        tokens = block(tokens)
    return whole


@pytest.mark.parametrize(
    ("settings", "prefix"),
    [({}, 1), ({"reg_tokens": 4}, 5), ({"global_pool": "avg", "class_token": False, "fc_norm": False}, 0)],
)
def test_timms_transformers_equal_the_product_written_out(settings: dict[str, Any], prefix: int) -> None:
    net, model = timms("vit_tiny_patch16_224", **SMALL, **settings)
    found = explain_images(model, COLOURED, method="attention-rollout")
    with torch.no_grad():
        whole = plain_rollout(net, COLOURED)
    coarse = whole.mean(1) if prefix == 0 else whole[:, 0, prefix:]
    expected = nn.functional.interpolate(coarse.reshape(3, 1, 4, 4), size=(32, 32), mode="bilinear")
    assert found.facts["grid"] == [4, 4] and found.facts["layers"] == 3
    assert torch.allclose(found.attributions, expected, atol=1e-5)


def test_fused_attention_is_off_only_while_it_is_read() -> None:
    net, model = timms("vit_tiny_patch16_224", **SMALL)
    before = [layer.fused_attn for layer in net.modules() if hasattr(layer, "fused_attn")]
    logits = model.logits(COLOURED)
    explain_images(model, COLOURED, method="attention-rollout")
    for module in (net, model.net):
        assert [layer.fused_attn for layer in module.modules() if hasattr(layer, "fused_attn")] == before
        assert not any(layer._forward_hooks or layer._forward_pre_hooks for layer in module.modules())
    assert torch.equal(model.logits(COLOURED), logits)


def test_attention_within_windows_is_not_applicable() -> None:
    _, model = timms(
        "swin_tiny_patch4_window7_224",
        img_size=32,
        window_size=4,
        embed_dim=12,
        depths=(1, 1),
        num_heads=(2, 2),
        num_classes=4,
    )
    found = explain_images(model, COLOURED, method="attention-rollout")
    assert found.status == "not_applicable"
    assert "within windows" in str(found.reason)


class Reader(nn.Module):
    """4x4 patches of a 16x12 image whose brightness draws attention: tokens and what is read in the order given.

    Args:
        order: Of the patches.
        before: Learnt tokens before the patches.
        after: Learnt tokens after them.
        read: Which tokens are classified; None for the mean of the patches.
    """

    def __init__(self, order: list[int], before: int = 0, after: int = 0, read: list[int] | None = None) -> None:
        super().__init__()
        self.order, self.read = order, read
        self.embed = nn.Conv2d(1, 4, 4, 4)
        self.before, self.after = (nn.Parameter(torch.zeros(1, count, 4)) for count in (before, after))
        self.attend, self.head = nn.MultiheadAttention(4, 1, batch_first=True), nn.Linear(4, 3)
        with torch.no_grad():
            self.embed.weight.fill_(1 / 16)
            self.embed.bias.zero_()  # type: ignore[union-attr]
            self.attend.in_proj_weight.copy_(torch.cat([torch.zeros(4, 4), 40 * torch.eye(4), torch.eye(4)]))
            self.attend.in_proj_bias.copy_(torch.cat([torch.ones(4), torch.zeros(8)]))

    def forward(self, images: Tensor) -> Tensor:
        patches = self.embed(images).flatten(2).mT[:, self.order]
        count, first = len(images), self.before.shape[1]
        ends = (self.before.expand(count, -1, -1), self.after.expand(count, -1, -1))
        tokens = torch.cat([ends[0], patches, ends[1]], 1)
        tokens = tokens + self.attend(tokens, tokens, tokens)[0]
        read = range(first, first + 12) if self.read is None else self.read
        scores: Tensor = self.head(tokens[:, list(read)].mean(1))
        return scores


BY_COLUMNS = [row * 3 + column for column in range(3) for row in range(4)]


@pytest.mark.parametrize(
    "net",
    [
        Reader(list(range(12))),
        Reader(BY_COLUMNS),
        Reader(list(range(12)), before=1, read=[0]),
        Reader(list(range(12)), before=4, read=[0]),
        Reader(list(range(12)), before=2, read=[0, 1]),
        Reader(list(range(12)), before=4, after=1, read=[16]),
        Reader(BY_COLUMNS, after=1, read=[12]),
        Reader(list(range(12)), before=4),
    ],
    ids=["patches", "columns", "class", "registers", "distilled", "class last", "columns, class last", "mean"],
)
def test_the_map_peaks_on_the_patch_that_draws_attention(net: Reader) -> None:
    images = torch.full((12, 1, 16, 12), 0.1)
    for number, image in enumerate(images):
        row, column = divmod(number, 3)
        image[0, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] = 0.9
    model = ModelUnderTest(net.eval(), classes="abc", input_shape=(1, 16, 12), device="cpu")
    found = explain_images(model, images, method="attention-rollout")
    assert found.attributions is not None, found.reason
    assert found.facts["grid"] == [4, 3]
    peaks = found.attributions[:, 0, 2::4, 2::4].flatten(1).argmax(1)
    assert peaks.tolist() == list(range(12))


def test_tokens_that_are_no_parts_of_the_image_are_refused() -> None:
    order = torch.randperm(12, generator=torch.Generator().manual_seed(3)).tolist()
    model = ModelUnderTest(Reader(order).eval(), classes="abc", input_shape=(1, 16, 12), device="cpu")
    found = explain_images(model, torch.rand(1, 1, 16, 12), method="attention-rollout")
    assert found.status == "not_applicable" and "no grid of patches" in str(found.reason)
