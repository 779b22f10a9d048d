"""Float32 is float32 where verdicts fall, whatever the caller, the card or torch's defaults say."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import audit.models.precision as precision
from audit.core.seeding import restored_global_rng, seed_global_rng
from audit.models.architecture import ZOO, build
from audit.models.losses import margin
from audit.models.precision import ieee_float32, recurrent_gradients, take_nondeterministic_operations
from audit.models.under_test import ModelUnderTest

BACKENDS = torch.backends
LEAVES = ("cuda.matmul", "cudnn.conv", "cudnn.rnn", "mkldnn.matmul", "mkldnn.conv", "mkldnn.rnn")


def state() -> dict[str, Any]:
    """Everything that says how float32 is computed; "unreadable" where torch's two interfaces disagree."""
    values: dict[str, Any] = {}
    for name in LEAVES:
        part: Any = BACKENDS
        for word in name.split("."):
            part = getattr(part, word)
        values[name] = part.fp32_precision
    readers: dict[str, Callable[[], Any]] = {
        "cudnn.allow_tf32": lambda: BACKENDS.cudnn.allow_tf32,
        "matmul.allow_tf32": lambda: BACKENDS.cuda.matmul.allow_tf32,
        "matmul_precision": torch.get_float32_matmul_precision,
    }
    for name, read in readers.items():
        try:
            values[name] = read()
        except RuntimeError:
            values[name] = "unreadable"
    kernels = (BACKENDS.cudnn.enabled, BACKENDS.cudnn.deterministic, BACKENDS.cudnn.benchmark)
    autocast = tuple(torch.is_autocast_enabled(kind) for kind in ("cpu", "cuda"))
    return values | {"kernels": kernels, "autocast": autocast}


@pytest.fixture(autouse=True)
def torch_as_it_was() -> Iterator[None]:
    before = state()
    yield
    BACKENDS.fp32_precision = "none"
    BACKENDS.cudnn.allow_tf32 = before["cudnn.allow_tf32"]
    torch.set_float32_matmul_precision(before["matmul_precision"])
    for name in LEAVES:
        part: Any = BACKENDS
        for word in name.split("."):
            part = getattr(part, word)
        part.fp32_precision = before[name]
    assert state() == before


def _new_interface() -> None:
    BACKENDS.fp32_precision = "tf32"
    BACKENDS.mkldnn.matmul.fp32_precision = "bf16"


def _both_interfaces() -> None:
    BACKENDS.cudnn.allow_tf32 = True
    BACKENDS.fp32_precision = "ieee"
    assert BACKENDS.cudnn.conv.fp32_precision == "tf32"


CALLERS: dict[str, Callable[[], object]] = {
    "defaults": lambda: None,
    "medium": lambda: torch.set_float32_matmul_precision("medium"),
    "high": lambda: torch.set_float32_matmul_precision("high"),
    "tf32 by the newer interface": _new_interface,
    "ieee by the newer interface": lambda: setattr(BACKENDS, "fp32_precision", "ieee"),
    "ieee above what the older interface has set": _both_interfaces,
    "no tf32 by the older interface": lambda: setattr(BACKENDS.cudnn, "allow_tf32", False),
}


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize("raising", [False, True], ids=["returns", "raises"])
def test_inside_everything_is_ieee_and_afterwards_as_it_was(caller: str, raising: bool) -> None:
    CALLERS[caller]()
    before = state()
    with pytest.raises(KeyError) if raising else nullcontext(), ieee_float32():
        with ieee_float32():  # a block inside another ends nothing
            pass
        assert {state()[name] for name in LEAVES} == {"ieee"}
        if raising:
            raise KeyError
    assert state() == before


@pytest.mark.parametrize("name", ZOO)
@pytest.mark.parametrize("caller", CALLERS)
def test_a_forward_sees_ieee_flags(name: str, caller: str) -> None:
    shape = (1, *[{"cnn-150": 150}.get(name, 32)] * 2)
    module = build(name, classes=3, input_shape=shape, seed=0)
    model = ModelUnderTest(module, classes=("a", "b", "c"), input_shape=shape, device="cpu")
    seen: list[dict[str, Any]] = []
    model.net.register_forward_hook(lambda *_: seen.append(state()))
    CALLERS[caller]()
    images, goal = torch.rand(2, *shape), torch.tensor([[True, False, False]] * 2)
    with torch.autocast("cpu", torch.bfloat16):
        model.logits(images)
        model.loss_gradient(images, goal, margin)
    assert len(seen) >= 2
    for inside in seen:
        assert {inside[leaf] for leaf in LEAVES} == {"ieee"}
        assert inside["autocast"] == (False, False)


def _autocast() -> AbstractContextManager[object]:
    return torch.autocast("cpu", torch.bfloat16)


@contextmanager
def _medium() -> Iterator[None]:
    torch.set_float32_matmul_precision("medium")
    yield
    torch.set_float32_matmul_precision("highest")


@pytest.mark.parametrize("setting", [_autocast, _medium], ids=["autocast", "medium"])
def test_answers_inside_a_callers_setting_equal_those_outside_to_the_bit(
    setting: Callable[[], AbstractContextManager[object]],
) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 64, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64 * 36, 128), nn.Linear(128, 3))
    model = ModelUnderTest(module, classes=("a", "b", "c"), input_shape=(3, 8, 8), device="cpu")
    images, goal = torch.rand(40, 3, 8, 8), torch.tensor([[True, False, False]] * 40)
    logits, gradient = model.logits(images), model.loss_gradient(images, goal, margin).gradient
    with setting():
        rounded = module(images).float()
        inside, inside_gradient = model.logits(images), model.loss_gradient(images, goal, margin).gradient
    if setting is _autocast:
        assert not torch.equal(rounded, logits)  # else the test sees nothing
    assert torch.equal(inside, logits)
    assert torch.equal(inside_gradient, gradient)


def test_on_an_accelerator_deterministic_kernels_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "accelerator_present", lambda: True)
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    before = (torch.are_deterministic_algorithms_enabled(), BACKENDS.cudnn.deterministic, BACKENDS.cudnn.benchmark)
    pooled, where = torch.nn.functional.max_pool2d(torch.rand(1, 1, 4, 4), 2, return_indices=True)
    with warnings.catch_warnings(record=True, action="always") as said, ieee_float32():
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.is_deterministic_algorithms_warn_only_enabled()
        assert BACKENDS.cudnn.deterministic and not BACKENDS.cudnn.benchmark
        assert precision.os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
        assert torch.equal(torch.empty(0), torch.empty(0)) and not precision._filling.fill_uninitialized_memory
        torch.nn.functional.max_unpool2d(pooled, where, 2)
        warnings.warn("another matter", stacklevel=1)
    assert [str(warning.message) for warning in said] == ["another matter"]
    assert take_nondeterministic_operations() == ("max_unpooling2d_forward_out",)
    assert take_nondeterministic_operations() == ()
    after = (torch.are_deterministic_algorithms_enabled(), BACKENDS.cudnn.deterministic, BACKENDS.cudnn.benchmark)
    assert after == before


class Reads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru, self.seen = nn.GRU(8, 4, batch_first=True), []

    def forward(self, images: Tensor) -> Tensor:
        self.seen.append((BACKENDS.cudnn.enabled, BACKENDS.cudnn.allow_tf32, BACKENDS.cudnn.deterministic))
        return self.gru(images[:, 0])[0][:, -1]


def test_recurrent_layers_in_eval_mode_run_without_cudnn_and_no_other_flag_moves() -> None:
    module = Reads()
    model = ModelUnderTest(module, classes=tuple("abcd"), input_shape=(1, 8, 8), device="cpu")
    with ieee_float32():
        others = (BACKENDS.cudnn.allow_tf32, BACKENDS.cudnn.deterministic)
        model.logits(torch.rand(2, 1, 8, 8))
        assert model.net.seen[-1] == (False, *others)
    with recurrent_gradients(module.train()):
        assert BACKENDS.cudnn.enabled
    assert BACKENDS.cudnn.enabled


def test_a_card_is_seeded_by_its_index_and_not_the_current_one(monkeypatch: pytest.MonkeyPatch) -> None:
    current, seeded = [0], []

    @contextmanager
    def device(which: torch.device) -> Iterator[None]:
        current.append(which.index)
        yield
        current.pop()

    monkeypatch.setattr(torch.cuda, "device", device)
    monkeypatch.setattr(torch.cuda, "manual_seed", lambda seed: seeded.append((current[-1], seed)))
    with restored_global_rng(torch.device("cpu")):
        seed_global_rng(torch.device("cuda:1"), 7)
    assert seeded == [(1, 7)]


CUDA = {name for name in LEAVES if not name.startswith("mkldnn")}


@pytest.mark.parametrize("caller", CALLERS)
def test_a_search_may_round_products_on_a_card_and_what_judges_inside_it_does_not(caller: str) -> None:
    shape = (1, 12, 12)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(400, 3))
    model = ModelUnderTest(net, classes=tuple("abc"), input_shape=shape, device="cpu")
    seen: list[dict[str, Any]] = []
    model.module.arithmetic = "tf32"
    assert model.gradient_point is not None  # looked for once, on forwards of its own
    model.net.register_forward_hook(lambda *_: seen.append(state()))
    CALLERS[caller]()
    before, images = state(), torch.rand(2, *shape)
    with ieee_float32():  # as around a whole search
        model.loss_gradient(images, torch.tensor([[True, False, False]] * 2), margin)
        model.module.arithmetic = "float32"
        model.logits(images)
        assert {state()[name] for name in LEAVES} == {"ieee"}
    assert state() == before
    searched, judged = seen
    assert {name for name in LEAVES if searched[name] == "tf32"} == CUDA
    assert {searched[name] for name in LEAVES} - {"tf32"} == {"ieee"}
    assert {judged[name] for name in LEAVES} == {"ieee"}


def test_where_gradients_are_taken_is_looked_for_in_float32_whoever_asks_first() -> None:
    model = ModelUnderTest(
        nn.Sequential(nn.Flatten(), nn.Linear(144, 3)), classes=tuple("abc"), input_shape=(1, 12, 12)
    )
    types: set[torch.dtype] = set()
    model.net.register_forward_hook(lambda net, inputs, output: types.add(output.dtype))
    model.module.arithmetic = "bfloat16"
    assert model.gradient_point is not None
    assert types == {torch.float32} and model.module.arithmetic == "bfloat16"


def test_bfloat16_is_the_nets_alone_and_logits_are_float32() -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(400, 3))
    model = ModelUnderTest(net, classes=tuple("abc"), input_shape=(1, 12, 12), device="cpu")
    types: list[torch.dtype] = []
    model.net.register_forward_hook(lambda net, inputs, output: types.append(output.dtype))
    images = torch.rand(5, 1, 12, 12)
    plain = model.logits(images)
    model.module.arithmetic = "bfloat16"
    lower = model.logits(images)
    assert types == [torch.float32, torch.bfloat16] and lower.dtype == torch.float32
    assert 0 < float((lower - plain).abs().max()) < 0.02
