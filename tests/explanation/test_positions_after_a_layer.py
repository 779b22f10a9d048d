"""Where class activation maps are read: measured by what the graph does to positions, however it is written."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from audit.explanation.position_mixing import positions_after
from audit.explanation.run import AttributionResult, explain_images
from audit.models.under_test import ModelUnderTest

WIDE, SIDE = 12, 6


class Attend(nn.Module):
    """Self-attention written out: `product` says how."""

    def __init__(self, product: str) -> None:
        super().__init__()
        self.product, self.qkv, self.out = product, nn.Linear(WIDE, 3 * WIDE), nn.Linear(WIDE, WIDE)

    def forward(self, tokens: Tensor) -> Tensor:
        query, key, value = self.qkv(tokens).chunk(3, -1)
        if self.product == "softmax":
            mixed = (query @ key.mT / 3).softmax(-1) @ value
        elif self.product == "fused":
            mixed = functional.scaled_dot_product_attention(query[:, None], key[:, None], value[:, None])[:, 0]
        else:
            mixed = query.softmax(-1) @ (key.softmax(1).mT @ value)
        answer: Tensor = tokens + self.out(mixed)
        return answer


class Mix(nn.Module):
    """A token mixer, by the layer or function given, on tokens (N, L, K)."""

    def __init__(self, mix: Callable[[Tensor], Tensor], layer: nn.Module | None = None) -> None:
        super().__init__()
        self.mix, self.layer = mix, layer

    def forward(self, tokens: Tensor) -> Tensor:
        mixed = self.mix(tokens) if self.layer is None else self.layer(self.mix(tokens)).mT
        answer: Tensor = tokens + mixed
        return answer


def pooled(tokens: Tensor) -> Tensor:
    """PoolFormer's mixer: the mean of neighbours, the size kept."""
    grid = tokens.mT.unflatten(2, (SIDE, SIDE))
    return (functional.avg_pool2d(grid, 3, 1, 1, count_include_pad=False) - grid).flatten(2).mT


def in_windows(tokens: Tensor) -> Tensor:
    """Attention within windows of 3x3, as Swin has it."""
    count = len(tokens)
    windows = tokens.view(count, 2, 3, 2, 3, WIDE).permute(0, 1, 3, 2, 4, 5).reshape(-1, 9, WIDE)
    mixed = (windows @ windows.mT).softmax(-1) @ windows
    return mixed.view(count, 2, 2, 3, 3, WIDE).permute(0, 1, 3, 2, 4, 5).reshape(count, -1, WIDE)


def encoder() -> nn.Module:
    return nn.TransformerEncoderLayer(WIDE, 2, 24, batch_first=True)


MIXERS: dict[str, Callable[[], nn.Module]] = {
    "attention": lambda: Attend("softmax"),
    "fused attention": lambda: Attend("fused"),
    "linear attention": lambda: Attend("linear"),
    "PyTorch's encoder": encoder,
    "attention in windows": lambda: Mix(in_windows),
    "MLP mixer": lambda: Mix(lambda tokens: tokens.mT, nn.Linear(SIDE * SIDE, SIDE * SIDE)),
    "mixer of two layers": lambda: Mix(
        lambda tokens: tokens.mT, nn.Sequential(nn.Linear(SIDE * SIDE, 72), nn.GELU(), nn.Linear(72, SIDE * SIDE))
    ),
    "convolution over tokens": lambda: Mix(lambda tokens: nn.functional.conv1d(tokens, torch.ones(36, 36, 1) / 36)),
    "Fourier transform": lambda: Mix(lambda tokens: torch.fft.fft2(tokens).real),
    "pooling of one size": lambda: Mix(pooled),
}


class Tokens(nn.Module):
    """A patch embedding, a body on its tokens, their mean (or a class token) and a head."""

    def __init__(self, body: nn.Module, class_token: bool = False) -> None:
        super().__init__()
        self.embed, self.body, self.head = nn.Conv2d(3, WIDE, 4, 4), body, nn.Linear(WIDE, 3)
        self.token = nn.Parameter(torch.randn(1, 1, WIDE)) if class_token else None

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.embed(images).flatten(2).mT
        if self.token is not None:
            tokens = torch.cat([self.token.expand(tokens.shape[0], -1, -1), tokens], 1)
        tokens = self.body(tokens)
        scores: Tensor = self.head(tokens.mean(1) if self.token is None else tokens[:, 0])
        return scores


def wrapped(net: nn.Module, channels: int = 3, size: int = 24) -> ModelUnderTest:
    return ModelUnderTest(net.eval(), classes="abc", input_shape=(channels, size, size), device="cpu")


def explained(net: nn.Module, method: str = "grad-cam", **options: object) -> AttributionResult:
    images = torch.rand(2, 3, 24, 24, generator=torch.Generator().manual_seed(1))
    return explain_images(wrapped(net), images, method=method, targets=1, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", MIXERS)
def test_a_map_before_its_tokens_are_mixed_is_not_what_decides(name: str) -> None:
    torch.manual_seed(0)
    found = explained(Tokens(MIXERS[name]()))
    assert found.status == "not_applicable" and "mixes positions" in str(found.reason)


class Squeeze(nn.Module):
    """Channels weighted by their means: every position is changed by all, none is moved."""

    def __init__(self) -> None:
        super().__init__()
        self.weigh = nn.Linear(WIDE, WIDE)

    def forward(self, features: Tensor) -> Tensor:
        weights = torch.sigmoid(self.weigh(features.mean((2, 3))))
        return features * weights[:, :, None, None]


class AttentionPool(nn.Module):
    """One token, the mean, reads all positions; the others are computed and dropped (CLIP's head)."""

    def __init__(self) -> None:
        super().__init__()
        self.attend = nn.MultiheadAttention(WIDE, 2, batch_first=True)

    def forward(self, features: Tensor) -> Tensor:
        tokens = features.flatten(2).mT
        tokens = torch.cat([tokens.mean(1, keepdim=True), tokens], 1)
        read: Tensor = self.attend(tokens, tokens, tokens)[0][:, 0]
        return read


def gap() -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(WIDE, 3)]


HEADS: dict[str, Callable[[], list[nn.Module]]] = {
    "mean": gap,
    "squeeze and excitation": lambda: [Squeeze(), *gap()],
    "group norm": lambda: [nn.GroupNorm(3, WIDE), nn.ReLU(inplace=True), *gap()],
    "layer norm of all": lambda: [nn.LayerNorm([WIDE, SIDE, SIDE]), nn.ReLU(), *gap()],
    "overlapping pool": lambda: [nn.MaxPool2d(3, 2, 1), *gap()],
    "dense layers": lambda: [nn.Flatten(), nn.Linear(36 * WIDE, 36 * WIDE), nn.ReLU(), nn.Linear(36 * WIDE, 3)],
    "attention pool": lambda: [AttentionPool(), nn.Linear(WIDE, 3)],
}


@pytest.mark.parametrize("name", HEADS)
def test_pooling_of_any_kind_leaves_the_map_what_decides(name: str) -> None:
    torch.manual_seed(0)
    found = explained(nn.Sequential(nn.Conv2d(3, WIDE, 3, stride=4, padding=1), *HEADS[name]()))
    assert found.status == "measured" and found.facts["layer"] == "0"


def test_layers_on_each_token_alone_mix_nothing_and_a_class_token_that_reads_once_is_a_pooling() -> None:
    torch.manual_seed(0)
    image = torch.rand(1, 3, 24, 24)
    pointwise = nn.Sequential(nn.LayerNorm(WIDE), nn.Linear(WIDE, 24), nn.GELU(), nn.Linear(24, WIDE))
    assert not positions_after(wrapped(Tokens(pointwise)), image, "embed").mixes
    assert not positions_after(wrapped(Tokens(Attend("softmax"), True)), image, "embed").mixes
    twice = nn.Sequential(Attend("softmax"), Attend("softmax"))
    assert positions_after(wrapped(Tokens(twice, True)), image, "embed").mixes == "body.0"


class Branches(nn.Module):
    """Two convolutions side by side, joined as `joined` says; a third one that nobody reads runs last."""

    def __init__(self, joined: str) -> None:
        super().__init__()
        self.joined = joined
        self.first, self.second = (nn.Conv2d(3, WIDE, 3, 2, 1) for _ in range(2))
        self.unread = nn.Conv2d(WIDE, WIDE, 3)
        self.norm = nn.BatchNorm2d(2 * WIDE if joined == "channels" else WIDE)
        self.head = nn.Linear(WIDE if joined == "sum" else 2 * WIDE, 3)

    def forward(self, images: Tensor) -> Tensor:
        one, two = self.first(images), self.second(images)
        self.unread(two)
        if self.joined == "pooled":
            pooled = torch.cat([one.relu().mean((2, 3)), two.relu().mean((2, 3))], 1)
        elif self.joined == "sum":
            pooled = (one + two).relu().mean((2, 3))
        else:
            pooled = self.norm(torch.cat([one, two], 1)).relu().mean((2, 3))
        scores: Tensor = self.head(pooled)
        return scores


def test_the_layer_holds_what_decides_or_none_is_named() -> None:
    torch.manual_seed(0)
    assert explained(Branches("sum")).facts["layer"] == "second"
    assert explained(Branches("channels")).facts["layer"] == "norm"
    apart = explained(Branches("pooled"))
    assert apart.status == "not_applicable" and "does not all go through" in str(apart.reason)


class Rearranged(nn.Module):
    """Pixels rearranged before the convolution, its features channels last if asked: 12 channels at 12x12 places."""

    def __init__(self, rearrange: Callable[[Tensor], Tensor] | None = None, *, channels_last: bool = False) -> None:
        super().__init__()
        self.rearrange, self.channels_last = rearrange, channels_last
        self.conv, self.last, self.head = nn.Conv2d(3, 12, 2, 2), nn.Identity(), nn.Linear(12, 3)

    def forward(self, images: Tensor) -> Tensor:
        features = self.conv(images if self.rearrange is None else self.rearrange(images))
        features = self.last(features.permute(0, 2, 3, 1) if self.channels_last else features)
        scores: Tensor = self.head(features.relu().mean((1, 2) if self.channels_last else (2, 3)))
        return scores


@pytest.mark.parametrize("method", ["grad-cam", "grad-cam-plus-plus", "layer-cam"])
def test_channels_last_gives_the_map_of_channels_first(method: str) -> None:
    torch.manual_seed(0)
    first, last = Rearranged(), Rearranged(channels_last=True)
    last.load_state_dict(first.state_dict())
    expected, found = (explained(net, method, layer="last").attributions for net in (first, last))
    assert expected is not None and bool(expected.any())
    assert torch.allclose(found, expected, atol=1e-6)


def test_positions_that_are_not_the_images_are_refused() -> None:
    torch.manual_seed(0)
    order = torch.randperm(576, generator=torch.Generator().manual_seed(2))
    for rearrange in (lambda i: i.flip(3), lambda i: i.flatten(2)[..., order].view_as(i)):
        found = explained(Rearranged(rearrange))
        assert found.status == "not_applicable" and "not those of the image" in str(found.reason)


def test_rows_and_columns_that_changed_places_are_put_back() -> None:
    torch.manual_seed(0)
    plain, turned = Rearranged(), Rearranged(lambda images: images.transpose(2, 3))
    turned.load_state_dict(plain.state_dict())
    images = torch.rand(2, 3, 24, 24, generator=torch.Generator().manual_seed(1))
    expected = explain_images(wrapped(plain), images.transpose(2, 3), method="layer-cam", targets=1).attributions
    found = explain_images(wrapped(turned), images, method="layer-cam", targets=1).attributions
    assert expected is not None and torch.allclose(found, expected.transpose(2, 3), atol=1e-6)


def test_a_convolution_called_as_a_function_is_read_at_the_layer_that_passes_it_on() -> None:
    torch.manual_seed(0)

    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.act, self.head = nn.Parameter(torch.randn(WIDE, 3, 3, 3)), nn.ReLU(), nn.Linear(WIDE, 3)

        def forward(self, images: Tensor) -> Tensor:
            scores: Tensor = self.head(self.act(functional.conv2d(images, self.weight)).mean((2, 3)))
            return scores

    assert explained(Functional()).facts["layer"] == "act"
