"""The checks of a model stand before every function of the Python interface, and say what they doubt."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import audit
from audit.core.errors import DataError, ModelError
from audit.core.seeding import Generators
from audit.core.types import Batch
from audit.metrics.determinism import batch_difference
from audit.metrics.gradient_masking import face_error
from audit.models.flat_faces import AT_THE_IMAGE
from tests.conftest import small_cnn

THREAT = audit.ThreatModel("linf", 0.05)


class Through(nn.Module):
    """A net called in some way of other people's code."""

    def __init__(self, way: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.net, self.way = small_cnn(), way

    def forward(self, images: Tensor) -> Tensor:
        return self.way(self.net, images)


@torch.no_grad()
def without_grad(net: nn.Module, images: Tensor) -> Tensor:
    return net(images)


def in_inference_mode(net: nn.Module, images: Tensor) -> Tensor:
    with torch.inference_mode():
        return net(images)


def through_numpy(net: nn.Module, images: Tensor) -> Tensor:
    return net(torch.from_numpy(images.numpy()))


def frozen_backbone(net: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad():
        features = net(images)
    return features + 1e-3 * images.flatten(1)[:, :4]


def by_the_brightest(net: nn.Module, images: Tensor) -> Tensor:
    return net(images / images.amax() * images.mean() * 2)


BLIND = {
    "no_grad": (without_grad, "no gradient to follow"),
    "inference mode": (in_inference_mode, "no gradient to follow"),
    "numpy": (through_numpy, "no gradient to follow"),
    "detached": (lambda net, images: net(images.detach()), "no gradient to follow"),
    "bytes": (lambda net, images: net((images * 255).byte().float() / 255), "no gradient to follow"),
    "rounded": (lambda net, images: net((images * 255).round() / 255), "the input is rounded"),
    "straight through": (
        lambda net, images: net(images + ((images * 255).round() / 255 - images).detach()),
        "not the slope",
    ),
    "frozen backbone": (frozen_backbone, "not the slope"),
    "statistics of the batch": (lambda net, images: net((images - images.mean()) / images.std()), "in the batch"),
    "brightest of the batch": (by_the_brightest, "in the batch"),
}


@pytest.fixture
def images() -> Tensor:
    generator = torch.Generator().manual_seed(5)
    grey = torch.rand(12, 1, 12, 12, generator=generator)
    grey = torch.where(torch.rand(12, 1, 12, 12, generator=generator) < 0.3, 0.0, grey)
    return (grey * torch.linspace(0.5, 1, 12).view(-1, 1, 1, 1) * 255).round() / 255


def wrapped(net: nn.Module) -> audit.ModelUnderTest:
    return audit.wrap(net, classes=4, input_shape=(1, 12, 12), device="cpu")


@pytest.mark.parametrize("way", BLIND)
def test_robustness_of_a_net_that_blinds_attacks_is_inconclusive_for_that_reason(way: str, images: Tensor) -> None:
    call, reason = BLIND[way]
    model = wrapped(Through(call))
    labels = model.predictions(images)
    assert any(reason in sentence for sentence in audit.robustness(model, images, labels, THREAT).inconclusive)
    curve = audit.robustness_curve(model, images, labels, "linf", [0.01, 0.05], battery="quick")
    assert any(reason in sentence for sentence in curve.inconclusive)


@pytest.mark.parametrize(
    ("way", "method"),
    [(way, "saliency") for way in ("no_grad", "inference mode", "numpy", "detached", "bytes", "rounded")]
    + [(way, "grad-cam") for way in ("no_grad", "inference mode", "numpy")],
)
def test_a_map_of_gradients_that_are_not_there_is_not_applicable(way: str, method: str, images: Tensor) -> None:
    explained = audit.explain(wrapped(Through(BLIND[way][0])), images[:2], method=method)
    assert explained.status == "not_applicable" and "no gradient" in explained.reason.text


def test_a_map_at_a_layer_without_gradient_says_that_a_part_runs_without_autograd(images: Tensor) -> None:
    explained = audit.explain(wrapped(Through(frozen_backbone)), images[:2], method="grad-cam")
    assert explained.status == "not_applicable" and "runs without autograd" in explained.reason.text
    gradient = audit.explain(wrapped(Through(frozen_backbone)), images[:2], method="integrated-gradients")
    assert any("not the slope" in sentence for sentence in gradient.notes)


def test_explanations_say_that_the_answer_depends_on_the_batch_or_the_call(images: Tensor) -> None:
    by_batch = audit.explain(
        wrapped(Through(BLIND["statistics of the batch"][0])), images[:2], method="rise", samples=20
    )
    assert any("in the batch" in sentence for sentence in by_batch.notes)
    dropping = Through(lambda net, images: net(functional.dropout(images, 0.3)))
    by_call = audit.explain(wrapped(dropping), images[:2], method="rise", samples=20)
    assert [sentence for sentence in by_call.notes if "differently each time" in sentence]
    assert not any("in the batch" in sentence for sentence in by_call.notes)


def test_a_plain_net_is_not_doubted(images: Tensor) -> None:
    model = wrapped(small_cnn())
    assert audit.robustness(model, images, model.predictions(images), THREAT).inconclusive == ()
    assert audit.explain(model, images[:2], method="integrated-gradients").notes == ()


class BatchStatistics(nn.Module):
    def __init__(self, *, spatial: bool) -> None:
        super().__init__()
        self.conv, self.spatial = nn.Conv2d(1, 4, 3), spatial
        self.norm = (nn.BatchNorm2d if spatial else nn.BatchNorm1d)(4, track_running_stats=False)
        self.head = nn.Linear(4, 4)

    def forward(self, images: Tensor) -> Tensor:
        features = self.conv(images).relu()
        pooled = self.norm(features).mean((2, 3)) if self.spatial else self.norm(features.mean((2, 3)))
        return self.head(pooled)


def test_batch_norm_without_statistics_is_named_from_the_start(images: Tensor) -> None:
    model = wrapped(BatchStatistics(spatial=True))
    assert ["norm" in note.text and "other images" in note.text for note in model.notes] == [True]
    found = audit.robustness(model, images, model.predictions(images), THREAT)
    assert any("in the batch" in reason for reason in found.inconclusive)
    assert any("running statistics (norm)" in sentence for sentence in found.notes)


def test_a_net_that_fails_on_a_single_image_says_so_and_names_the_layer(images: Tensor) -> None:
    model = wrapped(BatchStatistics(spatial=False))
    with pytest.raises(ModelError, match=r"fails on a single image: .*\(norm\).*track_running_stats=True"):
        model.logits(images[:1])
    assert bool((batch_difference(model, images) == 1).all())
    with pytest.raises(ModelError, match="norm"):
        audit.explain(model, images[:1], method="saliency")


def test_a_single_image_gets_company_where_the_batch_is_in_question(images: Tensor) -> None:
    model = wrapped(BatchStatistics(spatial=True))
    assert float(batch_difference(model, images[:1])[0]) > 0.01
    assert float(batch_difference(wrapped(small_cnn()), images[:1])[0]) < 1e-5


def test_hardened_and_trained_models_carry_their_doubts(images: Tensor) -> None:
    labels = torch.arange(12) % 4
    hardened = audit.harden(
        wrapped(Through(BLIND["statistics of the batch"][0])), images, labels, THREAT, epochs=1, batch_size=4
    )
    assert any("in the batch" in sentence for sentence in hardened.notes)


def test_the_faces_are_looked_at(images: Tensor) -> None:
    """A clamp whose kink the search was not allowed to see is told by one-sided differences."""
    model = wrapped(Through(lambda net, images: net(functional.hardtanh(images, 0, 1))))
    batch = Batch(images, model.predictions(images), tuple(map(str, range(12))))
    draws = Generators.of(batch.ids, seed=0, purpose="faces", device="cpu")
    assert float(face_error(model, batch, draws).max()) < 0.1
    model.gradient_point = AT_THE_IMAGE
    assert float(face_error(model, batch, draws).min()) > 0.9
    grey = Batch(images.clamp(0.1, 0.9), batch.labels, batch.ids)
    assert float(face_error(model, grey, draws).max()) == 0


@pytest.mark.parametrize("value", [1.0000001, 1.0004, -3e-8, -4e-4])
def test_pixels_outside_by_rounding_are_clipped_with_a_note(value: float, images: Tensor) -> None:
    model = wrapped(small_cnn())
    images[0, 0, 0, 0] = value
    found = audit.robustness(model, images, model.predictions(images.clamp(0, 1)), THREAT)
    assert any("clipped to [0, 1]" in sentence for sentence in found.notes)
    assert float(found.adversarial.min()) >= 0 and float(found.adversarial.max()) <= 1
    explained = audit.explain(model, images[:2], method="saliency")
    assert any("clipped" in sentence for sentence in explained.notes)


@pytest.mark.parametrize("value", [1.01, 255.0, -0.5])
def test_another_range_is_refused_with_its_numbers(value: float, images: Tensor) -> None:
    model = wrapped(small_cnn())
    images[0, 0, 0, 0] = value
    with pytest.raises(DataError, match=r"Images lie in \[.*where \[0, 1\] was expected"):
        audit.robustness(model, images, np.zeros(12, dtype=np.int64), THREAT)


def test_the_users_module_is_left_alone(images: Tensor) -> None:
    net = Through(lambda net, images: net(images.clamp(0, 1)))
    before = copy.deepcopy(net.state_dict())
    model = wrapped(net)
    audit.robustness(model, images, model.predictions(images), THREAT)
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
