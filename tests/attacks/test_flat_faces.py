"""A net that clamps its input is the same function on every picture as the net without the clamp: attacks, training and
maps come to the same, whatever gradient a version of torch has on a bound."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import audit
from audit.core.registry import find
from audit.core.seeding import Generators
from audit.core.threat import Norm, ThreatModel
from audit.core.types import Batch
from audit.models.architecture import build
from audit.models.flat_faces import A_HAIR_INSIDE, AT_THE_IMAGE
from audit.models.outputs import OutputReader
from audit.models.under_test import ModelUnderTest
from audit.training.inner_attack import inner_pgd
from audit.training.training_module import TrainingModule

SHAPE = (1, 12, 12)
LINF = ThreatModel("linf", 0.1)


class ClampOfAVersion(torch.autograd.Function):
    """A clamp to [0, 1] whose gradient exactly on a bound is the given one, as versions of torch differ."""

    @staticmethod
    def forward(context: Any, images: Tensor, on_bound: float) -> Tensor:
        context.save_for_backward(images)
        context.on_bound = on_bound
        return images.clamp(0, 1)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Any:
        (images,) = context.saved_tensors
        inside, bound = (images > 0) & (images < 1), (images == 0) | (images == 1)
        return gradients[0] * (inside + context.on_bound * bound), None


def tensor_bounds(images: Tensor) -> Tensor:
    return images.clamp(torch.zeros(()), torch.ones(()))


def minimum_and_maximum(images: Tensor) -> Tensor:
    return torch.minimum(torch.maximum(images, torch.zeros(())), torch.ones(()))


SAME_ON_PICTURES: dict[str, Callable[[Tensor], Tensor]] = {
    "clamp here": lambda images: images.clamp(0, 1),
    "clamp of torch 2.13": lambda images: ClampOfAVersion.apply(images, 1.0),
    "clamp of torch 2.14": lambda images: ClampOfAVersion.apply(images, 0.0),
    "clamp with half": lambda images: ClampOfAVersion.apply(images, 0.5),
    "tensor bounds": tensor_bounds,
    "minimum of maximum": minimum_and_maximum,
    "hardtanh": lambda images: functional.hardtanh(images, 0.0, 1.0),
    "relu": functional.relu,
    "relu6": functional.relu6,
    "leaky relu": functional.leaky_relu,
    "abs": torch.abs,
    "negative first": lambda images: 1 - (1 - images).clamp(0, 1),
}


class Behind(nn.Module):
    def __init__(self, net: nn.Module, entrance: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.net, self.entrance = copy.deepcopy(net), entrance

    def forward(self, images: Tensor) -> Tensor:
        return self.net(self.entrance(images))


def wrapped(net: nn.Module, **options: Any) -> ModelUnderTest:
    return audit.wrap(net, classes=4, input_shape=SHAPE, device="cpu", **options)


@pytest.fixture(scope="module")
def pictures() -> Tensor:
    """Mostly black and white, as drawings are."""
    generator = torch.Generator().manual_seed(1)
    grey = torch.rand(96, *SHAPE, generator=generator)
    kind = torch.rand(96, *SHAPE, generator=generator)
    return torch.where(kind < 0.6, 0.0, torch.where(kind < 0.8, 1.0, grey))


@pytest.fixture(scope="module")
def labels(pictures: Tensor) -> Tensor:
    return (pictures[:, 0, :6].mean((1, 2)) * 40).long() % 4


@pytest.fixture(scope="module")
def trained(pictures: Tensor, labels: Tensor) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 144, 4))
    adam = torch.optim.Adam(net.parameters(), 3e-3)
    for _ in range(100):
        adam.zero_grad()
        functional.cross_entropy(net(pictures), labels).backward()
        adam.step()
    return net.eval()


@pytest.mark.parametrize("entrance", SAME_ON_PICTURES)
def test_every_clamped_twin_has_the_gradient_of_the_plain_net(
    entrance: str, trained: nn.Module, pictures: Tensor, labels: Tensor
) -> None:
    plain, twin = wrapped(trained), wrapped(Behind(trained, SAME_ON_PICTURES[entrance]))
    assert plain.gradient_point == AT_THE_IMAGE
    goal = functional.one_hot(labels, 4).bool().logical_not()
    ours, theirs = (m.loss_gradient(pictures, goal, lambda z, g: z[:, 0]).gradient for m in (twin, plain))
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("entrance", ["clamp of torch 2.14", "clamp with half", "hardtanh"])
def test_twins_have_the_same_robust_accuracy(
    entrance: str, trained: nn.Module, pictures: Tensor, labels: Tensor
) -> None:
    plain, twin = (
        audit.robustness(wrapped(net), pictures[:48], labels[:48], LINF)
        for net in (trained, Behind(trained, SAME_ON_PICTURES[entrance]))
    )
    assert abs(plain.robust_accuracy - twin.robust_accuracy) <= 0.011
    assert 0.1 < plain.robust_accuracy < 0.9
    assert plain.inconclusive == twin.inconclusive == ()
    assert any("kink" in sentence for sentence in twin.notes) and not plain.notes


@pytest.mark.parametrize("attack", ["fgsm", "pgd", "mi-fgsm", "ddn", "fmn"])
def test_every_gradient_attack_proposes_for_the_twin_what_it_proposes_for_the_plain_net(
    attack: str, trained: nn.Module, pictures: Tensor, labels: Tensor
) -> None:
    threat = ThreatModel("linf", 0.05) if "linf" in find("attack", attack).facts["norms"] else ThreatModel("l2", 0.5)
    batch = Batch(pictures[:16], labels[:16], tuple(map(str, range(16))))
    draws = Generators.of(batch.ids, seed=0, purpose="twins", device="cpu")
    broken = []
    for net in (trained, Behind(trained, SAME_ON_PICTURES["clamp of torch 2.14"])):
        model = wrapped(net)
        proposals = find("attack", attack).function(model, batch, threat, draws)
        broken.append(model.predictions(proposals) != batch.labels)
    assert (broken[0] != broken[1]).sum() <= 1


def test_the_inner_attack_of_training_moves_black_and_white_pixels(
    trained: nn.Module, pictures: Tensor, labels: Tensor
) -> None:
    reached = []
    for net in (trained, Behind(trained, SAME_ON_PICTURES["clamp of torch 2.14"])):
        module = TrainingModule(net, [0.0], [1.0])
        module.reader = OutputReader(4)
        module.learn_gradient_point(SHAPE, "linf")
        assert module.passes.forwards == 0
        ascend = lambda logits: functional.cross_entropy(logits, labels, reduction="none")  # noqa: E731
        reached.append(inner_pgd(module, pictures, pictures, LINF, ascend, steps=2, step_size=0.02))
    assert (reached[0] - reached[1]).abs().mean() < 1e-3
    assert (reached[1] != pictures).double().mean() > 0.3


@pytest.mark.parametrize("method", ["saliency", "integrated-gradients", "input-x-gradient"])
def test_maps_of_twins_agree(method: str, trained: nn.Module, pictures: Tensor) -> None:
    maps = []
    for net in (trained, Behind(trained, SAME_ON_PICTURES["clamp of torch 2.14"])):
        model = wrapped(net)
        maps.append(audit.explain(model, pictures[:2], method=method, targets=1).attributions)
    assert maps[0] is not None and maps[1] is not None
    torch.testing.assert_close(maps[0], maps[1], rtol=0.02, atol=1e-3)


NORMALISED: dict[str, tuple[Callable[[Tensor], Tensor], float, float]] = {
    "clamps what it undid": (lambda z: functional.hardtanh(z * 0.3 + 0.4, 0, 1), 0.4, 0.3),
    "clamps the normalised image": (lambda z: functional.hardtanh(z), 0.5, 0.5),
}
"""hardtanh is a clamp whose gradient on its bounds is 0 in every torch."""


@pytest.mark.parametrize("entrance", NORMALISED)
def test_a_clamp_behind_a_normalisation_is_seen(entrance: str, trained: nn.Module) -> None:
    clamp, mean, std = NORMALISED[entrance]
    assert wrapped(Behind(trained, clamp), mean=mean, std=std).gradient_point == A_HAIR_INSIDE


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_in_lower_precision_the_way_inside_is_longer(dtype: torch.dtype, trained: nn.Module) -> None:
    def entrance(images: Tensor) -> Tensor:
        return functional.hardtanh(images.to(dtype), 0, 1).float()

    point = wrapped(Behind(trained, entrance)).gradient_point
    assert 1 - 2**-6 < point.high[0] < 1 - 2**-12 and point.low[0] > 0
    assert wrapped(Behind(trained, lambda images: images.to(dtype).float())).gradient_point == AT_THE_IMAGE


@pytest.mark.parametrize("entrance", [lambda z: functional.relu(z - 0.5), lambda z: (z - 0.5).abs()])
def test_a_kink_on_mid_grey_is_seen(entrance: Callable[[Tensor], Tensor], trained: nn.Module) -> None:
    model = wrapped(Behind(trained, entrance))
    grey = torch.full((1, *SHAPE), 0.5)
    gradient = model.loss_gradient(grey, torch.zeros(1, dtype=torch.int64), lambda z, _: z[:, 0]).gradient
    assert model.gradient_point.shift and gradient.abs().min() > 0


@pytest.mark.parametrize(
    "entrance",
    [
        lambda z: z,
        lambda z: 1 - z,
        lambda z: torch.sigmoid(8 * (z - 0.5)),
        lambda z: (z + 0.01).log(),
        lambda z: (z * 255).round() / 255,
        lambda z: (z * 255).byte().float() / 255,
        lambda z: z.detach(),
        lambda z: z.detach() + 0.001 * z,
        lambda z: functional.dropout(z, 0.3),
        lambda z: z + 0.1 * torch.randn_like(z),
    ],
)
def test_other_nets_are_left_as_they_are(entrance: Callable[[Tensor], Tensor], trained: nn.Module) -> None:
    model = wrapped(Behind(trained, entrance))
    assert model.gradient_point == model.furthest_gradient_point == AT_THE_IMAGE
    assert model.passes.forwards == model.passes.backwards == 0


@pytest.mark.parametrize(("name", "shape"), [("cnn-28", (1, 28, 28)), ("cnn-32", (3, 32, 32))])
def test_nets_of_the_zoo_are_left_as_they_are(name: str, shape: tuple[int, int, int]) -> None:
    net = build(name, classes=10, input_shape=shape, seed=0)
    assert all(
        audit.wrap(net, classes=10, input_shape=shape, mean=mean, device="cpu").gradient_point == AT_THE_IMAGE
        for mean in (None, 0.3)
    )


def test_the_search_takes_six_passes_each_way_on_a_plain_net() -> None:
    calls: list[int] = []

    class Counting(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            calls.append(len(images))
            return images.flatten(1).view(len(images), 4, -1).mean(2)

    model = wrapped(Counting())
    calls.clear()
    assert model.gradient_point == AT_THE_IMAGE and sum(calls) == 6


def flat_to(depth: float) -> Callable[[Tensor], Tensor]:
    return lambda images: images.clamp(depth, 1 - depth)


@pytest.mark.parametrize("depth", [0.02, 0.05])
def test_a_face_that_is_flat_to_some_depth_is_seen_over_in_linf(
    depth: float, trained: nn.Module, pictures: Tensor, labels: Tensor
) -> None:
    model = wrapped(Behind(trained, flat_to(depth)))
    point = model.furthest_gradient_point
    assert model.gradient_point == AT_THE_IMAGE
    assert depth < point.low[0] < 1.02 * depth and 1 - 1.02 * depth < point.high[0] < 1 - depth
    pictures, labels, threat = pictures[:32], labels[:32], ThreatModel("linf", 0.15)
    over = audit.robustness(model, pictures, labels, threat)
    assert model.gradient_point == AT_THE_IMAGE
    model.__dict__["furthest_gradient_point"] = AT_THE_IMAGE
    blind = audit.robustness(model, pictures, labels, threat)
    assert over.robust_accuracy < 0.1 and blind.robust_accuracy > 0.5


def test_each_channel_has_its_own_depth() -> None:
    """The normalised range of ImageNet reaches past 2 in some channels and on some sides only."""
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    net = nn.Sequential(nn.Hardtanh(-2.0, 2.0), nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(600, 4))
    model = audit.wrap(net, classes=4, input_shape=(3, 12, 12), mean=mean, std=std, device="cpu")
    point = model.furthest_gradient_point
    for low, high, centre, spread in zip(point.low, point.high, mean, std, strict=True):
        assert low == pytest.approx(max(0.0, centre - 2 * spread), rel=0.01, abs=1e-5)
        assert high == pytest.approx(min(1.0, centre + 2 * spread), abs=1e-3)


@pytest.mark.parametrize("norm", ["l2", "l1"])
def test_in_other_norms_a_flat_face_makes_the_number_inconclusive(
    norm: Norm, trained: nn.Module, pictures: Tensor, labels: Tensor
) -> None:
    model = wrapped(Behind(trained, flat_to(0.05)))
    found = audit.robustness(model, pictures[:16], labels[:16], ThreatModel(norm, 0.3))
    assert any("does not see changes of black or white pixels below 5%" in reason for reason in found.inconclusive)
