"""`audit train`: a model from data, with its accuracy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from audit.cli.options import ConfigFile, Out, command
from audit.cli.terminal import Terminal
from audit.config.flags import SUBJECT_FLAGS


@command(*SUBJECT_FLAGS, "training", "robustness.norm", "robustness.eps", without=("model.weights",), any_key=True)
def train(
    terminal: Terminal, overrides: dict[str, Any], config: ConfigFile = None, out: Out = Path("audit-train")
) -> None:
    """Train a model and measure its clean accuracy; the weights land in OUT/models/standard.safetensors.

    [bold]Examples[/]

      audit train

      audit train --data folder:photos --architecture cnn-150 --image-size 150 --augmentation keras --out photos

      audit train --data folder:photos --image-size 224 --architecture torchvision:resnet18 --pretrained resnet18.pth
    """
    from audit.cli.run_command import RunRequest, run_and_report
    from audit.config import load_config, merge
    from audit.models.files import is_code

    run_config = load_config(config, overrides=merge({"hardening": {"enabled": False}}, overrides))
    if is_code(run_config.model.architecture):  # a module with weights of its own is trained on: that was asked for
        model = run_config.model.model_copy(update={"own_weights": False})
        run_config = run_config.model_copy(update={"model": model})
    run_and_report(RunRequest(run_config, out, scope="train"), terminal)
