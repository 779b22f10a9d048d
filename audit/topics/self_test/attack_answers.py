"""Answers of foolbox to the self-test's linear model, beside our own attacks'."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from audit.adversarial.propose import propose
from audit.adversarial.verify import verify
from audit.core.note import note
from audit.core.registry import find
from audit.core.seeding import Generators, content_ids, fork_global_rng
from audit.core.threat import Norm, ThreatModel
from audit.core.types import Batch, Images
from audit.explanation.self_test import EXACT, linear_problem
from audit.models.under_test import ModelUnderTest
from audit.topics.self_test.package_comparison import OTHER_CODE, PackageAnswer

_LINEAR = note("linear_model", "linear model")
_NEAR = note(
    "beyond_the_boundary",
    "fab-t steps 5% beyond the boundary, as its paper does; an audit shortens that afterwards by bisection",
)
_VERDICTS = note(
    "verdicts_at_the_distance",
    "the verdicts a fiftieth beyond the exact distance and a fiftieth short of it: none differs",
)
_EPS = 0.02
"""Of FGSM, so small that no pixel reaches the faces of the box."""
_BEYOND = 0.06
"""Of the distance: fab-t's overshoot, and a hundredth for the peer's."""
_PGD_IMAGES = 4


def foolbox_answers(device: torch.device) -> Iterator[PackageAnswer]:
    """One FGSM step, whose image is known; the verdicts of PGD around the known distance; the least distances found.

    Args:
        device: Where the model runs.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import foolbox
    model, weight = _two_classes(device)
    batch = _inner_batch(model, device)
    exact = _distances(model, weight, batch)
    with fork_global_rng(device, "self-test", "foolbox"), torch.enable_grad():
        peer = _Foolbox(foolbox, foolbox.PyTorchModel(model.module, bounds=(0, 1), device=device))
        threat = ThreatModel("linf", _EPS)
        ours = _propose("fgsm", model, batch, threat) - batch.images
        theirs = peer.run("LinfFastGradientAttack", batch, _EPS) - batch.images
        yield PackageAnswer(
            _LINEAR, "fgsm", "LinfFastGradientAttack", _plain(ours), _plain(theirs), None, EXACT, OTHER_CODE
        )
        yield PackageAnswer(_LINEAR, "pgd", "LinfPGD", *_verdicts(peer, model, batch, exact["linf"]), 0.0, _VERDICTS)
        for whole, call in ((ThreatModel("l2", 8.0), "DDNAttack"), (ThreatModel("linf", 1.0), "LInfFMNAttack")):
            ours = whole.distance(_propose("fab-t", model, batch, whole, steps=40), batch.images)
            theirs = whole.distance(peer.run(call, batch, None), batch.images)
            yield PackageAnswer(
                _LINEAR, f"fab-t ({whole.norm})", call, _plain(ours), _plain(theirs), exact[whole.norm], _BEYOND, _NEAR
            )


class _Foolbox:
    """foolbox on one model, untargeted."""

    def __init__(self, library: Any, model: Any) -> None:
        self.library, self.model = library, model

    def run(self, call: str, batch: Batch, eps: float | None, **settings: Any) -> Images:
        """The images that it proposes, float32 (N, C, H, W)."""
        attack = getattr(self.library.attacks, call)(**settings)
        images: Images = attack(self.model, batch.images, batch.labels, epsilons=eps)[1]
        return images.detach()


def _propose(name: str, model: ModelUnderTest, batch: Batch, threat: ThreatModel, **settings: Any) -> Images:
    method = find("attack", name)
    draws = Generators.of(batch.ids, seed=0, purpose="self-test", device=model.device)
    return propose(method, model, batch, threat, draws, method.settings(settings))


def _verdicts(peer: _Foolbox, model: ModelUnderTest, batch: Batch, exact: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Whether images break a fiftieth beyond their exact distance and a fiftieth short of it, by us and by foolbox,
    1 or 0, with the known answer."""
    ours: list[float] = []
    theirs: list[float] = []
    known: list[float] = []
    for row in range(_PGD_IMAGES):
        one = batch.select(torch.tensor([row], device=batch.labels.device))
        for factor in (1.02, 0.98):
            threat = ThreatModel("linf", factor * float(exact[row]))
            proposals = (
                _propose("pgd", model, one, threat, random_start=False),
                peer.run("LinfPGD", one, threat.eps, steps=40, rel_stepsize=0.1, random_start=False),
            )
            for answers, proposal in zip((ours, theirs), proposals, strict=True):
                answers.append(float(verify(model, one, proposal, threat).broken))
            known.append(float(factor > 1))
    return _plain(torch.tensor(ours)), _plain(torch.tensor(theirs)), _plain(torch.tensor(known))


def _plain(values: Tensor) -> Tensor:
    return values.detach().to("cpu", torch.float64)


def _two_classes(device: torch.device) -> tuple[ModelUnderTest, Tensor]:
    """The linear model of the self-test without its third class, so that one boundary is near; with the difference of
    its weights, float64 (64,)."""
    layer = nn.Linear(64, 2, device="cpu")
    with torch.no_grad():
        layer.weight.copy_(linear_problem(device).weight[:2].flatten(1))
        layer.bias.zero_()
    model = ModelUnderTest(nn.Sequential(nn.Flatten(), layer), classes="ab", input_shape=(1, 8, 8), device=device)
    return model, (layer.weight[1] - layer.weight[0]).detach().double()


def _inner_batch(model: ModelUnderTest, device: torch.device) -> Batch:
    """Eight images near grey, where the box plays no part, with the model's own answer as their label."""
    generator = torch.Generator(device="cpu").manual_seed(11)
    images = (0.5 + 0.04 * torch.randn(8, 1, 8, 8, generator=generator, device="cpu")).to(device)
    return Batch(images, model.predictions(images), content_ids(images))


def _distances(model: ModelUnderTest, weight: Tensor, batch: Batch) -> dict[Norm, Tensor]:
    """The distance to the boundary, by norm: the logits' gap over the dual norm of the weights' difference."""
    gap = model.logits(batch.images).cpu().double().diff(dim=1)[:, 0].abs()
    return {"linf": gap / weight.norm(p=1), "l2": gap / weight.norm(p=2)}
