"""`audit doctor`: is this machine able to run an audit; and does this model fit this data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from audit.cli import options as flag
from audit.cli.terminal import Terminal, command_context

if TYPE_CHECKING:
    from audit.runs.doctor import Diagnostic
    from audit.runs.model_diagnostics import ModelDiagnostics

MARKS = {True: "[green]ok[/]     ", False: "[red]{bad}[/]", None: "[dim]{so_so}[/] "}


def doctor(
    config: flag.ConfigFile = None,
    data: flag.Data = None,
    model: flag.Model = None,
    architecture: flag.Architecture = None,
    mean: flag.Mean = None,
    std: flag.Std = None,
    trust: flag.Trust = None,
    image_size: flag.ImageSize = None,
    crop: flag.Crop = None,
    grayscale: flag.Grayscale = None,
    labels_map: flag.LabelsMap = None,
    strict: flag.Strict = None,
    seed: flag.Seed = None,
    device: flag.Device = None,
    out: flag.Out = Path("audit-run"),
    as_json: flag.AsJson = False,
    quiet: flag.Quiet = False,
    verbose: flag.Verbose = False,
    no_color: flag.NoColor = False,
) -> None:
    """Look at Python, packages, device and disk; exit 5 when something an audit needs is missing.

    With a model, look at it beside the data instead: which preparation of the images fits it best and by how much,
    whether its outputs are in the order of the classes, whether it stays in eval mode, answers the same every time,
    and has gradients that tell the truth. Exit 1 when something does not fit.

    [bold]Examples[/]

      audit doctor

      audit doctor --device cuda --json

      audit doctor --model net.pt --architecture cnn-28 --data folder:photos
    """
    with command_context(as_json=as_json, quiet=quiet, verbose=verbose, no_color=no_color) as voice:
        import typer

        if model is None and data is None and config is None:
            from audit.runs.doctor import diagnose_machine

            machine = diagnose_machine(device or "auto", out)
            voice.give({"examined": [vars(one) for one in machine]}, lambda: _show(machine, voice, "missing", "absent"))
            if any(one.fine is False for one in machine):
                raise typer.Exit(5)
            return

        from audit.config import load_config
        from audit.runs.model_diagnostics import diagnose_model

        flags = flag.data_and_model_overrides(
            data=data,
            model=model,
            architecture=architecture,
            mean=mean,
            std=std,
            trust=trust,
            image_size=image_size,
            crop=crop,
            grayscale=grayscale,
            labels_map=labels_map,
            strict=strict,
            seed=seed,
            device=device,
        )
        found = diagnose_model(load_config(config, overrides=flag.overrides(flags)))
        voice.give(_as_document(found), lambda: _show_model(found, voice))
        if any(one.fine is False for one in found.examined):
            raise typer.Exit(1)


def _show(examined: tuple[Diagnostic, ...], voice: Terminal, bad: str, so_so: str) -> None:
    from rich.markup import escape

    for one in examined:
        mark = MARKS[one.fine].format(bad=bad, so_so=so_so)
        voice.out.print(f"{mark}  [bold]{one.what}[/]  {escape(one.found)}", soft_wrap=True)


def _show_model(found: ModelDiagnostics, voice: Terminal) -> None:
    from rich.markup import escape

    _show(found.examined, voice, "doubt  ", "note  ")
    voice.out.print(f"\nRight on {found.n} test images:")
    for fit in found.fits:
        share = "refused" if fit.accuracy is None else f"{fit.accuracy:7.0%}"
        voice.out.print(f"  {share}  {escape(fit.preparation)}", soft_wrap=True)


def _as_document(found: ModelDiagnostics) -> dict[str, object]:
    return {
        "examined": [vars(one) for one in found.examined],
        "images": found.n,
        "preparations": [vars(fit) for fit in found.fits],
        "advice": found.advice,
    }
