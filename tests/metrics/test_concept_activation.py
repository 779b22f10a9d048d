"""TCAV: captum's scores on the same activations, and a test that random concepts do not pass."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from captum.concept import TCAV, Concept
from captum.concept._utils.classifier import Classifier
from scipy.stats import t
from torch import Tensor, nn
from torch.utils.data import DataLoader

from audit.metrics.class_concepts import concept_scores
from audit.metrics.concept_activation import concept_vector, draw_p, tcav_score


def test_the_vector_parts_the_concept_from_the_rest() -> None:
    draw = np.random.default_rng(0)
    random = draw.normal(size=(60, 8))
    concept = draw.normal(size=(40, 8)) + 3 * np.eye(8)[2]
    vector = concept_vector(concept, random)
    assert np.linalg.norm(vector) == pytest.approx(1) and vector[2] > 0.9
    assert (concept @ vector).mean() > (random @ vector).mean()


def test_scores_of_captum_on_the_same_activations_are_ours(tmp_path: Any) -> None:
    class Ours(Classifier):  # type: ignore[misc]
        """Captum asks a classifier for its weights; this one is `concept_vector`."""

        def __init__(self) -> None:
            self.names: list[int] = []
            self.vectors = torch.zeros(0)

        def train_and_eval(self, loader: DataLoader[Any], **_: Any) -> dict[str, Tensor]:
            rows, labels = (torch.cat(part) for part in zip(*loader, strict=True))
            self.names = sorted(set(labels.tolist()))
            sides = [rows[labels == name].flatten(1).numpy() for name in self.names]
            vector = torch.from_numpy(concept_vector(*sides)).float()
            self.vectors = torch.stack([vector, -vector])
            return {"accs": torch.tensor(1.0)}

        def weights(self) -> Tensor:
            return self.vectors

        def classes(self) -> list[int]:
            return self.names

    net = nn.Sequential(nn.Linear(6, 10), nn.Tanh(), nn.Linear(10, 7), nn.Sigmoid(), nn.Linear(7, 3))
    examples = {"red": torch.randn(20, 6) + 1, "noise": torch.randn(20, 6)}
    examples_of: Any = DataLoader  # takes whatever has a length and items
    loaders = {name: examples_of(rows, batch_size=20) for name, rows in examples.items()}
    concepts = [Concept(number, name, loader) for number, (name, loader) in enumerate(loaders.items())]
    tcav = TCAV(net, "1", classifier=Ours(), save_path=str(tmp_path))
    inputs = torch.randn(31, 6)
    theirs = tcav.interpret(inputs, [concepts], target=1)["0-1"]["1"]
    before, after = net[:2], net[2:]
    rows = {name: before(part).detach().numpy() for name, part in examples.items()}
    leaf = before(inputs).detach().requires_grad_(True)
    (gradients,) = torch.autograd.grad(after(leaf)[:, 1].sum(), leaf)
    ours = tcav_score(gradients.numpy(), concept_vector(rows["red"], rows["noise"]))
    assert ours == pytest.approx(float(theirs["sign_count"][0]))


def test_the_p_value_is_that_of_a_prediction_and_says_so_where_nothing_varies() -> None:
    controls = np.random.default_rng(3).normal(size=12)
    low, high = t.interval(0.95, 11, controls.mean(), controls.std(ddof=1) * np.sqrt(1 + 1 / 12))
    assert draw_p(low, controls.tolist()) == pytest.approx(0.05) == draw_p(high, controls.tolist())
    assert draw_p(1.0, [1.0, 1.0]) == 1 and draw_p(1.0, [0.5, 0.5]) == 0


def test_random_concepts_do_not_pass_and_a_real_one_does() -> None:
    """Of 300 concepts of random examples at most 5% lie below p = .05 (their number is below 26 in 99% of trials)."""
    draw = np.random.default_rng(4)
    gradients, pool = draw.normal(size=(100, 6)) + np.eye(6)[0], draw.gamma(0.5, size=(400, 6))

    def p_of(concept: np.ndarray[Any, Any]) -> float:
        _, _, along, random = concept_scores(gradients, [concept], pool, 20, draw)
        return draw_p(float(along[0]), random.tolist())

    passing = sum(p_of(pool[draw.choice(len(pool), 25, replace=False)]) < 0.05 for _ in range(300))
    assert passing <= 26
    assert p_of(pool[:25] + np.eye(6)[0]) < 0.001
