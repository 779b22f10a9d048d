"""Owen values over a tree of neighbouring segments, by shap's partition explainer."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from audit.explanation.shapley_exact import Shares, ask
from audit.masking.queue import MaskQueue


def partition_shapley(queue: MaskQueue, row: int, samples: int) -> Shares:
    """shap's hierarchical values of image `row`'s segments, joined nearest first; at most about `samples` masks."""
    shap = _shap()
    size = queue.sizes[row]

    def outputs(masks: NDArray[np.float64]) -> NDArray[np.float64]:
        found: NDArray[np.float64] = ask(queue, row, torch.from_numpy(np.asarray(masks) > 0.5)).numpy()
        return found

    masker = shap.maskers.Partition(np.zeros((1, size)), clustering=_tree(queue.segments[row].cpu().numpy(), size))
    with _numpy_state_kept():
        answer = shap.explainers.Partition(outputs, masker)(
            np.ones((1, size)), max_evals=samples, batch_size=max(50, queue.model.layout.batch_size), silent=True
        )
    values = torch.from_numpy(np.asarray(answer.values, dtype=np.float64).reshape(size))
    gap = float(outputs(np.ones((1, size)))[0] - outputs(np.zeros((1, size)))[0])
    return Shares(values, torch.zeros_like(values), abs(float(values.sum()) - gap))


def _shap() -> Any:
    """The library, whose import speaks of matplotlib's deprecations."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import shap
    return shap


def _tree(segments: NDArray[np.int64], size: int) -> NDArray[np.float64]:
    """Average linkage of the segments' centres, as scipy writes it."""
    from scipy.cluster.hierarchy import linkage

    rows, columns = np.indices(segments.shape)
    counts = np.bincount(segments.ravel(), minlength=size)
    centres = [np.bincount(segments.ravel(), axis.ravel(), minlength=size) / counts for axis in (rows, columns)]
    tree: NDArray[np.float64] = linkage(np.stack(centres, 1), "average")
    return tree


@contextmanager
def _numpy_state_kept() -> Iterator[None]:
    """shap breaks ties with numpy's global generator: give it a fixed state, and put the caller's back."""
    before = np.random.get_state()
    np.random.seed(0)
    try:
        yield
    finally:
        np.random.set_state(before)
