"""Several workers: the gradient of the whole batch, the same bits again, and nobody left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from audit.config import TrainingConfig, TrustConfig
from audit.core.errors import Interrupted, SetupError, UsageError
from audit.core.threat import ThreatModel
from audit.models.formats.user_code import build_from_code
from audit.training import launcher
from audit.training.callbacks import TrainingCallbacks
from audit.training.checkpoint import FILE
from audit.training.distributed import WorkerGroup, require_shareable
from audit.training.fit import channel_statistics, fit
from audit.training.optimisation import rate_factor
from audit.training.setup import TrainingSetup, build_setup
from audit.training.state import TrainingResult
from tests.training.toy import same_weights, thirds, tiny_net

PLAIN = TrainingConfig(epochs=2, batch_size=30, learning_rate=0.02, optimizer="sgd", workers=2)
RICH = TrainingConfig(
    recipe="fgsm-rs",
    recipe_settings={"start": "previous"},
    epochs=2,
    batch_size=30,
    learning_rate=0.02,
    averaging=0.9,
    dropout=0.2,
    weight_perturbation=0.01,
    workers=2,
)
"""Everything that differs between processes: memories of their images, batch statistics, layers that draw."""
PROGRAM = """
import os, signal, sys, threading
from pathlib import Path
import torch
from audit.training.callbacks import TrainingCallbacks
from tests.training.test_training_workers import children, rich

torch.set_num_threads(int(sys.argv[2]))
seen = []

def progress(done, total):
    seen.append(done)
    if seen.count(7) == 2:
        Path(sys.argv[1], "children").write_text(" ".join(map(str, children())))
        threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGKILL)).start()

if __name__ == "__main__":
    rich(TrainingCallbacks(Path(sys.argv[1]), progress))
"""


def children() -> list[int]:
    """The processes this one has started and that still run."""
    return [int(pid) for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()]


def rich(callbacks: TrainingCallbacks | None = None, count: int = 240) -> TrainingResult:
    threat = ThreatModel("linf", 0.1)
    return fit(tiny_net(norm=True), thirds(count), RICH, classes=3, threat=threat, seed=5, callbacks=callbacks)


def setup_of(rank: int, world_size: int) -> TrainingSetup:
    return build_setup(
        thirds(240), PLAIN, threat=None, seed=5, device=torch.device("cpu"), workers=WorkerGroup(rank, world_size)
    )


def by_hand() -> dict[str, Tensor]:
    """Plain gradient descent on the union of what two workers are given at each step."""
    net, setups = tiny_net(), [setup_of(rank, 2) for rank in range(2)]
    normal = channel_statistics(thirds(240).images)
    optimizer = torch.optim.SGD(net.parameters(), lr=1.0, momentum=PLAIN.momentum)
    steps = setups[0].steps_per_epoch
    for done in range(PLAIN.epochs * steps):
        epoch, step = divmod(done, steps)
        index = torch.cat([setup.epoch_order(epoch)[step * 15 : (step + 1) * 15] for setup in setups])
        batch = setups[0].examples.select(index)
        optimizer.param_groups[0]["lr"] = PLAIN.learning_rate * rate_factor(
            PLAIN.schedule, done / (PLAIN.epochs * steps)
        )
        optimizer.zero_grad()
        cross_entropy(net((batch.images - normal[0][0]) / normal[1][0]), batch.labels).backward()
        optimizer.step()
    return net.state_dict()


def test_two_workers_descend_the_gradient_of_the_whole_batch() -> None:
    module = tiny_net()
    trained = fit(module, thirds(240), PLAIN, classes=3, seed=5)
    for name, value in by_hand().items():
        torch.testing.assert_close(module.state_dict()[name], value, rtol=1e-4, atol=1e-5)
    images = PLAIN.epochs * setup_of(0, 2).steps_per_epoch * PLAIN.batch_size
    assert trained.passes.backwards == images, "those of all workers are counted"


def test_a_share_is_the_same_examples_in_whatever_order() -> None:
    shares = [{int(i) for i in setup_of(rank, 3).epoch_order(epoch)} for epoch in range(2) for rank in range(3)]
    assert shares[:3] == shares[3:]
    assert set.union(*shares[:3]) == set(range(216)) and sum(map(len, shares[:3])) == 216
    assert [setup_of(rank, 2).local_batch_size for rank in range(2)] == [15, 15]


@pytest.mark.skipif(sys.platform != "linux", reason="finds processes under /proc")
def test_killed_by_the_system_it_leaves_no_process_and_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    scratch, temporary = tmp_path / "scratch", tmp_path / "temporary"
    temporary.mkdir()
    scratch.mkdir()
    command = [sys.executable, "-c", PROGRAM, str(scratch), str(torch.get_num_threads())]
    ended = subprocess.run(
        command,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "TMPDIR": str(temporary)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    left = [int(pid) for pid in (scratch / "children").read_text().split()]
    assert left, "a second process had been there"
    _await(lambda: not any(Path(f"/proc/{pid}/cmdline").exists() for pid in left))
    private = (launcher.IMAGES, launcher.ARGUMENTS)
    assert not [path for path in temporary.rglob("*") if path.name in private], "no images stay"
    assert (scratch / FILE).exists()
    steps: list[int] = []
    resumed = rich(TrainingCallbacks(scratch, lambda done, total: steps.append(done)))
    assert steps[0] == 7, "from the first epoch's end"
    assert same_weights(resumed.weights, rich().weights)


def test_stopped_within_an_epoch_it_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    calls: list[int] = []

    def stopping() -> bool:
        calls.append(1)
        return len(calls) == 2

    with pytest.raises(Interrupted, match="epoch 1 of 2; the same command goes on"):
        rich(TrainingCallbacks(tmp_path, stopping=stopping), 720)
    steps: list[int] = []
    resumed = rich(TrainingCallbacks(tmp_path, lambda done, total: steps.append(done)), 720)
    assert steps[0] == 20
    assert same_weights(resumed.weights, rich(count=720).weights)


def _await(condition: Any) -> None:
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until, "waited a minute"
        time.sleep(0.05)


@pytest.mark.skipif(sys.platform != "linux", reason="finds processes under /proc")
def test_a_worker_that_dies_is_named_and_the_checkpoint_stays(tmp_path: Path) -> None:
    before = set(children())

    def progress(done: int, total: int) -> None:
        if done >= 7:
            for pid in set(children()) - before:
                os.kill(pid, signal.SIGKILL)

    with pytest.raises(SetupError, match=r"worker 2 of 2 ended with code -9 .* goes on from the last checkpoint"):
        rich(TrainingCallbacks(tmp_path, progress))
    assert (tmp_path / FILE).exists()
    assert torch.distributed.is_initialized() is False and set(children()) <= before


def test_what_a_worker_says_as_it_fails_is_told() -> None:
    class Hostile(nn.Module):
        """Its pickle fails where it is read."""

        def __reduce__(self) -> tuple[Any, Sequence[Any]]:
            return int, ("no number",)

    failing = launcher.launch_workers(2, thirds(30), Hostile(), torch.device("cpu"), {})
    with pytest.raises(SetupError, match=r"worker 2 of 2 ended with code 1 .*ValueError.*no number"), failing:
        pytest.fail("nobody came")


def test_code_that_was_trusted_by_file_reaches_the_others(tmp_path: Path) -> None:
    source = tmp_path / "net.py"
    source.write_text(
        "from torch import nn\n\n\nclass Own(nn.Sequential):\n    pass\n\n\n"
        "def build(classes, input_shape):\n    return Own(nn.Flatten(), nn.Linear(81, classes))\n"
    )
    module, _ = build_from_code(
        f"{source}:build", (TrustConfig(path=str(source)),), classes=3, input_shape=(1, 9, 9), seed=0
    )
    trained = fit(module, thirds(240), PLAIN.model_copy(update={"epochs": 1}), classes=3, seed=5)
    assert trained.kept_epoch == 1


@pytest.mark.parametrize(
    ("changes", "has_teacher", "words"),
    [
        ({"batch_size": 30, "workers": 4}, False, "30 images cannot be shared evenly by 4 workers"),
        ({"workers": 2}, True, "in one process: set workers to 1"),
    ],
)
def test_what_cannot_be_shared_is_refused(changes: dict[str, Any], has_teacher: bool, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        require_shareable(PLAIN.model_copy(update=changes), has_teacher=has_teacher)


def test_a_net_that_cannot_be_handed_over_is_named() -> None:
    module = tiny_net()
    module.lock = threading.Lock()  # type: ignore[assignment]
    with pytest.raises(UsageError, match=r"Sequential cannot be handed to another process .*workers to 1"):
        fit(module, thirds(240), PLAIN, classes=3)


@pytest.mark.parametrize(
    ("device", "gpus", "words"), [("mps", 0, "not on mps"), ("cuda", 1, "need a GPU each, and this machine has 1")]
)
def test_a_machine_without_room_is_named(monkeypatch: pytest.MonkeyPatch, device: str, gpus: int, words: str) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    with pytest.raises(SetupError, match=words):
        launcher._require_devices(2, torch.device(device))
