"""TCAV: captum's scores on the same activations, and a test that random concepts do not pass."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from captum.concept import TCAV, Concept
from captum.concept._utils.classifier import Classifier
from scipy.stats import ttest_ind
from torch import Tensor, nn
from torch.utils.data import DataLoader

from audit.metrics.concept_activation import concept_vector, tcav_score, two_sided_p


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
            self.names = labels.unique().tolist()
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
    concepts = [
        Concept(number, name, DataLoader(rows, batch_size=20)) for number, (name, rows) in enumerate(examples.items())
    ]
    tcav = TCAV(net, "1", classifier=Ours(), save_path=str(tmp_path))
    inputs = torch.randn(31, 6)
    theirs = tcav.interpret(inputs, [concepts], target=1)["0-1"]["1"]
    before, after = net[:2], net[2:]
    rows = {name: before(part).detach().numpy() for name, part in examples.items()}
    leaf = before(inputs).detach().requires_grad_(True)
    (gradients,) = torch.autograd.grad(after(leaf)[:, 1].sum(), leaf)
    ours = tcav_score(gradients.numpy(), concept_vector(rows["red"], rows["noise"]))
    assert ours == pytest.approx(float(theirs["sign_count"][0]))


def test_the_test_is_welchs_and_says_so_where_nothing_varies() -> None:
    draw = np.random.default_rng(3)
    first, second = draw.random(10), draw.random(10) + 0.2
    assert two_sided_p(first, second) == pytest.approx(ttest_ind(first, second, equal_var=False).pvalue)
    assert two_sided_p([1.0, 1.0], [1.0, 1.0]) == 1 and two_sided_p([1.0, 1.0], [0.5, 0.5]) == 0


def test_random_concepts_do_not_pass_and_a_real_one_does() -> None:
    """200 concepts of random examples: about 5% below p = .05 at most; one that the output rises with: far below."""
    draw = np.random.default_rng(4)
    gradients = draw.normal(size=(100, 6)) + np.eye(6)[0]

    def p_of(concept: np.ndarray[Any, Any]) -> float:
        pools = [draw.normal(size=(25, 6)) for _ in range(20)]
        scores = [tcav_score(gradients, concept_vector(concept, pool)) for pool in pools[:10]]
        against = [tcav_score(gradients, concept_vector(draw.normal(size=(25, 6)), pool)) for pool in pools[10:]]
        return two_sided_p(scores, against)

    assert p_of(draw.normal(size=(25, 6)) + 2 * np.eye(6)[0]) < 0.001
