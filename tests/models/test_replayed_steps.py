"""A step recorded once and replayed, on the stand-in for CUDA graphs; and whether the probe chooses it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from audit.models import autotune
from audit.models.autotune import tune_execution
from audit.models.batching import ExecutionLayout
from audit.models.cuda_graphs import can_record
from audit.models.replay_probe import most_replayed
from audit.models.replayed_steps import ReplayedSteps
from audit.models.under_test import ModelUnderTest
from tests.graphs_on_tape import Tape


@pytest.fixture(autouse=True)
def tape(monkeypatch: pytest.MonkeyPatch) -> None:
    Tape.install(monkeypatch)


class Net(nn.Module):
    """A linear layer behind a function of the images."""

    def __init__(self, before: Callable[[Tensor], Tensor] = lambda images: images) -> None:
        super().__init__()
        self.before = before
        self.layer = nn.Linear(16, 3)
        with torch.no_grad():
            self.layer.weight.copy_(torch.linspace(-1, 1, 48).view(3, 16))

    def forward(self, images: Tensor) -> Tensor:
        return self.layer(self.before(images).flatten(1)).sin()  # type: ignore[no-any-return]


def wrapped(net: nn.Module | None = None, batch: int = 64) -> ModelUnderTest:
    model = ModelUnderTest(net or Net(), classes=tuple("abc"), input_shape=(1, 4, 4), device="cpu")
    _ = model.gradient_point
    model.layout.batch_size = batch
    return model


def rows(count: int) -> dict[str, Tensor]:
    images = torch.rand(count, 1, 4, 4, generator=torch.Generator().manual_seed(count))
    return {"images": images, "before": images, "age": torch.zeros(count, dtype=torch.int64)}


def step(given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A step that hands images on to another name, as Auto-PGD's does."""
    images, age = given["images"], given["age"]
    moved = (0.9 * images + 0.1 * given["before"].flip(3) + 0.01 * age.view(-1, 1, 1, 1)).clamp(0, 1)
    return {"images": moved, "before": images, "age": age + 1}


def plainly(given: Mapping[str, Tensor], times: int) -> Mapping[str, Tensor]:
    for _ in range(times):
        given = step(given)
    return given


def assert_equal(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> None:
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name


def test_the_stand_in_does_nothing_while_recording_and_freezes_the_numbers_of_python() -> None:
    total, seven = torch.zeros(3), 7.0
    by = [1.0]

    def add() -> None:
        total.add_(torch.ones(3) * by[0] * seven)

    replay = Tape(torch.device("cpu")).record(add)
    assert torch.equal(total, torch.zeros(3))
    by[0] = 100.0
    replay()
    replay()
    assert torch.equal(total, torch.full((3,), 14.0))
    for wait in (lambda: float(total.sum()), lambda: total[total > 0], lambda: total.nonzero()):
        with pytest.raises(RuntimeError, match="synchronizing"):
            Tape(torch.device("cpu")).record(wait)
        with pytest.raises(RuntimeError, match="synchronizing"):
            Tape(torch.device("cpu")).rehearse(wait)


@pytest.mark.parametrize("count", [1, 2, 5, 8, 9])
def test_any_number_of_rows_moves_as_it_would_plainly(count: int) -> None:
    replayed = ReplayedSteps(wrapped())
    given = rows(count)
    kept = {name: tensor.clone() for name, tensor in given.items()}
    moved = replayed.advance(step, given, 4, most=64)
    assert_equal(moved, plainly(kept, 4))
    assert_equal(given, kept)  # what was given is left alone
    assert_equal(replayed.advance(step, moved, 3, most=64), plainly(kept, 7))  # also from where it lies itself


def test_sizes_take_turns_and_one_step_at_a_time_is_recorded_too() -> None:
    replayed = ReplayedSteps(wrapped())
    Tape.recorded = 0
    for count in (7, 3, 8, 1, 7, 2, 3):
        for times in (1, 2):
            assert_equal(replayed.advance(step, rows(count), times, most=64), plainly(rows(count), times))
    assert Tape.recorded == 4  # 8, 4, 2 and 1 rows


def test_more_rows_than_ever_before_begin_anew() -> None:
    replayed = ReplayedSteps(wrapped())
    for count in (3, 30, 3):
        assert_equal(replayed.advance(step, rows(count), 3, most=64), plainly(rows(count), 3))
        assert replayed.records(1 << (count - 1).bit_length())


def test_what_is_filled_up_grows_no_older_than_the_rows() -> None:
    """A step looks up what it does at its age; there is nothing for later ones."""
    table = torch.linspace(0, 1, 12)

    def looks_up(given: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {**step(given), "images": given["images"] * table[given["age"]].view(-1, 1, 1, 1)}

    replayed = ReplayedSteps(wrapped())
    for _ in range(3):
        replayed.advance(looks_up, rows(5), 12, most=64)
    assert replayed.records(8)


def fewer(given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {"images": given["images"] * 0.5, "before": given["images"]}


def finer(given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {**given, "images": given["images"] * 0.5, "age": given["age"] + 0.5}


def smaller(given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {**given, "images": given["images"].mean(3, keepdim=True)}


@pytest.mark.parametrize("changes", [fewer, finer, smaller])
def test_a_step_that_gives_other_tensors_than_it_takes_is_taken_plainly(
    changes: Callable[[Mapping[str, Tensor]], dict[str, Tensor]],
) -> None:
    replayed, plain = ReplayedSteps(wrapped()), changes(changes(rows(5)))
    assert_equal(replayed.advance(changes, rows(5), 2, most=64), plain)
    assert not replayed.records(8)


def test_a_batch_that_is_no_power_of_two_is_the_largest_size() -> None:
    replayed = ReplayedSteps(wrapped(batch=12))
    assert_equal(replayed.advance(step, rows(9), 3, most=64), plainly(rows(9), 3))
    assert replayed.records(12)
    replayed.advance(step, rows(13), 3, most=64)
    assert not replayed.records(13) and not replayed.records(16)


def test_only_the_rows_that_count_are_counted_as_passes() -> None:
    model = wrapped()

    def asks(given: Mapping[str, Tensor]) -> dict[str, Tensor]:
        model.logits(given["images"])
        output = model.loss_gradient(given["images"], given["age"], lambda logits, _: logits.sum(1))
        return {**given, "images": (given["images"] + output.gradient).clamp(0, 1)}

    model.meter.reset()
    ReplayedSteps(model).advance(asks, rows(5), 4, most=64)
    assert (model.passes.forwards, model.passes.backwards) == (2 * 5 * 4, 5 * 4)


class Caches(nn.Module):
    """A net that keeps a table for the last number of images."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(16, 3)
        self.table = torch.zeros(0)

    def forward(self, images: Tensor) -> Tensor:
        if len(self.table) != len(images):
            self.table = torch.linspace(0, 1, len(images))
        return self.layer(images.flatten(1)) + self.table[:, None]  # type: ignore[no-any-return]


def test_what_a_recording_reads_stays_alive() -> None:
    net = Caches()
    model = wrapped(net)

    def asks(given: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {**given, "images": given["images"] * model.logits(given["images"]).mean(1).view(-1, 1, 1, 1)}

    replayed = ReplayedSteps(model)
    replayed.advance(asks, rows(8), 2, most=64)
    read, table = replayed._recordings[8].read, model.net.table  # type: ignore[union-attr]
    replayed.advance(asks, rows(4), 2, most=64)
    assert len(model.net.table) == 4  # type: ignore[arg-type]
    places = {tensor.data_ptr() for tensor in read}
    assert table.data_ptr() in places  # type: ignore[operator]
    assert model.net.layer.weight.data_ptr() in places  # type: ignore[union-attr, operator]
    assert len(read) < 12  # and nothing that the step makes


def test_a_step_that_fails_by_itself_fails_as_it_would_plainly() -> None:
    def broken(given: Mapping[str, Tensor]) -> dict[str, Tensor]:
        raise KeyError("momentum")

    with pytest.raises(KeyError, match="momentum"):
        ReplayedSteps(wrapped()).advance(broken, rows(5), 4, most=64)


class Timed:
    """A clock by which a gradient of the model takes some seconds, and a replay others."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, plain: Callable[[int], float], replayed: float) -> None:
        self.now = 0.0
        ask, record = ModelUnderTest.loss_gradient, Tape.record

        def slow(model: ModelUnderTest, images: Tensor, *given: object) -> object:
            self.now += plain(len(images))
            return ask(model, images, *given)  # type: ignore[arg-type]

        def recorded(tape: Tape, run: Callable[[], object]) -> Callable[[], None]:
            replay = record(tape, run)

            def timed() -> None:
                self.now += replayed
                replay()

            return timed

        monkeypatch.setattr(ModelUnderTest, "loss_gradient", slow)
        monkeypatch.setattr(Tape, "record", recorded)
        monkeypatch.setattr("audit.models.replay_probe.time.monotonic", lambda: self.now)


@pytest.mark.parametrize(
    ("plain", "replayed", "most"),
    [(1.0, 0.5, 64), (1.0, 0.79, 64), (1.0, 0.81, 0), (1.0, 2.0, 0)],
)
def test_replaying_must_be_a_quarter_faster(
    plain: float, replayed: float, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    Timed(monkeypatch, lambda images: plain, replayed)
    assert most_replayed(wrapped(), 1e6) == most


def test_fewer_images_are_replayed_where_many_gain_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """With 64 images the kernels themselves take a second, with 8 launching them does."""
    Timed(monkeypatch, lambda images: max(1.0, images / 8), replayed=0.7)
    model = wrapped()
    monkeypatch.setattr(Tape, "record", _slower_with_many(Tape.record))
    assert most_replayed(model, 1e6) == 8


def _slower_with_many(record: Callable[[Tape, Callable[[], object]], Callable[[], None]]) -> object:
    sizes = iter((64, 8))

    def recorded(tape: Tape, run: Callable[[], object]) -> Callable[[], None]:
        replay, times = record(tape, run), next(sizes)

        def all_of_them() -> None:
            for _ in range(times // 8 + (times > 8) * 4):
                replay()

        return all_of_them

    return recorded


def test_a_recording_that_gives_other_numbers_is_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A net that counts its own calls is frozen where it was recorded."""
    calls = [0]

    def counting(images: Tensor) -> Tensor:
        calls[0] += 1
        return images * (1 + calls[0] % 7)

    Timed(monkeypatch, lambda images: 1.0, 0.1)
    assert most_replayed(wrapped(Net(counting)), 1e6) == 0


def test_a_net_that_waits_for_its_own_numbers_is_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    Timed(monkeypatch, lambda images: 1.0, 0.1)
    assert most_replayed(wrapped(Net(lambda images: images / float(images.detach().max()))), 1e6) == 0


def test_where_memory_ends_fewer_images_are_replayed(monkeypatch: pytest.MonkeyPatch) -> None:
    def tight(images: Tensor) -> Tensor:
        if len(images) > 20 and Tape.recording:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return images

    Timed(monkeypatch, lambda images: 1.0, 0.1)
    model = wrapped(Net(tight))
    assert most_replayed(model, 1e6) == 8
    assert model.layout.batch_size == 64


def test_no_further_size_is_tried_when_the_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    Timed(monkeypatch, lambda images: 1.0, 1.0)
    Tape.recorded = 0
    assert most_replayed(wrapped(), 5.0) == 0
    assert Tape.recorded == 1


def test_only_a_card_is_asked_and_what_it_says_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDIT_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(autotune, "most_replayed", lambda model, seconds: 32)
    monkeypatch.setattr(autotune, "_cost", lambda *_: 1e-5)
    monkeypatch.setattr(autotune, "quickest_precision", lambda model, seconds: "float32")
    model = wrapped()
    assert tune_execution(model).replayed == 0
    monkeypatch.setattr(autotune, "can_record", lambda device: device.type == "cuda")
    (file,) = (tmp_path / "layouts").glob("*.json")
    monkeypatch.setattr(autotune, "_batches_on_a_card", lambda model: ())
    model.device = torch.device("cuda")
    monkeypatch.setattr(ExecutionLayout, "default", lambda device, channels_last: ExecutionLayout(channels_last, 64))
    assert autotune._fastest(model, 1.5).replayed == 32
    autotune._write_cached(file, ExecutionLayout(True, 64, False, 32))
    assert autotune._read_cached(file) == ExecutionLayout(True, 64, False, 32)
    file.write_text(json.dumps({"channels_last": True, "batch_size": 64, "folded": True}))  # of an earlier version
    assert autotune._read_cached(file) == ExecutionLayout(True, 64, True, 0)


@pytest.mark.parametrize(
    ("device", "version", "recorded"),
    [("cuda", "2.14.1+cu130", True), ("cuda", "2.13.0", True), ("cuda", "2.12.1", False), ("cpu", "2.14.1", False)],
)
def test_torch_must_be_sound_after_a_recording_that_failed(
    device: str, version: str, recorded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "__version__", version)
    assert can_record(torch.device(device)) == recorded
