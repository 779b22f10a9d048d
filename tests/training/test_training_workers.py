"""Shares of a batch and the processes that divide them: the same bits in any number, nobody left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from audit.config import TrainingConfig, TrustConfig
from audit.core.errors import Interrupted, ModelError, SetupError, UsageError
from audit.core.threat import ThreatModel
from audit.models.formats.user_code import build_from_code
from audit.training import launcher
from audit.training.callbacks import TrainingCallbacks, TrainingHistory
from audit.training.checkpoint import FILE
from audit.training.distributed import (
    PairwiseSum,
    WorkerGroup,
    add_pairwise,
    processes_of,
    require_cards,
    require_shareable,
    why_one_process,
)
from audit.training.fit import channel_statistics, fit
from audit.training.optimisation import rate_factor
from audit.training.setup import TrainingSetup, build_setup
from audit.training.state import TrainingResult
from audit.training.training_data import SplitImages
from tests.training.toy import same_weights, thirds, tiny_net

PLAIN = TrainingConfig(epochs=2, batch_size=32, learning_rate=0.02, optimizer="sgd", shares=4, precision="float32")
RICH = TrainingConfig(
    recipe="fgsm-rs",
    recipe_settings={"start": "previous"},
    epochs=2,
    batch_size=32,
    learning_rate=0.02,
    averaging=0.9,
    dropout=0.2,
    weight_perturbation=0.01,
    shares=4,
)
"""All that could differ between processes: memories of their images, batch statistics, layers that draw, Muon."""
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="finds processes under /proc")
PROGRAM = """
import os, signal, sys, time
from pathlib import Path
import torch
from audit.training.callbacks import TrainingCallbacks
from tests.training.test_training_workers import members, rich

torch.set_num_threads(int(sys.argv[2]))

def on_epoch(history):
    Path(sys.argv[1], "members").write_text(" ".join(map(str, members())))
    os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    rich(2, TrainingCallbacks(Path(sys.argv[1]), on_epoch=on_epoch), count=1500)
"""


def members() -> list[int]:
    """The processes of a training that this one has started and that still run."""
    tasks = Path("/proc/self/task").iterdir()
    started = [int(pid) for task in tasks for pid in (task / "children").read_text().split()]
    return [pid for pid in started if b"audit.training.member" in _command_line(pid)]


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def rich(nproc: int | None, callbacks: TrainingCallbacks | None = None, count: int = 240) -> TrainingResult:
    threat = ThreatModel("linf", 0.1)
    module = tiny_net(norm=True)
    return fit(module, thirds(count), RICH, classes=3, threat=threat, seed=5, callbacks=callbacks, nproc=nproc)


def setup_of(rank: int, world_size: int) -> TrainingSetup:
    workers = WorkerGroup(rank, world_size)
    data = SplitImages(thirds(240), PLAIN).of(workers, rank)
    alone = WorkerGroup()  # nothing is exchanged here
    setup = build_setup(data, PLAIN, threat=None, seed=5, device=torch.device("cpu"), workers=alone)
    return replace(setup, workers=workers)


def by_hand() -> dict[str, Tensor]:
    """Plain gradient descent on the union of the shares of each batch."""
    net, setup = tiny_net(), setup_of(0, 1)
    mean, std = channel_statistics(thirds(240).images)
    optimizer = torch.optim.SGD(net.parameters(), lr=1.0, momentum=PLAIN.momentum)
    steps = setup.steps_per_epoch
    for done in range(PLAIN.epochs * steps):
        epoch, step = divmod(done, steps)
        orders = setup.epoch_order(epoch)
        batches = [setup.data.shares[share].select(order[step * 8 : (step + 1) * 8]) for share, order in orders.items()]
        images, labels = (torch.cat([getattr(batch, name) for batch in batches]) for name in ("images", "labels"))
        rate = rate_factor(PLAIN.schedule, done / (PLAIN.epochs * steps))
        optimizer.param_groups[0]["lr"] = PLAIN.learning_rate * rate
        optimizer.zero_grad()
        cross_entropy(net((images - mean[0]) / std[0]), labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return net.state_dict()


def test_shares_descend_the_gradient_of_the_whole_batch() -> None:
    module = tiny_net()
    trained = fit(module, thirds(240), PLAIN, classes=3, seed=5)
    for name, value in by_hand().items():
        torch.testing.assert_close(module.state_dict()[name], value, rtol=1e-4, atol=1e-5)
    assert trained.passes.backwards == PLAIN.epochs * setup_of(0, 1).steps_per_epoch * PLAIN.batch_size


@pytest.mark.parametrize("world_size", [2, 4])
def test_processes_hold_their_own_shares_of_the_images_and_no_others(world_size: int) -> None:
    setups = [setup_of(rank, world_size) for rank in range(world_size)]
    whole = SplitImages(thirds(240), PLAIN)
    learnt = [name for setup in setups for batch in setup.data.shares.values() for name in batch.ids]
    assert sorted(learnt) == sorted(whole.examples.ids)
    looked_at = [name for setup in setups for part in setup.held_out for name in part.batch.ids]
    assert sorted(looked_at) == sorted(whole.held_out.ids)
    assert sum(part.attacked for setup in setups for part in setup.held_out) == 24
    for setup in setups:
        for share, order in setup.epoch_order(1).items():
            assert torch.equal(order, setup_of(0, 1).epoch_order(1)[share])


def test_a_sum_in_one_order_is_that_of_any_number_of_processes() -> None:
    draws = torch.randn(8, 1000, generator=torch.Generator().manual_seed(0)) * 10.0 ** torch.arange(-4, 4)[:, None]
    expected = add_pairwise(list(draws))
    for processes in (1, 2, 4, 8):
        partial = []
        for rank in range(processes):
            total = PairwiseSum()
            for share in WorkerGroup(rank, processes).shares(8):
                total.add(draws[share])
            partial.append(total.value)
        assert torch.equal(add_pairwise(partial), expected)
    assert not torch.equal(add_pairwise(list(draws[torch.tensor([0, 2, 1, 3, 4, 5, 6, 7])])), expected)


@LINUX
def test_two_processes_one_of_them_killed_within_an_epoch_give_the_bits_of_one(tmp_path: Path) -> None:
    killed: list[int] = []

    def on_epoch(history: TrainingHistory) -> None:
        if not killed:  # the second epoch has begun, and takes 42 steps
            killed.extend(members()[-1:])
            os.kill(killed[0], signal.SIGKILL)

    shared = rich(2, TrainingCallbacks(tmp_path, on_epoch=on_epoch), count=1500)
    alone = rich(None, count=1500)
    assert killed and same_weights(shared.weights, alone.weights)
    assert (shared.history, shared.passes) == (alone.history, alone.passes)
    assert not members()


@pytest.mark.slow
@LINUX
def test_four_processes_stopped_within_an_epoch_go_on_as_one_to_the_same_bits(tmp_path: Path) -> None:
    calls: list[int] = []
    stop = TrainingCallbacks(tmp_path, lambda done, total: calls.append(done), lambda: True)
    with pytest.raises(Interrupted, match="epoch 1 of 2; the same command goes on"):
        rich(4, stop, 1500)
    assert (tmp_path / FILE).exists()
    steps: list[int] = []
    resumed = rich(None, TrainingCallbacks(tmp_path, lambda done, total: steps.append(done)), 1500)
    assert steps[0] < 42
    assert same_weights(resumed.weights, rich(None, count=1500).weights)


@LINUX
def test_killed_by_the_system_it_leaves_no_process_and_no_images(tmp_path: Path) -> None:
    scratch, temporary = tmp_path / "scratch", tmp_path / "temporary"
    temporary.mkdir()
    scratch.mkdir()
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(scratch), str(torch.get_num_threads())],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "TMPDIR": str(temporary)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    left = [int(pid) for pid in (scratch / "members").read_text().split()]
    assert len(left) == 2
    _await(lambda: not any(map(_command_line, left)))
    assert not list(temporary.rglob("*.pt")), "no images stay"
    assert (scratch / FILE).exists()


def _await(condition: Any) -> None:
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until, "waited a minute"
        time.sleep(0.05)


class Mortal(nn.Module):
    """Ends its process at once wherever it is trained, but where it was made."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.home = nn.Linear(81, 3), os.getpid()

    def forward(self, images: Tensor) -> Tensor:
        if os.getpid() != self.home:
            print("no number", file=sys.stderr, flush=True)
            os._exit(3)
        return self.layer(images.flatten(1))  # type: ignore[no-any-return]


def test_processes_that_die_each_time_are_named_with_what_they_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher, "STARTED_AGAIN", 0)
    with pytest.raises(SetupError, match=r"Process \d of a training in 2 ended with code 3 \(no number\)"):
        fit(Mortal(), thirds(240), PLAIN, classes=3, nproc=2)
    assert not any(name.startswith("TORCHELASTIC_") for name in os.environ)


def test_an_error_in_a_process_is_that_of_the_training_with_trusted_code_or_without(tmp_path: Path) -> None:
    source = tmp_path / "net.py"
    source.write_text(
        "from torch import nn\n\n\nclass Own(nn.Sequential):\n    def forward(self, images):\n"
        "        return super().forward(images).detach()\n\n\n"
        "def build(classes, input_shape):\n    return Own(nn.Flatten(), nn.Linear(81, classes))\n"
    )
    trust = (TrustConfig(path=str(source)),)
    module, _ = build_from_code(f"{source}:build", trust, classes=3, input_shape=(1, 9, 9), seed=0)
    with pytest.raises(ModelError, match="cannot be trained: its forward pass"):
        fit(module, thirds(240), PLAIN, classes=3, seed=5, nproc=2)


@pytest.mark.parametrize(
    ("changes", "processes", "facts", "words"),
    [
        ({"shares": 3}, 1, {}, "has 3 shares, where a power of two was expected"),
        ({"shares": 1}, 2, {}, "2 processes cannot divide the 1 share of a batch evenly: give --shares 8"),
        ({"shares": 4}, 3, {}, "3 processes cannot divide the 4 shares .* give 1, 2 or 4 processes"),
        ({"shares": 8, "batch_size": 30}, 1, {}, "30 images cannot be cut into 8 equal shares"),
        ({}, 2, {"task": "detection"}, "trains a detector, in one process"),
        ({}, 2, {"teacher": True}, "learns from another model, in one process: leave --nproc and --shares out"),
        ({}, 1, {"proves": True}, "scales the first weights by its first batch, in one process"),
    ],
)
def test_what_cannot_be_shared_is_refused(
    changes: dict[str, Any], processes: int, facts: dict[str, Any], words: str
) -> None:
    settings = PLAIN.model_copy(update=changes)
    with pytest.raises(UsageError, match=words):
        require_shareable(settings, processes, alone=why_one_process(facts))


def test_a_net_that_cannot_be_handed_over_is_named() -> None:
    module = tiny_net()
    module.lock = threading.Lock()  # type: ignore[assignment]
    with pytest.raises(UsageError, match=r"Sequential cannot be handed to another process .* Leave --nproc out"):
        fit(module, thirds(240), PLAIN, classes=3, nproc=2)


@pytest.mark.parametrize(
    ("device", "gpus", "error", "words"),
    [
        ("mps", 0, SetupError, "not on mps"),
        ("cuda", 1, SetupError, "2 processes need a GPU each, and this machine has 1: give --nproc"),
        ("cuda:1", 2, UsageError, "take the GPUs 0 to 1, and --device cuda:1 names one"),
    ],
)
def test_a_machine_without_room_is_named(
    monkeypatch: pytest.MonkeyPatch, device: str, gpus: int, error: type[Exception], words: str
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    with pytest.raises(error, match=words):
        require_cards(2, torch.device(device))


def test_torchrun_says_how_many_processes_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "run")
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert processes_of(PLAIN) == 4
    with pytest.raises(UsageError, match="has started 4 processes, and nproc asks for 2: leave --nproc out"):
        processes_of(PLAIN.model_copy(update={"nproc": 2}))
