"""The peers' attacks, each as `(module, images, labels, eps) -> adversarial images`, with their own defaults."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import TypeAlias

import torch
from torch import Tensor, nn

Peer: TypeAlias = Callable[[nn.Module, Tensor, Tensor, float], Tensor]


def autoattack(module: nn.Module, images: Tensor, labels: Tensor, eps: float) -> Tensor:
    """The standard version of the official code, as `pyautoattack` ships it."""
    from pyautoattack import AutoAttack

    attack = AutoAttack(module, norm="Linf", eps=eps, version="standard", seed=0, device="cpu")
    found: Tensor = attack.run_standard_evaluation(images, labels, batch_size=250)[0]
    return found


def foolbox_pgd(module: nn.Module, images: Tensor, labels: Tensor, eps: float) -> Tensor:
    """foolbox's LinfPGD, its 40 steps and its step size."""
    import foolbox

    wrapped = foolbox.PyTorchModel(module, bounds=(0, 1), device="cpu")
    found: Tensor = foolbox.attacks.LinfPGD(steps=40)(wrapped, images, labels, epsilons=eps)[1]
    return found


def torchattacks_pgd(module: nn.Module, images: Tensor, labels: Tensor, eps: float) -> Tensor:
    """torchattacks' PGD, 40 steps."""
    import torchattacks

    found: Tensor = torchattacks.PGD(module, eps=eps, alpha=eps / 10, steps=40)(images, labels)
    return found


def art_pgd(module: nn.Module, images: Tensor, labels: Tensor, eps: float) -> Tensor:
    """The Adversarial Robustness Toolbox's PGD, 40 steps."""
    from art.attacks.evasion import ProjectedGradientDescentPyTorch
    from art.estimators.classification import PyTorchClassifier

    classifier = PyTorchClassifier(
        module, nn.CrossEntropyLoss(), tuple(images.shape[1:]), int(labels.max()) + 1, clip_values=(0, 1)
    )
    attack = ProjectedGradientDescentPyTorch(classifier, eps=eps, eps_step=eps / 10, max_iter=40, verbose=False)
    return torch.from_numpy(attack.generate(images.numpy(), labels.numpy()))


PGD_PEERS: dict[str, tuple[str, Peer]] = {
    "foolbox PGD-40": ("foolbox", foolbox_pgd),
    "torchattacks PGD-40": ("torchattacks", torchattacks_pgd),
    "ART PGD-40": ("art", art_pgd),
}
"""Each peer with the package it needs."""


def installed(package: str) -> bool:
    """Whether the peer can run here."""
    return find_spec(package) is not None
