"""`audit predict`: single pictures under a trained model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from audit.cli.options import command
from audit.cli.terminal import Terminal

if TYPE_CHECKING:
    from audit.runs.predict import Prediction


@command("seed", "device", "data", "model", without=("data.source", "data.strict", "model.weights", "model.pretrained"))
def predict(
    terminal: Terminal,
    overrides: dict[str, Any],
    images: Annotated[list[Path], typer.Argument(help="Pictures, folders of them, or patterns.", show_default=False)],
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            help="A checkpoint, or hf:FOLDER; left out where --architecture FILE.py:FUNCTION returns a trained module.",
            show_default=False,
        ),
    ] = None,
    explain: Annotated[
        str, typer.Option("--explain", help="An attribution method (see `audit methods`), auto or none.")
    ] = "auto",
    out: Annotated[Path, typer.Option("--out", help="The folder of the explanations.")] = Path("audit-predict"),
) -> None:
    """Say what a model sees in single pictures: the five likeliest classes, and where it looked.

    The explanation of the likeliest class is drawn over each picture, as OUT/PICTURE.METHOD.png: red raises the
    class, blue lowers it. auto takes Grad-CAM, integrated gradients or occlusion, the first that fits the model.
    Pictures are cropped, turned and mirrored as those of the model's run, unless --crop, --rotate or --flip are given.

    [bold]Examples[/]

      audit predict cat.jpg --model photos/models/standard.safetensors

      audit predict photos --model net.safetensors --explain none

      audit predict *.png --model net.pt --architecture cnn-32 --labels-map classes.txt --image-size 32 --explain lime
    """
    from audit.config import load_config, merge
    from audit.runs.pictures import picture_files
    from audit.runs.predict import (
        doubts_of,
        load_for_prediction,
        predict_pictures,
        preparation_of,
        write_explanations,
    )

    images = picture_files(images)
    config = load_config(overrides=merge(overrides, {"model": {"weights": model}}))
    loaded = load_for_prediction(config.model, config.data, device=config.device, seed=config.seed)
    data = preparation_of(config.model, config.data)
    predictions = predict_pictures(loaded, images, explain=explain, seed=config.seed, data=data)
    paths = write_explanations(predictions, images, out)
    rows = [_row(prediction, path) for prediction, path in zip(predictions, paths, strict=True)]
    notes = [str(sentence) for sentence in doubts_of(loaded, images, data)]
    document = {"model": Path(model or config.model.architecture).name, "predictions": rows, "notes": notes}
    terminal.emit(document, lambda: _show(predictions, paths, notes, terminal))


def _row(prediction: Prediction, path: Path | None) -> dict[str, Any]:
    top = [{"class": c.name, "index": c.index, "probability": round(c.probability, 6)} for c in prediction.top]
    file = None if path is None else str(path)
    explanation = {"method": prediction.method, "file": file, "reason": prediction.reason}
    return {"image": prediction.name, "top": top, "explanation": explanation if prediction.method else None}


def _show(
    predictions: Sequence[Prediction], paths: Sequence[Path | None], notes: Sequence[str], terminal: Terminal
) -> None:
    from rich.markup import escape

    for sentence in notes:
        terminal.stdout.print(f"[yellow]note[/]  {escape(sentence)}", soft_wrap=True)

    for prediction, path in zip(predictions, paths, strict=True):
        terminal.stdout.print(f"[bold]{escape(prediction.name)}[/]", soft_wrap=True)
        for candidate in prediction.top:
            terminal.stdout.print(f"  {candidate.probability:>6.1%}  {escape(candidate.name)}", soft_wrap=True)
        if path is not None:
            terminal.stdout.print(f"  explained by {prediction.method}: {escape(str(path))}", soft_wrap=True)
        elif prediction.method:
            terminal.stdout.print(
                f"  not explained by {prediction.method}: {escape(prediction.reason)}", soft_wrap=True
            )
