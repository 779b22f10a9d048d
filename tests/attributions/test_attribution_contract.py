"""What every registered attribution promises, driven by the registry."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from audit.core.registry import find, methods
from audit.core.types import Batch
from audit.explanation.run import AttributionResult, explain_images
from audit.models.under_test import ModelUnderTest

NAMES = [method.name for method in methods("attribution")]
BY_SEGMENT = [
    (method.name, {"over": "segments"} if "over" in method.defaults else {})
    for method in methods("attribution")
    if method.facts["segment_based"] or "over" in method.defaults
]
QUICK: dict[str, dict[str, Any]] = {"lime": {"samples": 50}, "rise": {"samples": 60}}
"""Settings that keep the tests short; every other method runs on its defaults."""
ELSEWHERE = {"attention-rollout"}
"""Methods that need a model of their own; tested beside it."""


def explain(model: ModelUnderTest, batch: Batch, name: str, **options: Any) -> AttributionResult:
    return explain_images(
        model, batch.images, method=name, ids=batch.ids, **QUICK.get(name, {}), **{"targets": batch.labels, **options}
    )


def maps_of(found: AttributionResult) -> Tensor:
    assert found.status == "measured", found.reason
    assert found.attributions is not None
    return found.attributions


@pytest.fixture(params=[name for name in NAMES if name not in ELSEWHERE])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def batch(cnn_batch: Batch) -> Batch:
    return cnn_batch.select(torch.arange(4))


def test_map_is_float32_finite_and_not_empty(name: str, cnn_model: ModelUnderTest, batch: Batch) -> None:
    found = explain(cnn_model, batch, name)
    maps = maps_of(found)
    assert maps.dtype == torch.float32
    assert maps.shape[0] == 4 and maps.shape[1] in (1, batch.images.shape[1])
    assert maps.shape[2:] == batch.images.shape[2:]
    assert bool(maps.isfinite().all()) and bool(maps.any())
    assert all(len(values) == 4 and bool(values.isfinite().all()) for values in found.quality.values())
    assert bool((maps >= 0).all()) or find("attribution", name).facts["signed"]
    assert found.passes.forwards > 0


@pytest.mark.parametrize(("segment_method", "settings"), BY_SEGMENT)
def test_segment_methods_give_every_pixel_its_segments_value(
    segment_method: str, settings: dict[str, Any], cnn_model: ModelUnderTest, batch: Batch
) -> None:
    found = explain(cnn_model, batch, segment_method, **settings)
    assert found.segments is not None and found.facts["segments"].startswith("slic")
    turned = explain(cnn_model, batch.select(torch.tensor([2, 0, 3, 1])), segment_method, **settings)
    assert torch.allclose(maps_of(turned)[torch.tensor([1, 3, 0, 2])], maps_of(found), atol=1e-5)
    for values, segments in zip(maps_of(found), found.segments, strict=True):
        assert int(segments.max()) >= 4
        for number in segments.unique():
            assert len(values[0][segments == number].unique()) == 1


def test_same_seed_same_bytes(name: str, cnn_model: ModelUnderTest, batch: Batch) -> None:
    assert torch.equal(maps_of(explain(cnn_model, batch, name)), maps_of(explain(cnn_model, batch, name)))


def test_batch_size_and_order_do_not_matter(name: str, cnn_model: ModelUnderTest, batch: Batch) -> None:
    whole = maps_of(explain(cnn_model, batch, name))
    cnn_model.layout.batch_size = 3
    turned = batch.select(torch.tensor([2, 0, 3, 1]))
    again = maps_of(explain(cnn_model, turned, name))[torch.tensor([1, 3, 0, 2])]
    assert torch.allclose(whole, again, atol=1e-5 * float(whole.abs().max()))
    alone = maps_of(explain(cnn_model, batch.select(torch.tensor([1])), name))
    assert torch.allclose(whole[1:2], alone, atol=1e-5 * float(whole.abs().max()))


def test_global_random_state_is_untouched(name: str, cnn_model: ModelUnderTest, batch: Batch) -> None:
    import numpy as np

    torch.manual_seed(3)
    np.random.seed(3)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[index, union-attr]
    explain(cnn_model, batch, name)
    after = torch.get_rng_state(), np.random.get_state()[1]  # type: ignore[index]
    assert torch.equal(before[0], after[0])
    assert (before[1] == after[1]).all()


def test_runs_where_the_default_device_is_another(name: str, cnn_model: ModelUnderTest, batch: Batch) -> None:
    expected = maps_of(explain(cnn_model, batch, name))
    with torch.device("meta"):
        found = maps_of(explain(cnn_model, batch, name))
    assert found.device.type == "cpu"
    assert torch.equal(found, expected)


def snapshot(module: nn.Module) -> list[Any]:
    """Everything a method might leave behind, comparable with ==."""
    seen: list[Any] = []
    for path, layer in module.named_modules():
        tables = {key: len(value) for key, value in vars(layer).items() if "hooks" in key and hasattr(value, "__len__")}
        seen.append((path, type(layer), layer.training, sorted(vars(layer)), tables))
    for path, tensor in [*module.named_parameters(), *module.named_buffers()]:
        seen.append((path, tensor.requires_grad, tensor.grad is None, tensor.detach().clone().numpy().tobytes()))
    return seen


@pytest.mark.parametrize("fails", [False, True])
def test_model_is_left_as_found(
    name: str, fails: bool, cnn_model: ModelUnderTest, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = copy.deepcopy(cnn_model.net).train()
    model = ModelUnderTest(module, classes="abcd", input_shape=(1, 12, 12), device="cpu")
    users, ours = snapshot(module), snapshot(model.module)
    if fails:
        monkeypatch.setattr(nn.Linear, "forward", planted)
        with pytest.raises(ValueError, match="planted"):
            explain(model, batch, name)
    else:
        explain(model, batch, name)
    assert snapshot(module) == users
    assert snapshot(model.module) == ours


def planted(layer: nn.Linear, features: Tensor) -> Tensor:
    """Fails deep in the forward, where hooks are already set and a traced copy runs too."""
    raise ValueError("planted")
