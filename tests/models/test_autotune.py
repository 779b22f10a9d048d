"""The probe: remembered by machine and structure, free of charge, and never in the way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from audit.models import autotune as probe
from audit.models.autotune import tune_execution
from audit.models.batching import ExecutionLayout
from audit.models.under_test import ModelUnderTest
from tests.pretended_device import ELSEWHERE, PretendedDevice


def cnn(seed: int = 7) -> ModelUnderTest:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(800, 4))
    return ModelUnderTest(net, classes=tuple("abcd"), input_shape=(1, 12, 12), device="cpu")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AUDIT_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    return tmp_path / "cache"


def pretend(monkeypatch: pytest.MonkeyPatch, costs: dict[tuple[bool, int], float]) -> list[tuple[bool, int]]:
    """Replace the stop-watch: seconds an example by (channels_last, batch size)."""
    asked: list[tuple[bool, int]] = []

    def cost(model: ModelUnderTest, layout: ExecutionLayout, deadline: float) -> float:
        asked.append((layout.channels_last, layout.batch_size))
        return costs.get(asked[-1], 1e-5)

    monkeypatch.setattr(probe, "_cost", cost)
    return asked


def test_probe_passes_are_not_counted() -> None:
    model = cnn()
    tune_execution(model, seconds=0.2)
    assert (model.passes.forwards, model.passes.backwards) == (0, 0)


@pytest.mark.parametrize(
    ("threads", "device", "size"), [(1, "cpu", 64), (2, "cpu", 128), (16, "cpu", 128), (1, "cuda", 128)]
)
def test_a_cpu_begins_with_64_images_a_thread(
    monkeypatch: pytest.MonkeyPatch, threads: int, device: str, size: int
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert ExecutionLayout.default(torch.device(device)) == ExecutionLayout(True, size)


def test_another_layout_must_be_a_quarter_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, {(True, 128): 1e-5, (True, 32): 0.85e-5, (True, 512): 1e-5})
    assert tune_execution(cnn()) == ExecutionLayout(True, 128)


def test_a_clearly_faster_layout_is_taken_and_applied(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, {(True, 128): 1e-5, (True, 32): 0.7e-5, (False, 128): 0.5e-5})
    model = cnn()
    assert tune_execution(model) == ExecutionLayout(False, 128) == model.layout


def test_the_choice_is_remembered_for_the_structure_and_not_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, {(True, 32): 0.2e-5})
    tune_execution(cnn())
    asked = pretend(monkeypatch, {(True, 512): 0.1e-5})
    assert tune_execution(cnn(seed=9)) == ExecutionLayout(True, 32)
    assert asked == []


def test_a_slow_model_gets_a_smaller_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, {(True, 8): 0.05})
    assert tune_execution(cnn(), seconds=1.0).batch_size == 16


def test_a_cache_that_cannot_be_written_or_read_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("AUDIT_CACHE_DIR", str(tmp_path / "file"))
    assert tune_execution(cnn(), seconds=0.1).batch_size >= 1


def test_a_damaged_memory_is_probed_again(cache: Path) -> None:
    tune_execution(cnn(), seconds=0.1)
    (file,) = (cache / "layouts").glob("*.json")
    file.write_text('{"channels_last": "yes"')
    assert tune_execution(cnn(), seconds=0.1).batch_size >= 1


def test_the_weights_keep_their_values() -> None:
    model = cnn()
    before = model.fingerprint()
    tune_execution(model, seconds=0.2)
    assert model.fingerprint() == before


def test_a_card_tries_the_batches_that_its_free_memory_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """64 images take 64 MB beside the weights, so 0.6 of 5 GB holds 3,000: 2,048 is the largest power of two."""
    model = cnn()
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (5 * 10**9, 8 * 10**9))
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: None)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 10**9)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 10**9 + 64 * 10**6)
    asked = pretend(monkeypatch, {})
    assert probe._batches_on_a_card(model) == (512, 1024, 2048)
    assert asked == [(True, 64)]


def test_a_cold_start_of_an_accelerator_does_not_count(
    cnn_model: ModelUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first pass there takes as long as the whole probe; the batch is that of later ones."""
    clock, passes = [0.0], [0]
    with PretendedDevice():
        model = ModelUnderTest(cnn_model.net, classes=tuple("abcd"), input_shape=(1, 12, 12), device=ELSEWHERE)
        _ = model.gradient_point
        ask = model.loss_gradient

        def cold(*args: Any, **kwargs: Any) -> Any:
            passes[0] += 1
            clock[0] += 10.0 if passes[0] == 1 else 1e-4
            return ask(*args, **kwargs)

        monkeypatch.setattr(model, "loss_gradient", cold)
        monkeypatch.setattr(probe.time, "monotonic", lambda: clock[0])
        assert probe._affordable(model, 1.5).batch_size == 128


def test_an_accelerator_tries_the_format_first_and_batches_in_the_better_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a CPU tries stays as it was: its batches, then the format at the batch it begins with."""
    model = cnn()
    asked = pretend(monkeypatch, {(False, 128): 0.5e-5, (False, 512): 0.3e-5})
    probe._compare(model, ExecutionLayout(True, 128), float("inf"))
    assert asked == [(True, 128), (True, 32), (True, 512), (False, 128)]
    asked.clear()
    model.device = torch.device("mps")
    assert probe._compare(model, ExecutionLayout(True, 128), float("inf")) == ExecutionLayout(False, 512)
    assert asked == [(True, 128), (False, 128), (False, 512), (False, 1024)]
