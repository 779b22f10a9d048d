"""Muon: matrices take orthogonal steps, everything else takes Adam's."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn

from audit.config import TrainingConfig
from audit.core.types import Batch
from audit.training.fit import fit
from audit.training.muon import Muon, orthogonalised
from audit.training.optimisation import make_optimizer
from audit.training.transfer import parameter_groups
from tests.training.toy import tiny_net


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(6, 40), (40, 6), (8, 8), (1, 9)])
def test_singular_vectors_stay_and_singular_values_come_near_one(shape: tuple[int, int]) -> None:
    matrix = draw(*shape)
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    given = left.T @ orthogonalised(matrix) @ right.T
    assert float((given - given.diag().diag()).abs().max()) < 1e-3
    assert bool((given.diag()[values > 0.05 * values.max()] - 1).abs().max() < 0.35)


def test_the_iteration_is_that_of_the_full_matrix() -> None:
    matrix = draw(5, 12).double()
    slow = matrix / matrix.norm()
    for _ in range(5):
        gram = slow @ slow.T
        slow = 3.4445 * slow + (-4.7750 * gram + 2.0315 * gram @ gram) @ slow
    torch.testing.assert_close(orthogonalised(matrix).double(), slow, rtol=0, atol=1e-4)


def test_a_zero_gradient_moves_nothing() -> None:
    assert torch.equal(orthogonalised(torch.zeros(3, 5)), torch.zeros(3, 5))


def test_what_is_no_hidden_matrix_takes_the_steps_of_adam() -> None:
    ours, theirs = tiny_net(norm=True), tiny_net(norm=True)
    optimizer = make_optimizer(parameter_groups(ours, 1.0, head_apart=True), TrainingConfig(optimizer="muon"))
    adam = torch.optim.Adam(theirs.parameters(), lr=TrainingConfig().learning_rate)
    for step in range(4):
        for net, chosen in ((ours, optimizer), (theirs, adam)):
            for number, weight in enumerate(net.parameters()):
                weight.grad = draw(*weight.shape, seed=10 * step + number)
            chosen.step()
    for (name, weight), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        hidden = weight.ndim > 1 and not name.startswith("7.")
        assert torch.allclose(weight, other, atol=1e-6) is not hidden, name


def test_a_step_of_a_matrix_is_as_long_as_one_of_adam_usually_is() -> None:
    weight = nn.Parameter(torch.zeros(16, 3, 5, 5))
    weight.grad = draw(16, 3, 5, 5)
    Muon([{"params": [weight], "matrices": True}], lr=0.1).step()
    assert float(weight.detach().square().mean().sqrt()) == pytest.approx(0.1 * 0.2, rel=0.3)


def test_weight_decay_shrinks_what_has_no_gradient_to_follow() -> None:
    weight = nn.Parameter(torch.ones(4, 4))
    weight.grad = torch.zeros(4, 4)
    Muon([{"params": [weight], "matrices": True}], lr=0.1, weight_decay=0.5).step()
    torch.testing.assert_close(weight.detach(), torch.full((4, 4), 0.95))


def test_a_training_with_muon_learns(short: TrainingConfig, examples: Batch) -> None:
    settings = TrainingConfig.model_validate(short.model_dump() | {"optimizer": "muon"})
    assert fit(tiny_net(), examples, settings, classes=3).history[-1]["clean_accuracy"] >= 0.9


def test_training_imports_no_compiler() -> None:
    """torch imports its compiler, a second's worth, when an optimiser of its own is first made."""
    script = (
        "import sys, torch; from audit.training.muon import Muon; weight = torch.nn.Parameter(torch.ones(2, 2));"
        "optimizer = Muon([{'params': [weight], 'matrices': True}], lr=0.1); weight.sum().backward(); optimizer.step();"
        "optimizer.zero_grad(); optimizer.load_state_dict(optimizer.state_dict());"
        "print('torch._dynamo' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
