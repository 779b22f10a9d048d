"""A real kill -9 in another process, and the same weights after it."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import torch

from audit.config import TrainingConfig
from audit.core.threat import ThreatModel
from audit.training.callbacks import TrainingCallbacks
from audit.training.checkpoint import FILE
from audit.training.fit import fit
from audit.training.state import TrainingResult
from tests.training.toy import same_weights, thirds, tiny_net

SETTINGS = TrainingConfig(recipe="free", epochs=3, batch_size=30, learning_rate=0.02, averaging=0.9, dropout=0.2)
PROGRAM = """
import os, signal, sys
from pathlib import Path
import torch
from audit.training import loop
from audit.training.callbacks import TrainingCallbacks
from tests.training.test_training_kill import trained

loop.STEPS_BETWEEN_CHECKS = 1
torch.set_num_threads(int(sys.argv[2]))

def progress(done, total):
    if done == 17:
        os.kill(os.getpid(), signal.SIGKILL)

trained(TrainingCallbacks(Path(sys.argv[1]), progress))
"""


def trained(callbacks: TrainingCallbacks | None = None) -> TrainingResult:
    threat = ThreatModel("linf", 0.1)
    return fit(tiny_net(norm=True), thirds(240), SETTINGS, classes=3, threat=threat, seed=5, callbacks=callbacks)


def test_killed_by_the_system_in_the_third_epoch_it_ends_in_the_same_bits(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", PROGRAM, str(tmp_path), str(torch.get_num_threads())]
    ended = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
    steps: list[int] = []
    resumed = trained(TrainingCallbacks(tmp_path, lambda done, total: steps.append(done)))
    assert steps[0] == 14
    assert same_weights(resumed.weights, trained().weights)
