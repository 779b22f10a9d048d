"""`audit harden`: adversarial training, and the audit of both models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from audit.cli.options import ConfigFile, Out, Within, command, parse_duration
from audit.cli.terminal import Terminal
from audit.config.flags import SHARED_TRAININGS, SUBJECT_FLAGS

HARDENING = tuple(
    f"hardening.{key}" for key in ("recipe", "epochs", "batch_size", "learning_rate", "from_scratch", "time_budget")
)
BOTH_TRAININGS = (*SHARED_TRAININGS, "hardening.tensorboard", "training.tensorboard")


@command("preset", *SUBJECT_FLAGS, *HARDENING, *BOTH_TRAININGS, "robustness.norm", "robustness.eps", any_key=True)
def harden(
    terminal: Terminal,
    overrides: dict[str, Any],
    config: ConfigFile = None,
    out: Out = Path("audit-harden"),
    within: Within = None,
) -> None:
    """Train a model that is harder to fool, and audit it beside the one it came from.

    The hardened weights land in OUT/model.safetensors, the comparison in OUT/report.html.

    [bold]Examples[/]

      audit harden

      audit harden --data cifar10:data --architecture cnn-32 --model net.safetensors --recipe pgd --eps 8/255
    """
    from audit.cli.run_command import RunRequest, run_and_report
    from audit.config import load_config, merge

    run_config = load_config(config, overrides=merge({"hardening": {"enabled": True}}, overrides))
    limit = parse_duration(within, "--within")
    run_and_report(RunRequest(run_config, out, release="hardened", within=limit), terminal)
