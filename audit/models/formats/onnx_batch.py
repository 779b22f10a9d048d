"""Where the batch lies in an ONNX graph's shapes, so that a graph that was exported for one size takes any.

An exporter writes the batch size into the targets of its reshapes. A reshape keeps the order of the elements: the axis
that grew with the batch, with P elements outside of it, becomes the axis that has as many outside of it. Where the
batch was 1, two axes may; whatever is chosen is then held against the file.
"""

from __future__ import annotations

import math
from collections.abc import Sequence


def target_for_any(first: Sequence[int], second: Sequence[int]) -> list[int] | None:
    """The target of a reshape for any batch: -1 in the one axis where two batches differ.

    Args:
        first: Its output's shape on one batch.
        second: On another.

    Returns:
        None where several axes differ.
    """
    if len(first) != len(second) or math.prod(first) == 0:
        return None
    differ = [i for i, pair in enumerate(zip(first, second, strict=True)) if pair[0] != pair[1]]
    return None if len(differ) > 1 else [-1 if i in differ else size for i, size in enumerate(first)]


def freed(
    before: Sequence[int], larger: Sequence[int], after: Sequence[int], batch: int, outer: int
) -> tuple[list[int], int]:
    """The target of a reshape for a larger batch, where the file writes the batch size into it.

    Args:
        before: The input's shape on the file's batch.
        larger: On the other batch.
        after: The output's shape on the file's batch.
        batch: The file's batch size.
        outer: How much of the axis that grew lies outside the batch, 1 where the batch comes first in it.

    Returns:
        The target, -1 in one axis, and how much of that axis lies outside the batch.
    """
    axis = grown(before, larger)
    assert axis is not None
    outside = math.prod(before[:axis]) * outer
    place, inside = _place(after, outside, batch)
    return [-1 if i == place else size for i, size in enumerate(after)], inside


def grown(first: Sequence[int], second: Sequence[int]) -> int | None:
    """The first axis in which a value is larger on the larger batch, None where there is none.

    Args:
        first: Its shape on one batch.
        second: On the other.
    """
    pairs = enumerate(zip(first, second, strict=False))
    return next((i for i, pair in pairs if pair[0] != pair[1]), None)


def _place(after: Sequence[int], outside: int, batch: int) -> tuple[int, int]:
    """The axis that holds the batch, and how much of that axis lies outside of it."""
    starts = [math.prod(after[:i]) for i in range(len(after))]
    at = [i for i, start in enumerate(starts) if start == outside]
    exact = [i for i in at if after[i] == batch]
    if exact:
        return exact[0], 1
    if at and (at[0] == 0 or at[0] < len(after) - 1):
        return at[0], 1
    if at:  # the last axis holds features, which no batch changes
        return at[0] - 1, after[at[0] - 1]
    axis = max(i for i, start in enumerate(starts) if start <= outside)
    return axis, max(1, outside // starts[axis])
