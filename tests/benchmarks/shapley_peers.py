"""Shapley values of one image's segments by us, shap and captum, each given the same number of masks."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audit.core.seeding import Generators
from audit.explanation.shap_package import partition_by_package
from audit.explanation.shapley_kernel import kernel_shapley
from audit.masking.evaluate import evaluate
from audit.masking.queue import MaskQueue
from audit.models.under_test import ModelUnderTest

Values = NDArray[np.float64]
_TOGETHER = 25
"""Permutations evaluated at once, each with its reverse."""


@dataclass(frozen=True)
class Game:
    """One image's logit under masks of its segments."""

    model: ModelUnderTest
    image: Tensor
    baseline: Tensor
    segments: Tensor
    target: int

    @property
    def size(self) -> int:
        return int(self.segments.max()) + 1

    def outputs(self, masks: Any) -> Values:
        """The target's logit under masks (M, segments), float64 (M,)."""
        shown = torch.from_numpy(np.asarray(masks) > 0.5)
        flat = self.segments.flatten()

        def compose(part: slice) -> Tensor:
            return torch.where(shown[part][:, flat].view(-1, 1, *self.segments.shape), self.image, self.baseline)

        found = evaluate(self.model, len(shown), compose, lambda logits, _: logits[:, self.target])
        return np.asarray(found.double().numpy())

    def queue(self) -> MaskQueue:
        """A fresh queue, which remembers nothing."""
        return MaskQueue(
            self.model,
            self.image[None],
            self.baseline[None],
            self.segments[None],
            lambda logits, _: logits[:, self.target],
        )


def long_run(game: Game, permutations: int) -> Values:
    """Paired permutation sampling, independent of every contestant: the reference."""
    random, size = np.random.default_rng(0), game.size
    values, rounds = np.zeros(size), -(-permutations // (2 * _TOGETHER))
    for _ in range(rounds):
        orders = np.stack([random.permutation(size) for _ in range(_TOGETHER)])
        places = np.argsort(np.concatenate([orders, orders[:, ::-1]]), axis=1)
        masks = places[:, None] < np.arange(size + 1)[None, :, None]
        outputs = game.outputs(masks.reshape(-1, size)).reshape(len(places), size + 1)
        values += np.take_along_axis(np.diff(outputs, axis=1), places, axis=1).mean(0)
    return np.asarray(values / rounds)


def ours(game: Game, budget: int, seed: int) -> Values:
    """Paired leverage-score sampling."""
    generators = Generators.of(["image"], seed=seed, purpose="benchmark", device="cpu")
    return np.asarray(kernel_shapley(game.queue(), generators, {0: budget})[0].estimate.values.numpy())


def ours_partition(game: Game, budget: int, seed: int) -> Values:
    """shap's partition through our queue."""
    return np.asarray(partition_by_package(game.queue(), 0, budget).values.numpy())


def shap_kernel(game: Game, budget: int, seed: int) -> Values:
    """shap.KernelExplainer without its default feature selection."""
    import shap

    np.random.seed(seed)
    with contextlib.redirect_stderr(io.StringIO()):
        explainer = shap.KernelExplainer(game.outputs, np.zeros((1, game.size)))
        found = explainer.shap_values(np.ones((1, game.size)), nsamples=budget, l1_reg=False, silent=True)
    return np.asarray(found, dtype=np.float64).reshape(game.size)


def shap_permutation(game: Game, budget: int, seed: int) -> Values:
    """shap.explainers.Permutation."""
    import shap

    np.random.seed(seed)
    masker = shap.maskers.Independent(np.zeros((1, game.size)))
    explainer = shap.explainers.Permutation(game.outputs, masker, seed=seed)
    found = explainer(np.ones((1, game.size)), max_evals=budget, silent=True, batch_size=100)
    return np.asarray(found.values, dtype=np.float64).reshape(game.size)


def captum_kernel(game: Game, budget: int, seed: int) -> Values:
    """captum's KernelShap."""
    from captum.attr import KernelShap

    torch.manual_seed(seed)
    found = KernelShap(game.model.module).attribute(
        game.image[None],
        baselines=game.baseline[None],
        target=game.target,
        feature_mask=game.segments[None, None],
        n_samples=budget,
        perturbations_per_eval=100,
        return_input_shape=False,
    )
    return np.asarray(found.double().numpy()).reshape(game.size)


CONTESTANTS: Mapping[str, Callable[[Game, int, int], Values]] = {
    "audit kernel": ours,
    "audit partition": ours_partition,
    "shap.KernelExplainer": shap_kernel,
    "shap.Permutation": shap_permutation,
    "captum KernelShap": captum_kernel,
}
