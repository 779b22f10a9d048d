"""What every registered attribution promises, driven by the registry."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from audit.core import method_table
from audit.core.cell import Cell
from audit.core.registry import attribution, find, methods
from audit.core.types import Batch, PassCount
from audit.explanation.mask_reuse import MASKS
from audit.explanation.run import AttributionResult, explain_images
from audit.explanation.spec import Attribution, ExplanationSpec
from audit.models.under_test import ModelUnderTest
from audit.planning.plan import Slice, Task
from audit.planning.run_identity import RunIdentity
from audit.topics.explanations.plan import max_passes
from tests.pretended_device import ELSEWHERE as OTHER
from tests.pretended_device import PretendedDevice, on_both

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


def max_passes_of(
    name: str, settings: dict[str, Any], shape: tuple[int, int, int], mask_source: dict[str, Any] | None = None
) -> PassCount | None:
    """What planning expects of a cell with these settings, on one image."""
    context = {} if mask_source is None else {MASKS: mask_source}
    task = Task(Cell("explanation", name, settings=settings), "standard", Slice("test", 0, 1), 0, context)
    return max_passes(task, RunIdentity(("a", "b"), shape, "test", 1, "net"))


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
    assert found.segments is not None and str(found.facts["segments"]).startswith("slic")
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


def test_another_device_gives_the_same_map(name: str, cnn_model: ModelUnderTest, batch: Batch) -> None:
    def maps(device: torch.device) -> Tensor:
        model = ModelUnderTest(cnn_model.net, classes=tuple("abcd"), input_shape=(1, 12, 12), device=device)
        few = Batch(batch.images[:2].to(device), batch.labels[:2].to(device), batch.ids[:2])
        return maps_of(explain(model, few, name))

    here, there = on_both(maps)
    assert torch.allclose(here, there, atol=1e-5 * float(here.abs().max()))


@pytest.mark.parametrize(
    ("method", "setting"),
    [("lime", "samples"), ("rise", "samples"), ("smooth-grad", "samples"), ("expected-gradients", "samples"),
     ("integrated-gradients", "steps")],
)  # fmt: skip
def test_more_masks_or_samples_make_the_host_wait_no_more_often(
    method: str, setting: str, cnn_model: ModelUnderTest, batch: Batch
) -> None:
    """Sixteen batches of them instead of four: what they are is known on the host, and what they give stays there."""
    waits = []
    for count in (16, 64):
        with PretendedDevice() as pretended:
            model = ModelUnderTest(cnn_model.net, classes=tuple("abcd"), input_shape=(1, 12, 12), device=OTHER)
            model.layout.batch_size = 8
            images, targets = batch.images[:2].to(OTHER), batch.labels[:2].to(OTHER)
            pretended.host_reads.clear()
            explain_images(model, images, method=method, ids=batch.ids[:2], targets=targets, **{setting: count})
            waits.append(sum(pretended.host_reads.values()))
    assert waits[1] <= waits[0]


@pytest.mark.parametrize("count", [1, 3])
def test_no_image_costs_more_than_the_method_declares(
    name: str, count: int, cnn_model: ModelUnderTest, batch: Batch
) -> None:
    """With as many background images as images at most, which is what a run gives."""
    method, images = find("attribution", name), batch.images[:count]
    settings = method.settings(QUICK.get(name))
    variants = [settings, *([settings | {"over": "segments"}] if "over" in settings else [])]
    variants += [variant | {"precision": 0.01} for variant in variants if "precision" in variant]
    for variant in variants:
        for references in (None, 1 - images) if method.facts["references"] else (None,):
            cell = {"method": variant, "references": 0 if references is None else count}
            most = max_passes_of(name, cell, cnn_model.input_shape)
            spent = explain_images(cnn_model, images, method=name, references=references, **variant).passes
            assert most is not None
            assert spent.forwards <= count * most.forwards and spent.backwards <= count * most.backwards


@pytest.mark.parametrize("algorithm", ["exact", "kernel", "partition"])
def test_no_algorithm_of_shapley_values_costs_more_than_declared(
    algorithm: str, cnn_model: ModelUnderTest, batch: Batch
) -> None:
    settings = find("attribution", "shap").settings({"algorithm": algorithm, "samples": 100})
    most = max_passes_of("shap", {"method": settings}, cnn_model.input_shape)
    spent = explain_images(cnn_model, batch.images[:1], method="shap", **settings).passes
    assert most is not None and 64 < spent.forwards <= most.forwards


def test_every_quality_has_a_declared_unit(name: str, cnn_model: ModelUnderTest, batch: Batch) -> None:
    method = find("attribution", name)
    asked = {"precision": 0.5} if "precision" in method.defaults else {}
    assert set(explain(cnn_model, batch, name, **asked).quality) == set(method.facts["quality_units"])


def test_of_a_method_that_declares_nothing_the_cost_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    @attribution(reference="none", needs="scores", signed=True)
    def outside(model: ModelUnderTest, images: Tensor, spec: ExplanationSpec, *, samples: int = 9) -> Attribution:
        """Zero."""
        return Attribution(torch.zeros_like(images))

    registered = method_table._METHODS.pop(("attribution", "outside"))
    monkeypatch.setitem(method_table._METHODS, ("attribution", "outside"), registered)
    settings = {"method": registered.settings()}
    assert max_passes_of("outside", settings, (1, 28, 28)) is None
    assert max_passes_of("outside", settings, (1, 28, 28), {"algorithm": "auto"}) == PassCount(0, 0)
    assert max_passes_of("outside", settings, (3, 224, 224), {"algorithm": "auto"}) is None


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
