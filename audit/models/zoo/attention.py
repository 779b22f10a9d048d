"""A small vision transformer (Dosovitskiy et al. 2021, arXiv:2010.11929)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from audit.core.errors import ModelError
from audit.models.loaded import InputShape


def self_attention(classes: int, input_shape: InputShape) -> nn.Module:
    """Four blocks of four heads, 64 wide, over about 7 x 7 patches; the mean of the patches is classified.

    Args:
        classes: Number of outputs.
        input_shape: (C, H, W) of the images.

    Raises:
        ModelError: For images below 4 pixels.
    """
    size = min(input_shape[1:])
    patch = max(1, size // 7)
    if size < 4:
        raise ModelError(f"Images of {size} pixels are too small for self-attention; enlarge them with --image-size.")
    return PatchTransformer(classes, input_shape, patch=patch, wide=64, depth=4, heads=4)


class PatchTransformer(nn.Module):
    """Patches of `patch` x `patch` pixels as tokens `wide` numbers long, through `depth` attention blocks."""

    def __init__(self, classes: int, input_shape: InputShape, *, patch: int, wide: int, depth: int, heads: int) -> None:
        super().__init__()
        channels, height, width = input_shape
        self.embed = nn.Conv2d(channels, wide, patch, stride=patch)
        tokens = (height // patch) * (width // patch)
        self.position = nn.Parameter(torch.randn(1, tokens, wide) * 0.02)
        self.blocks = nn.Sequential(*(Block(wide, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(wide)
        self.head = nn.Linear(wide, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of images.

        Args:
            images: (N, C, H, W).

        Returns:
            (N, classes).
        """
        tokens = self.embed(images).flatten(2).transpose(1, 2) + self.position
        logits: Tensor = self.head(self.norm(self.blocks(tokens)).mean(1))
        return logits


class Block(nn.Module):
    """Attention, then a two-layer net on each token, each on normalised tokens and added to them.

    Written out rather than `nn.TransformerEncoderLayer`, whose fused path in eval mode skips every hook: the attention
    of a layer can be read.
    """

    def __init__(self, wide: int, heads: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(wide)
        self.attention = nn.MultiheadAttention(wide, heads, batch_first=True)
        self.mixing_norm = nn.LayerNorm(wide)
        self.mixing = nn.Sequential(nn.Linear(wide, 2 * wide), nn.GELU(), nn.Linear(2 * wide, wide))

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens after attention and mixing, in the same shape.

        Args:
            tokens: (N, T, width).
        """
        normalised = self.attention_norm(tokens)
        attended, _ = self.attention(normalised, normalised, normalised, need_weights=False)
        tokens = tokens + attended
        mixed: Tensor = self.mixing(self.mixing_norm(tokens))
        return tokens + mixed
