"""`audit run`: the main job."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from audit.cli.options import ConfigFile, Out, Within, command, parse_duration
from audit.cli.terminal import Terminal
from audit.config.flags import AUDIT_FLAGS, SHARED_TRAININGS


@command(*AUDIT_FLAGS, *SHARED_TRAININGS, any_key=True)
def run(
    terminal: Terminal,
    overrides: dict[str, Any],
    config: ConfigFile = None,
    out: Out = Path("audit-run"),
    within: Within = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Write OUT/live.html, which shows the report as it grows.")
    ] = False,
    gate: Annotated[bool, typer.Option("--gate", help="Exit 1 when the verdict is fail or inconclusive.")] = False,
) -> None:
    """Train or load a model, audit it, harden it, audit that too, and write the report.

    Without any flag it does so on the Fashion-MNIST sample that ships with the package.

    What the run folder holds already is not computed again: the same command goes on. Images are attacked until the
    criteria are met or missed (--stop). With --within the run begins with the least that each part needs, and at the
    end of the time the report says what more would decide; Ctrl-C ends it the same way.

    [bold]Examples[/]

      audit run

      audit run --data fashion-mnist:/usr/share/datasets/fashion-mnist --preset standard --out fashion

      audit run --model net.safetensors --architecture cnn-28 --data folder:photos --mean .5 --std .5

      audit run --only robustness --battery standard

      audit run --only robustness --attacks pgd,square

      audit run --model net.safetensors --data folder:photos --within 20m

      audit run --preset standard --watch

      audit run audit.toml --set explanations.examples=8 --gate
    """
    from audit.config import load_config
    from audit.runs.ray_actors import begin_actors

    limit = parse_duration(within, "--within")
    configured = load_config(config, overrides=overrides)
    actors = begin_actors(configured)  # they import what they need while this process does
    from audit.cli.run_command import RunRequest, run_and_report

    request = RunRequest(configured, out, gate=gate, within=limit, watch=watch, actors=actors)
    run_and_report(request, terminal)
