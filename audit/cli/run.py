"""`audit run`: the main job."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from audit.cli.options import ConfigFile, Out, command
from audit.cli.terminal import Terminal
from audit.config.flags import AUDIT_FLAGS


@command(*AUDIT_FLAGS, any_key=True)
def run(
    terminal: Terminal,
    overrides: dict[str, Any],
    config: ConfigFile = None,
    out: Out = Path("audit-run"),
    gate: Annotated[bool, typer.Option("--gate", help="Exit 1 when the verdict is fail or inconclusive.")] = False,
) -> None:
    """Train or load a model, audit it, harden it, audit that too, and write the report.

    Without any flag it does so on the Fashion-MNIST sample that ships with the package.

    What the run folder holds already is not computed again: the same command goes on.

    [bold]Examples[/]

      audit run

      audit run --data fashion-mnist:/usr/share/datasets/fashion-mnist --preset standard --out fashion

      audit run --model net.safetensors --architecture cnn-28 --data folder:photos --mean .5 --std .5

      audit run --only robustness --battery standard

      audit run --only robustness --attacks pgd,square

      audit run audit.toml --set explanations.examples=8 --gate
    """
    from audit.cli.run_command import RunRequest, run_and_report
    from audit.config import load_config

    run_and_report(RunRequest(load_config(config, overrides=overrides), out, gate=gate), terminal)
