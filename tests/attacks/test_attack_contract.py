"""What every registered attack promises. Registering one enrols it here."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from attack_settings import EVERY, ONE_NORM, QUICKER
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from audit.adversarial.verify import verify
from audit.attacks.fgsm import fgsm
from audit.core.errors import NotApplicable
from audit.core.registry import Method
from audit.core.seeding import Generators
from audit.core.threat import ThreatModel
from audit.core.types import Batch, Images
from audit.models.under_test import ModelUnderTest
from tests.pretended_device import on_both

EPS = {"linf": 0.08, "l2": 0.8, "l1": 4.0, "l0": 8}


def run(method: Method, norm: str, model: ModelUnderTest, batch: Batch, seed: int = 0) -> Images:
    draws = Generators.of(batch.ids, seed=seed, purpose="contract", device="cpu")
    settings = method.settings(QUICKER.get(method.name))
    try:
        return method.function(model, batch, ThreatModel(norm, EPS[norm]), draws, **settings)
    except NotApplicable as reason:
        pytest.skip(str(reason))


@pytest.fixture
def batch(cnn_batch: Batch) -> Batch:
    return cnn_batch


@pytest.mark.parametrize(("method", "norm"), EVERY)
def test_proposals_lie_in_the_ball_and_in_the_box(
    method: Method, norm: str, cnn_model: ModelUnderTest, batch: Batch
) -> None:
    proposals = run(method, norm, cnn_model, batch)
    assert proposals.shape == batch.images.shape and proposals.dtype == torch.float32
    assert not verify(cnn_model, batch, proposals, ThreatModel(norm, EPS[norm])).faults.any()


@pytest.mark.parametrize(("method", "norm"), EVERY)
def test_the_same_seed_gives_the_same_bytes(method: Method, norm: str, cnn_model: ModelUnderTest, batch: Batch) -> None:
    torch.manual_seed(1)
    first = run(method, norm, cnn_model, batch)
    torch.manual_seed(2)
    assert torch.equal(first, run(method, norm, cnn_model, batch))


@pytest.mark.parametrize(("method", "norm"), ONE_NORM)
def test_batch_size_and_order_change_nothing_but_rounding(
    method: Method, norm: str, cnn_model: ModelUnderTest, batch: Batch
) -> None:
    """A sign of a rounded zero may flip a few pixels of a few images; a draw that moved would change them all."""
    together = run(method, norm, cnn_model, batch)
    backwards = torch.arange(len(batch) - 1, -1, -1)
    cnn_model.layout.batch_size = 3
    apart = run(method, norm, cnn_model, batch.select(backwards))[backwards]
    assert ((together - apart).abs() < 1e-3).float().mean() > 0.98


@pytest.mark.parametrize(("method", "norm"), ONE_NORM)
def test_the_users_module_and_the_models_copy_are_left_as_found(method: Method, norm: str, batch: Batch) -> None:
    module = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.ReLU(), nn.Flatten(), nn.Linear(400, 4)
    ).train()
    before = describe(module)
    model = ModelUnderTest(module, classes=tuple("abcd"), input_shape=(1, 12, 12), device="cpu")
    inside = describe(model.net)
    run(method, norm, model, batch)
    assert describe(module) == before
    assert describe(model.net) == inside


@pytest.mark.parametrize(("method", "norm"), ONE_NORM)
def test_the_model_is_left_as_found_after_an_exception(
    method: Method, norm: str, cnn_model: ModelUnderTest, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = describe(cnn_model.net)
    calls = [0]
    forward = cnn_model.net.forward

    def failing(images: Tensor) -> Tensor:
        calls[0] += 1
        if calls[0] > 1:
            raise KeyError("the model fails")
        return forward(images)

    with monkeypatch.context() as patch:
        patch.setattr(cnn_model.net, "forward", failing)
        cnn_model.layout.batch_size = 4
        with pytest.raises(KeyError, match="the model fails"):
            run(method, norm, cnn_model, batch)
    assert describe(cnn_model.net) == before


@pytest.mark.parametrize(("method", "norm"), ONE_NORM)
def test_every_tensor_names_its_device(method: Method, norm: str, cnn_model: ModelUnderTest, batch: Batch) -> None:
    """On the meta device a tensor made without naming a device has no numbers, and the run fails."""
    expected = run(method, norm, cnn_model, batch)
    with torch.device("meta"):
        proposals = run(method, norm, cnn_model, batch)
    assert torch.equal(proposals, expected)


@pytest.mark.parametrize(("method", "norm"), ONE_NORM)
def test_another_device_gives_the_same_proposals(
    method: Method, norm: str, cnn_model: ModelUnderTest, batch: Batch
) -> None:
    """A sign of a rounded zero may flip a few pixels."""
    few = batch.select(torch.arange(4))

    def attack(device: torch.device) -> Images:
        model = ModelUnderTest(cnn_model.net, classes=tuple("abcd"), input_shape=(1, 12, 12), device=device)
        there = Batch(few.images.to(device), few.labels.to(device), few.ids)
        draws = Generators.of(few.ids, seed=0, purpose="contract", device=device)
        settings = method.settings(QUICKER.get(method.name))
        return method.function(model, there, ThreatModel(norm, EPS[norm]), draws, **settings)

    here, there = on_both(attack)
    assert ((here - there).abs() < 1e-3).float().mean() > 0.98


@pytest.mark.parametrize(("method", "norm"), ONE_NORM)
def test_the_host_waits_a_bounded_number_of_times_a_forward(
    method: Method, norm: str, cnn_model: ModelUnderTest, batch: Batch
) -> None:
    """Eight waits a forward pass of a batch is a bound no attack needs; a wait an example would break it."""
    if method.wraps:
        pytest.skip(f"{method.wraps} waits where it likes")
    many = repeated(batch, 12)
    with cnn_model.count() as spent, CountedWaits() as waits:
        run(method, norm, cnn_model, many)
    assert waits.count <= 8 * (spent.passes.forwards / len(many) + 4)


@pytest.mark.parametrize(("method", "norm"), ONE_NORM)
def test_a_targeted_attack_reaches_targets_that_an_untargeted_one_does_not_name(
    method: Method, norm: str, cnn_model: ModelUnderTest, batch: Batch
) -> None:
    """With eps that reaches everywhere, proposals of attacks with gradients land on the named class."""
    if method.facts["needs"] != "gradients":
        pytest.skip("only gradient attacks are expected to reach a named class in few steps")
    target = (batch.labels + 1) % 4
    goal = torch.zeros(len(batch), 4, dtype=torch.bool).scatter_(1, target[:, None], True)
    named = Batch(batch.images, batch.labels, batch.ids, goal)
    draws = Generators.of(batch.ids, seed=0, purpose="contract", device="cpu")
    threat = ThreatModel(norm, {"linf": 0.5, "l2": 6.0, "l1": 70.0, "l0": 144}[norm])
    try:
        proposals = method.function(cnn_model, named, threat, draws, **method.settings(QUICKER.get(method.name)))
    except NotApplicable as reason:
        pytest.skip(str(reason))
    reached = verify(cnn_model, named, proposals, threat).broken
    assert reached.sum() >= (2 if method.function is fgsm else 8)


@pytest.mark.parametrize(("method", "norm"), ONE_NORM)
def test_an_empty_batch_gives_an_empty_answer(
    method: Method, norm: str, cnn_model: ModelUnderTest, batch: Batch
) -> None:
    empty = batch.select(torch.zeros(0, dtype=torch.int64))
    assert run(method, norm, cnn_model, empty).shape == (0, 1, 12, 12)


def repeated(batch: Batch, times: int) -> Batch:
    ids = tuple(f"{name}/{i}" for i in range(times) for name in batch.ids)
    return Batch(batch.images.repeat(times, 1, 1, 1), batch.labels.repeat(times), ids)


def describe(module: nn.Module) -> list[Any]:
    """Everything of a module that an attack could change."""
    parts: list[Any] = [
        (name, part.training, len(part._forward_hooks), len(part._backward_hooks))
        for name, part in module.named_modules()
    ]
    parts += [
        (name, p.requires_grad, p.grad is None, p.detach().numpy().tobytes()) for name, p in module.named_parameters()
    ]
    return parts + [(name, buffer.numpy().tobytes()) for name, buffer in module.named_buffers()]


class CountedWaits(TorchDispatchMode):
    """Counts operations for which the host must wait for the device."""

    WAITS = ("aten._local_scalar_dense", "aten.nonzero", "aten.is_nonzero")

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = str(func)
        masks = name.startswith("aten.index.") and any(
            isinstance(index, Tensor) and index.dtype == torch.bool for index in args[1] if index is not None
        )
        self.count += masks or name.startswith(self.WAITS)
        return func(*args, **(kwargs or {}))
