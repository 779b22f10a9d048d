"""The shap package itself: `KernelExplainer` and `PartitionExplainer` on the segments of one image."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from audit.core.errors import UsageError
from audit.explanation.shapley_exact import MAX_EXACT_SEGMENTS, ShapleyValues, masked_outputs
from audit.masking.queue import MaskQueue

Outputs = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""From masks (M, n), above 0.5 where a segment is shown, to the output of each, float64 (M,)."""


def shap_library() -> Any:
    """The library, whose import warns of matplotlib's deprecations."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import shap
    return shap


def kernel_by_package(queue: MaskQueue, row: int, *, seed: int, samples: int, exact: bool) -> ShapleyValues:
    """Shapley values of one image's segments by `shap.KernelExplainer`, without its selection of ten features.

    Args:
        queue: Evaluates masks of N images.
        row: The image.
        seed: Of NumPy's global generator, which the package draws from, in [0, 2^32).
        samples: The package's `nsamples`: masks beside the empty and the full one.
        exact: Give it every mask instead, so that its regression is exact.

    Returns:
        The values; the package tells no errors of theirs where it sampled.

    Raises:
        UsageError: Every mask was asked for and there are more than 20 segments.
    """
    size = queue.sizes[row]
    if exact and size > MAX_EXACT_SEGMENTS:
        raise UsageError(
            f"Exact Shapley values of {size} segments need 2^{size} masks; give at most {MAX_EXACT_SEGMENTS} segments, "
            "or algorithm='kernel'."
        )
    outputs = _outputs(queue, row)
    with fixed_numpy_state(seed), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        explainer = shap_library().KernelExplainer(outputs, np.zeros((1, size)))
        answer = explainer.shap_values(
            np.ones((1, size)), nsamples=2**size if exact else samples, l1_reg=False, silent=True
        )
    return _values(outputs, np.asarray(answer, np.float64).reshape(size))


def partition_by_package(queue: MaskQueue, row: int, samples: int) -> ShapleyValues:
    """Owen values of one image's segments over a tree that joins neighbours first, by `shap.PartitionExplainer`.

    Args:
        queue: Evaluates masks of N images.
        row: The image.
        samples: Masks to evaluate, at most about.
    """
    library, size, outputs = shap_library(), queue.sizes[row], _outputs(queue, row)
    masker = library.maskers.Partition(np.zeros((1, size)), clustering=_tree(queue.segments[row].cpu().numpy(), size))
    with fixed_numpy_state(0):  # it breaks ties by a draw
        answer = library.explainers.Partition(outputs, masker)(
            np.ones((1, size)), max_evals=samples, batch_size=max(50, queue.model.layout.batch_size), silent=True
        )
    return _values(outputs, np.asarray(answer.values, np.float64).reshape(size))


@contextmanager
def fixed_numpy_state(seed: int) -> Iterator[None]:
    """Give NumPy's global generator, which shap draws from, a fixed state; put the caller's back after.

    Args:
        seed: Of that state, in [0, 2^32).
    """
    before = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(before)


def _outputs(queue: MaskQueue, row: int) -> Outputs:
    def outputs(masks: NDArray[np.float64]) -> NDArray[np.float64]:
        visible = torch.from_numpy(np.asarray(masks) > 0.5)
        return np.asarray(masked_outputs(queue, row, visible).numpy(), np.float64)

    return outputs


def _values(outputs: Outputs, answer: NDArray[np.float64]) -> ShapleyValues:
    size = len(answer)
    gap = float(outputs(np.ones((1, size)))[0] - outputs(np.zeros((1, size)))[0])
    return ShapleyValues.of(torch.from_numpy(answer), gap)


def _tree(segments: NDArray[np.int64], size: int) -> NDArray[np.float64]:
    """Average linkage of the segments' centres, as scipy writes it."""
    from scipy.cluster.hierarchy import linkage

    rows, columns = np.indices(segments.shape)
    counts = np.bincount(segments.ravel(), minlength=size)
    centres = [np.bincount(segments.ravel(), axis.ravel(), minlength=size) / counts for axis in (rows, columns)]
    tree: NDArray[np.float64] = linkage(np.stack(centres, 1), "average")
    return tree
