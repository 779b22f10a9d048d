"""Which tokens of a transformer are which part of the image, and which ones are classified: measured on the net."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from audit.core.errors import NotApplicable
from audit.core.note import note
from audit.core.types import Images
from audit.explanation.captum_guard import restored, uncounted
from audit.explanation.forward_trace import noise_like
from audit.explanation.once_per_model import once_per_model
from audit.explanation.positions import changed_parts, clear_diagonal, sees_elsewhere
from audit.explanation.target_layer import attention_layers
from audit.models.batching import in_batches
from audit.models.under_test import ModelUnderTest

_LEAST = 1e-6
"""Change of the logits, as a share of the largest, below which they do not depend on a token."""
_FILLS = (None, 0.0, 1.0)
"""What the parts of the image are replaced by in turn, so that a token which only bright or dark ones reach moves."""
_PARTS = (3, 2)
"""Parts of the image a side: three where the grid has as many."""


@dataclass(frozen=True)
class TokenGrid:
    """The tokens of an image.

    Attributes:
        patches: The number of the token at each place of the grid, row by row, int64 (rows x columns,).
        rows: Rows of the grid.
        columns: Its columns.
        deciding: What the logits depend on: tokens that are read alone, each by itself, and the patches together.
    """

    patches: Tensor
    rows: int
    columns: int
    deciding: list[Tensor]


@once_per_model
def token_grid(model: ModelUnderTest, tokens: int) -> TokenGrid:
    """Find the patches among the tokens that reach the first attention layer, and what is read after the last.

    A token that does not change with the image is none of its parts: a class token, a register. The others stand in the
    grid, by rows or by columns, in which a change of a part of the image changes the tokens of that part.

    Args:
        model: The model; some forwards at the first time, not counted.
        tokens: How many tokens they work on.

    Raises:
        NotApplicable: The tokens are no grid of parts of the image.
    """
    layers = attention_layers(model.net)
    generator = torch.Generator(device="cpu").manual_seed(9)
    image = torch.rand(1, *model.input_shape, generator=generator, device="cpu").to(model.device)
    effects = {
        side: torch.stack(
            [_token_changes(model, layers, changed_parts(image, side, fill), tokens) for fill in _FILLS]
        ).sum(0)
        for side in _PARTS
    }
    patches = torch.nonzero((effects[2] > 0).any(0)).flatten()
    best: tuple[float, Tensor, int, int] | None = None
    for rows, columns in _factors(len(patches)):
        side = min(3, rows, columns)
        for order in (patches.view(rows, columns), patches.view(columns, rows).T):
            seen = effects[side][:, order.flatten()].view(-1, 1, rows, columns)
            clear, enough = clear_diagonal(seen, side)
            if enough and not sees_elsewhere(seen, side) and (best is None or clear > best[0] + 0.02):
                best = clear, order.flatten(), rows, columns
    if best is None:
        raise NotApplicable(
            note(
                "no_grid",
                "{tokens} tokens are no grid of patches: a change of a part of the image does not change the tokens of "
                "that part alone.",
                tokens=tokens,
            )
        )
    _, order, rows, columns = best
    return TokenGrid(order, rows, columns, _deciding(model, layers, image, patches, tokens, generator))


def _factors(count: int) -> Iterator[tuple[int, int]]:
    """Rows and columns of every grid of so many patches, at least two a side."""
    return ((rows, count // rows) for rows in range(2, count // 2 + 1) if count % rows == 0)


def _token_changes(model: ModelUnderTest, layers: list[nn.Module], images: Images, tokens: int) -> Tensor:
    """How much each part's change changes each token before the first attention layer, float (parts, tokens)."""

    def batch(rows: slice) -> Tensor:
        seen: list[Tensor] = []

        def record(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if not seen:
                given = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
                seen.append(_by_image(layer, given[0]).detach().clone())

        with restored(model):
            for layer in layers:
                layer.register_forward_pre_hook(record, with_kwargs=True)
            model.module(images[rows])
        return seen[0]

    with uncounted(model), torch.no_grad():
        given = torch.cat(list(in_batches(len(images), model.layout, batch)))
    if given.ndim != 3 or given.shape[:2] != (len(images), tokens):
        return torch.zeros(len(images) - 1, tokens, device="cpu")
    changes = (given[1:] - given[:1]).float()
    return changes.square().sum(2).sqrt().cpu()


def _deciding(
    model: ModelUnderTest,
    layers: list[nn.Module],
    image: Images,
    patches: Tensor,
    tokens: int,
    generator: torch.Generator,
) -> list[Tensor]:
    """The tokens on which the logits depend after the last attention layer."""
    calls: list[nn.Module] = []
    with uncounted(model), torch.no_grad(), restored(model):
        for layer in layers:
            layer.register_forward_hook(lambda attends, *_: calls.append(attends))
        clean = model.module(image)
    others = [torch.tensor([token], device="cpu") for token in range(tokens) if token not in set(patches.tolist())]
    least = _LEAST * float(clean.abs().max())

    def decides(group: Tensor) -> bool:
        changed = _with_change(model, calls, image, group, generator)
        return float((changed - clean).abs().max()) > least

    deciding = [group for group in (*others, patches) if decides(group)]
    return deciding or [patches]


def _with_change(
    model: ModelUnderTest, calls: list[nn.Module], image: Images, group: Tensor, generator: torch.Generator
) -> Tensor:
    """The logits, noise added to some tokens of what the last of the calls of attention layers gives."""
    left = len(calls)

    def change(layer: nn.Module, _: object, output: Any) -> Any:
        nonlocal left
        left -= 1
        if left:
            return None
        features = output[0] if isinstance(output, tuple) else output
        mask = torch.zeros(_by_image(layer, features).shape[1], device="cpu")
        mask[group] = 1
        changed = features + noise_like(features, generator) * _by_image(
            layer, mask.to(features).view(1, -1, 1).expand(1, -1, 1)
        )
        return (changed, *output[1:]) if isinstance(output, tuple) else changed

    with uncounted(model), torch.no_grad(), restored(model):
        for layer in set(calls):
            layer.register_forward_hook(change)
        return model.module(image)  # type: ignore[no-any-return]


def _by_image(layer: nn.Module, tokens: Tensor) -> Tensor:
    """(tokens, N, width) as (N, tokens, width) where PyTorch's layer takes the former, and back."""
    return tokens.transpose(0, 1) if getattr(layer, "batch_first", True) is False and tokens.ndim == 3 else tokens
