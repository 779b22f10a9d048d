"""Searches whose steps are replayed from recordings give the bits, and the passes, of those that take them plainly."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from audit.adversarial import active_set
from audit.core.registry import find
from audit.core.seeding import Generators, fork_global_rng
from audit.core.threat import Norm, ThreatModel
from audit.core.types import Batch, PassCount
from audit.models.search_form import search_form
from audit.models.under_test import ModelUnderTest
from tests.graphs_on_tape import Tape
from tests.memory_faults import MEMORY_FAULTS

EPS: dict[Norm, float] = {"linf": 0.1, "l2": 0.6, "l1": 8.0}
COUNT = 20
IMAGES = torch.rand(COUNT, 1, 12, 12, generator=torch.Generator().manual_seed(1))


@pytest.fixture(autouse=True)
def tape(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Recordings on the processor, and looks at what is finished as on a card."""
    Tape.install(monkeypatch)
    monkeypatch.setattr(active_set, "SYNC_EVERY_ON_CPU", active_set.SYNC_EVERY_ON_ACCELERATOR)
    yield


class Net(nn.Sequential):
    """A small convolutional net with batch norm."""

    def __init__(self, *first: nn.Module) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(7)
            super().__init__(*first, nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(800, 4))


class Does(nn.Module):
    """A layer that calls a function on what goes through it."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, images: Tensor) -> Tensor:
        return self.function(images)


def attacked(
    name: str, norm: Norm, net: nn.Module, *, replayed: int, window: int = 12, folded: bool = False, **settings: object
) -> tuple[Tensor, PassCount, ModelUnderTest]:
    """What an attack proposes with a layout, what it cost, and the model after it."""
    model = ModelUnderTest(net, classes=tuple("abcd"), input_shape=(1, 12, 12), device="cpu")
    _ = model.gradient_point
    batch = Batch(IMAGES, model.predictions(IMAGES), tuple(map(str, range(len(IMAGES)))))
    model.layout.batch_size, model.layout.replayed, model.layout.folded = window, replayed, folded
    draws = Generators.of(batch.ids, seed=0, purpose="replayed", device="cpu")
    method = find("attack", name)
    before = model.passes
    Tape.recorded = Tape.replayed = 0
    with fork_global_rng(model.device, "replayed"):
        threat = ThreatModel(norm, EPS[norm])
        proposals = method.function(search_form(model), batch, threat, draws, **method.settings(settings))
    return proposals, model.passes - before, model


def assert_alike(name: str, norm: Norm, net: nn.Module, **settings: object) -> ModelUnderTest:
    """Replayed and plain give the same; the replaying model."""
    plain = attacked(name, norm, net, replayed=0, **settings)  # type: ignore[arg-type]
    assert (Tape.recorded, Tape.replayed) == (0, 0)
    replayed = attacked(name, norm, net, replayed=64, **settings)  # type: ignore[arg-type]
    assert torch.equal(plain[0], replayed[0])
    assert plain[1] == replayed[1]
    return replayed[2]


SEARCHES: dict[str, tuple[tuple[Norm, ...], dict[str, object]]] = {
    "pgd": (("linf", "l1"), {"steps": 17}),
    "apgd-ce": (("linf", "l1"), {"steps": 20}),
    "apgd-t": (("linf",), {"steps": 12, "give_up": True}),
    "multi-targeted": (("linf",), {"steps": 8}),
    "mi-fgsm": (("linf",), {}),
    "fab-t": (("linf", "l1"), {"steps": 9}),
    "square": (("linf", "l2"), {"queries": 24}),
    "random-noise": (("l2",), {}),
}


@pytest.mark.parametrize(("name", "norm"), [(name, norm) for name, (norms, _) in SEARCHES.items() for norm in norms])
def test_a_replayed_search_gives_the_bits_of_a_plain_one(name: str, norm: Norm) -> None:
    """Windows of 12 are refilled until 20 images have been in one, and then shrink; most sizes are filled up."""
    assert_alike(name, norm, Net(), **SEARCHES[name][1])
    assert Tape.replayed > 2 * Tape.recorded > 0


@pytest.mark.parametrize("window", [1, 5, 16, 64])
def test_the_window_does_not_matter(window: int) -> None:
    assert_alike("apgd-ce", "linf", Net(), steps=12, window=window)
    assert Tape.replayed > Tape.recorded > 0


@pytest.mark.parametrize("loss", ["ce", "margin", "dlr"])
def test_every_loss_has_recordings_of_its_own(loss: str) -> None:
    assert_alike("pgd", "linf", Net(), steps=12, loss=loss)
    assert Tape.replayed > 0


def test_the_form_with_folded_batch_norm_is_replayed_too() -> None:
    model = assert_alike("apgd-ce", "linf", Net(), steps=12, folded=True)
    assert search_form(model) is not model
    assert Tape.replayed > 0


def test_only_windows_up_to_the_limit_of_the_layout_are_replayed() -> None:
    plain = attacked("pgd", "linf", Net(), replayed=0, steps=20)
    limited = attacked("pgd", "linf", Net(), replayed=8, steps=20)
    few, all_of_them = Tape.replayed, attacked("pgd", "linf", Net(), replayed=64, steps=20)
    assert torch.equal(plain[0], limited[0]) and torch.equal(plain[0], all_of_them[0])
    assert 0 < few < Tape.replayed


def test_restarts_share_the_recordings_which_end_with_the_attack() -> None:
    """Three runs of four sizes at most: 12, 8, 4, 2 or 1 images."""
    assert_alike("pgd", "linf", Net(), steps=12, restarts=4)
    assert 0 < Tape.recorded <= 5
    gc.collect()
    assert len(active_set._recordings) == 0


def waits(images: Tensor) -> Tensor:
    return images * (1.0 if float(images.detach().sum()) > -1 else 2.0)


def draws(images: Tensor) -> Tensor:
    return images + 1e-3 * torch.rand_like(images)


def refuses_to_be_recorded(images: Tensor) -> Tensor:
    if Tape.recording:
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing")
    return images


@pytest.mark.parametrize("function", [waits, draws, refuses_to_be_recorded])
def test_a_net_that_cannot_be_recorded_is_searched_plainly(function: Callable[[Tensor], Tensor]) -> None:
    assert_alike("apgd-ce", "linf", Net(Does(function)), steps=10)
    assert Tape.recorded == Tape.replayed == 0


def no_memory(most: int, fault: Exception, only_when_recording: bool, images: Tensor) -> Tensor:
    if len(images) > most and Tape.recording >= only_when_recording:
        raise fault
    return images


@pytest.mark.parametrize("fault", MEMORY_FAULTS.values(), ids=MEMORY_FAULTS)
def test_little_memory_halves_the_batch_and_keeps_the_answer(fault: Exception) -> None:
    net = Net(Does(partial(no_memory, 5, fault, False)))
    model = assert_alike("pgd", "linf", net, steps=20)
    assert model.layout.batch_size == 3
    assert Tape.replayed > 0


def test_memory_that_runs_out_only_when_a_step_is_recorded_changes_nothing() -> None:
    net = Net(Does(partial(no_memory, 8, torch.OutOfMemoryError("CUDA out of memory."), True)))
    model = assert_alike("pgd", "linf", net, steps=20)
    assert model.layout.batch_size == 12 and Tape.recorded > 0
