"""What only a real card can show: `AUDIT_CACHE_DIR=$(mktemp -d) pytest -m gpu tests/gpu -n 0 -s`, under five minutes.

It prints a table for `samples/benchmarks.md`. Without an NVIDIA card everything here is skipped. `AUDIT_CARD=cpu` in
front rehearses the whole of it on the processor: every line runs, with a stand-in where a card would be asked (memory
that runs out, a clock that waits for kernels, CUDA graphs), and what only a card can show is not asserted.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TypeVar

import pytest
import torch
from torch import Tensor, nn

import audit
from audit.config import TrainingConfig, load_config
from audit.core.ascent import projected_step
from audit.core.registry import find
from audit.core.seeding import Generators
from audit.core.threat import Norm, ThreatModel
from audit.core.types import Batch
from audit.models.architecture import build
from audit.models.autotune import tune_execution
from audit.models.cuda_graphs import CudaGraphs, can_record, refused_waits
from audit.models.losses import margin
from audit.models.normalised_model import NormalisedModel
from audit.models.precision import SearchPrecision, device_facts, ieee_float32
from audit.models.under_test import ModelUnderTest
from audit.runs.pipeline import run_audit
from audit.training.fit import fit
from tests.graphs_on_tape import Tape

CARD = torch.device(os.environ.get("AUDIT_CARD", "cuda:0"))
MISSING = CARD.type == "cuda" and not torch.cuda.is_available()
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(MISSING, reason="no CUDA device")]
ON_CARD = CARD.type == "cuda"
_T = TypeVar("_T")
LINF = ThreatModel("linf", 4 / 255)
SHAPE = (3, 32, 32)
NAMES = tuple(f"class {number}" for number in range(10))
QUICK = {
    "robustness": {"examples": 60 if ON_CARD else 8},
    "corruptions": {"examples": 60 if ON_CARD else 8},
    "explanations": {"examples": 4 if ON_CARD else 1},
    "data": {"train_examples": 2000 if ON_CARD else 160},
    "training": {"epochs": 1},
    "hardening": {"enabled": False},
}


@pytest.fixture(scope="module", autouse=True)
def table() -> Iterator[list[str]]:
    """Rows that are printed in the end."""
    rows = ["", "| on | measured | value |", "|---|---|---|"]
    yield rows
    print("\n".join(rows))


def note_row(table: list[str], what: str, value: str) -> None:
    table.append(f"| {device_facts(CARD).get('card', 'rehearsal')} | {what} | {value} |")


def images(count: int) -> Tensor:
    return torch.rand(count, *SHAPE, generator=torch.Generator("cpu").manual_seed(0))


def digits(count: int) -> Batch:
    pixels = torch.rand(count, 1, 28, 28, generator=torch.Generator("cpu").manual_seed(1))
    return Batch(pixels, torch.arange(count) % 4, tuple(map(str, range(count))))


def model_on(device: torch.device | str) -> ModelUnderTest:
    net = build("resnet-18-small", classes=10, input_shape=SHAPE, seed=0)
    return ModelUnderTest(net, classes=NAMES, input_shape=SHAPE, device=device)


def batch_for(model: ModelUnderTest, count: int) -> Batch:
    pixels = images(count).to(model.device)
    return Batch(pixels, model.predictions(pixels), tuple(map(str, range(count))))


def attack(name: str, model: ModelUnderTest, batch: Batch, threat: ThreatModel = LINF, **settings: object) -> Tensor:
    draws = Generators.of(batch.ids, seed=0, purpose="gpu", device=model.device)
    method = find("attack", name)
    return method.function(model, batch, threat, draws, **method.settings(settings))


def synchronize() -> None:
    if ON_CARD:
        torch.cuda.synchronize(CARD)


def with_peak(compute: Callable[[], _T]) -> tuple[_T, float]:
    """What is computed, and the most bytes that were taken meanwhile; 0 in a rehearsal."""
    if not ON_CARD:
        return compute(), 0.0
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(CARD)
    return compute(), float(torch.cuda.max_memory_reserved(CARD))


@contextmanager
def memory_of(size: float, *, most: int) -> Iterator[None]:
    """A card of so many bytes; in a rehearsal nets that hold no more than `most` images."""
    if ON_CARD:
        torch.cuda.empty_cache()
        torch.cuda.set_per_process_memory_fraction(size / torch.cuda.get_device_properties(CARD).total_memory, CARD)
        try:
            yield
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0, CARD)
        return
    forward = NormalisedModel.forward

    def tight(self: NormalisedModel, pixels: Tensor) -> Tensor:
        if len(pixels) > most:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return forward(self, pixels)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(NormalisedModel, "forward", tight)
        yield


@pytest.fixture
def recordings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """One entry for each recording of a step that is made; in a rehearsal they are made on a tape."""
    if not ON_CARD:
        Tape.install(monkeypatch)
    elif not can_record(CARD):
        pytest.skip("this torch does not record safely")
    made: list[str] = []
    graphs = CudaGraphs if ON_CARD else Tape
    record = graphs.record

    def counted(self: CudaGraphs | Tape, run: Callable[[], object]) -> Callable[[], None]:
        replay = record(self, run)  # type: ignore[arg-type]
        made.append("recorded")
        return replay

    monkeypatch.setattr(graphs, "record", counted)
    return made


@contextmanager
def no_waits() -> Iterator[None]:
    """Within it a wait for the card raises."""
    with refused_waits() if ON_CARD else nullcontext():
        yield


def test_logits_are_float32_and_without_the_pin_they_are_not(table: list[str]) -> None:
    net = build("resnet-18-small", classes=10, input_shape=SHAPE, seed=0).eval()
    pixels = images(64 if ON_CARD else 4)
    exact = net.double()(pixels.double()).detach()
    spread = float(exact.std())
    model = model_on(CARD)
    pinned = float((model.logits(pixels).cpu().double() - exact).abs().max()) / spread
    torch.backends.cudnn.allow_tf32 = True  # torch's default
    with torch.no_grad():
        loose = float((net.float().to(CARD)(pixels.to(CARD)).cpu().double() - exact).abs().max()) / spread
    note_row(table, "largest error of a logit, of their spread, pinned", f"{pinned:.1e}")
    note_row(table, "the same with TF32", f"{loose:.1e}")
    assert pinned < 1e-5
    if ON_CARD and torch.cuda.get_device_capability(CARD) >= (8, 0):
        assert loose > 1e-4  # else this test sees nothing


def test_the_same_run_gives_the_same_bytes_and_a_resumed_one_too(tmp_path: Path, table: list[str]) -> None:
    config = load_config(overrides={**QUICK, "device": str(CARD)})
    started = time.monotonic()
    first = run_audit(config, tmp_path / "first").folder.document.read_bytes()
    note_row(table, "quick audit of the sample, seconds", f"{time.monotonic() - started:.1f}")
    assert run_audit(config, tmp_path / "second").folder.document.read_bytes() == first
    asked = [0]

    def stop() -> bool:
        asked[0] += 1
        return asked[0] > 20

    with suppress(audit.core.errors.Interrupted):  # raised where there is nothing to report yet
        run_audit(config, tmp_path / "third", should_stop=stop)
    assert asked[0] > 20
    assert run_audit(config, tmp_path / "third").folder.document.read_bytes() == first


def test_verdicts_are_those_of_the_processor_but_on_the_boundary() -> None:
    here, there = model_on("cpu"), model_on(CARD)
    batch = batch_for(here, 200 if ON_CARD else 20)
    proposals = attack("pgd", here, batch, steps=5)
    margins = [margin(model.logits(proposals), batch.target_mask(10).to(model.device)).cpu() for model in (here, there)]
    sure = margins[0].abs() > 1e-4
    assert torch.equal(margins[0][sure] > 0, margins[1][sure] > 0)


def test_little_memory_halves_the_batch_and_keeps_the_answer(table: list[str]) -> None:
    model, count = model_on(CARD), 4096 if ON_CARD else 128
    model.layout.batch_size = count
    expected, peak = with_peak(lambda: model.logits(images(count)).cpu())
    with memory_of(0.6 * peak, most=50):
        found = model.logits(images(count)).cpu()
    note_row(table, f"batch after {count} images in 60% of their memory", str(model.layout.batch_size))
    assert model.layout.batch_size < count
    assert torch.allclose(found, expected, atol=1e-4)


def test_a_training_in_little_memory_gives_the_same_weights(table: list[str]) -> None:
    count = 512 if ON_CARD else 32
    data = Batch(images(count), torch.arange(count) % 4, tuple(map(str, range(count))))
    settings = TrainingConfig(recipe="pgd", recipe_settings={"steps": 1}, epochs=1, batch_size=count // 2)

    def weights() -> list[Tensor]:
        net = build("resnet-18-small", classes=4, input_shape=SHAPE, seed=0)
        fit(net, data, settings, classes=4, threat=ThreatModel("linf", 4 / 255), device=CARD)
        return [value.cpu() for value in net.state_dict().values()]

    expected, peak = with_peak(weights)
    with memory_of(0.6 * peak, most=50):
        found, least = with_peak(weights)
    note_row(
        table, "training in 60% of its memory: peak MiB before and then", f"{peak / 2**20:,.0f}, {least / 2**20:,.0f}"
    )
    assert all(torch.equal(first, second) for first, second in zip(found, expected, strict=True))


def test_memory_does_not_grow_with_the_images_of_a_caller(table: list[str]) -> None:
    model = model_on(CARD)
    model.layout.batch_size = 256
    counts = (1000, 10_000) if ON_CARD else (4, 8)

    def attacked(count: int) -> float:
        labels = model.predictions(images(count)).cpu()
        threat = ThreatModel("linf", 4 / 255)
        return with_peak(lambda: audit.robustness(model, images(count), labels, threat, attacks=["fgsm"]))[1]

    few, many = map(attacked, counts)
    note_row(table, "peak MiB of FGSM on 1,000 and 10,000 images", f"{few / 2**20:,.0f}, {many / 2**20:,.0f}")
    if ON_CARD:
        assert many < 2 * few


def test_training_gives_the_same_weights_twice() -> None:
    data = digits(512 if ON_CARD else 128)
    settings = TrainingConfig(recipe="pgd", epochs=1)

    def weights() -> list[Tensor]:
        net = build("cnn-28", classes=4, input_shape=(1, 28, 28), seed=0)
        fit(net, data, settings, classes=4, threat=ThreatModel("linf", 0.1), device=CARD)
        return [value.cpu() for value in net.state_dict().values()]

    assert all(torch.equal(first, second) for first, second in zip(weights(), weights(), strict=True))


def test_shares_give_the_same_weights_in_any_number_of_processes(table: list[str]) -> None:
    """Two processes need two cards; on one card, or in a rehearsal, one process trains twice or two share the CPU."""
    data = digits(512 if ON_CARD else 128)
    settings = TrainingConfig(recipe="pgd", epochs=1, shares=4)

    def weights(nproc: int | None) -> list[Tensor]:
        net = build("cnn-28", classes=4, input_shape=(1, 28, 28), seed=0)
        threat = ThreatModel("linf", 0.015)
        fit(net, data, settings, classes=4, threat=threat, device=torch.device(CARD.type), nproc=nproc)
        return [value.cpu() for value in net.state_dict().values()]

    several = 2 if CARD.type == "cpu" or torch.cuda.device_count() > 1 else None
    note_row(table, "processes whose weights equal those of one", str(several or 1))
    assert all(torch.equal(first, second) for first, second in zip(weights(None), weights(several), strict=True))


def test_recurrent_nets_give_gradients_in_eval_mode() -> None:
    class Reads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm, self.head = nn.LSTM(96, 16, batch_first=True), nn.Linear(16, 10)

        def forward(self, pixels: Tensor) -> Tensor:
            return self.head(self.lstm(pixels.permute(0, 2, 1, 3).flatten(2))[0][:, -1])

    model = ModelUnderTest(Reads(), classes=NAMES, input_shape=SHAPE, device=CARD)
    goal = torch.ones(4, 10, dtype=torch.bool, device=CARD)
    goal[:, 0] = False
    assert bool(model.loss_gradient(images(4), goal, margin).gradient.any())


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_a_search_does_not_wait_for_the_card_between_its_releases(norm: Norm) -> None:
    model, threat = model_on(CARD), ThreatModel(norm, 0.5)
    batch = batch_for(model, 16)
    goal = batch.target_mask(10).to(CARD)
    images = batch.images
    model.loss_gradient(images, goal, margin)
    with ieee_float32():
        with no_waits():
            for _ in range(8):
                gradient = model.loss_gradient(images, goal, margin).gradient
                images = projected_step(images, batch.images, gradient, threat, 0.1)
    assert bool(threat.allows(images, batch.images).all())


SEARCHES: list[tuple[str, Norm]] = [("apgd-ce", "linf"), ("pgd", "l2"), ("fab-t", "l1"), ("square", "linf")]


@pytest.mark.parametrize(("name", "norm"), SEARCHES)
def test_replayed_steps_give_the_bits_of_those_that_are_not(name: str, norm: Norm, recordings: list[str]) -> None:
    """Nothing breaks, so that every step of both has as many images."""
    model, count = model_on(CARD), 16 if ON_CARD else 2
    batch, threat = batch_for(model, count), ThreatModel(norm, 1e-4)
    settings = {"queries": 40} if name == "square" else {"steps": 20 if ON_CARD else 4}
    settings |= {"targets": 2} if name == "fab-t" else {}
    plain = attack(name, model, batch, threat, **settings)
    model.layout.replayed = count
    assert torch.equal(attack(name, model, batch, threat, **settings), plain)
    if ON_CARD or norm != "l2":  # whose projection reads numbers on the processor, where that is free
        assert recordings


def test_recordings_give_their_memory_back(recordings: list[str]) -> None:
    model = model_on(CARD)
    count = 64 if ON_CARD else 2
    model.layout.batch_size = model.layout.replayed = count
    batch = batch_for(model, count)
    attack("pgd", model, batch, steps=10)
    before = torch.cuda.memory_reserved(CARD) if ON_CARD else 0
    for _ in range(5):
        attack("pgd", model, batch, steps=10)
    assert recordings
    if ON_CARD:
        assert torch.cuda.memory_reserved(CARD) < 2 * before


def test_the_layout_that_is_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, table: list[str]) -> None:
    monkeypatch.setenv("AUDIT_CACHE_DIR", str(tmp_path))
    model = model_on(CARD)
    started = time.monotonic()
    layout = tune_execution(model)
    note_row(table, "layout chosen by the probe", str(layout))
    note_row(table, "the same: seconds", f"{time.monotonic() - started:.1f}")


@pytest.mark.parametrize("replayed", [False, True], ids=["plain", "replayed"])
@pytest.mark.parametrize("size", [128, 1024, 8192] if ON_CARD else [8, 16])
def test_how_fast_apgd_is(size: int, replayed: bool, recordings: list[str], table: list[str]) -> None:
    model = model_on(CARD)
    model.layout.batch_size = size
    model.layout.replayed = size * replayed
    batch = batch_for(model, size)
    attack("apgd-ce", model, batch, steps=2)
    synchronize()
    started = time.monotonic()
    with model.count() as spent:
        _, peak = with_peak(lambda: attack("apgd-ce", model, batch, steps=20 if ON_CARD else 2))
    synchronize()
    rate = spent.passes.backwards / (time.monotonic() - started)
    form = "replayed from CUDA graphs" if replayed else "plain"
    note_row(table, f"APGD {form}, batches of {size}: gradients a second", f"{rate:,.0f}")
    note_row(table, "the same: peak memory, MiB", f"{peak / 2**20:,.0f}")
    assert bool(recordings) == replayed


@pytest.mark.parametrize("replayed", [False, True], ids=["plain", "replayed"])
@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16"])
def test_a_search_in_a_lower_precision_breaks_as_many(
    precision: SearchPrecision, replayed: bool, recordings: list[str], table: list[str]
) -> None:
    model, count = model_on(CARD), 1024 if ON_CARD else 8
    model.layout.batch_size, model.layout.replayed = count, count * replayed
    batch, settings = batch_for(model, count), {"steps": 20 if ON_CARD else 3}
    threat = ThreatModel("linf", 0.015)

    def broken(lower: SearchPrecision) -> float:
        model.layout.search_precision = lower
        proposals = attack("apgd-ce", model, batch, threat, **settings)
        return float((model.predictions(proposals) != batch.labels).float().mean())

    plain = broken("float32")
    broken(precision)  # warms its kernels
    synchronize()
    started = time.monotonic()
    with model.count() as spent:
        found = broken(precision)
    rate = spent.passes.backwards / (time.monotonic() - started)
    form = "replayed" if replayed else "plain"
    note_row(table, f"APGD in {precision}, {form}: gradients a second, share broken", f"{rate:,.0f}, {found:.3f}")
    assert found >= plain - 0.05
    assert bool(recordings) == replayed
