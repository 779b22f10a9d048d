"""`audit predict`: single pictures under a trained model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from audit.cli import options as flag
from audit.cli.terminal import Terminal, command_context

if TYPE_CHECKING:
    from audit.runs.predict import Prediction


def predict(
    images: Annotated[list[Path], typer.Argument(help="Picture files.", show_default=False)],
    model: Annotated[str, typer.Option("--model", help="A checkpoint, or hf:FOLDER.", show_default=False)],
    architecture: flag.Architecture = None,
    mean: flag.Mean = None,
    std: flag.Std = None,
    trust: flag.Trust = None,
    image_size: Annotated[
        int | None, typer.Option("--image-size", help="The size of the model's images, where its file does not say.")
    ] = None,
    crop: flag.Crop = None,
    rotate: Annotated[
        float | None,
        typer.Option("--rotate", help="Turn each picture, degrees counter-clockwise.", show_default="as the model's"),
    ] = None,
    flip: Annotated[
        str | None,
        typer.Option("--flip", help="Mirror each picture: none, horizontal, vertical.", show_default="as the model's"),
    ] = None,
    grayscale: flag.Grayscale = None,
    labels_map: flag.LabelsMap = None,
    explain: Annotated[
        str, typer.Option("--explain", help="An attribution method (see `audit methods`), auto or none.")
    ] = "auto",
    seed: flag.Seed = None,
    device: flag.Device = None,
    out: Annotated[Path, typer.Option("--out", help="The folder of the explanations.")] = Path("audit-predict"),
    as_json: flag.AsJson = False,
    quiet: flag.Quiet = False,
    verbose: flag.Verbose = False,
    no_color: flag.NoColor = False,
) -> None:
    """Say what a model sees in single pictures: the five likeliest classes, and where it looked.

    The explanation of the likeliest class is drawn over each picture, as OUT/PICTURE.METHOD.png: red raises the
    class, blue lowers it. auto takes Grad-CAM, integrated gradients or occlusion, the first that fits the model.
    Pictures are cropped, turned and mirrored as those of the model's run, unless --crop, --rotate or --flip are given.

    [bold]Examples[/]

      audit predict cat.jpg --model photos/models/standard.safetensors

      audit predict *.png --model net.pt --architecture cnn-32 --labels-map classes.txt --image-size 32 --explain lime
    """
    with command_context(as_json=as_json, quiet=quiet, verbose=verbose, no_color=no_color) as voice:
        from audit.config import load_config
        from audit.runs.predict import load_for_prediction, preparation_of, write_explanations
        from audit.runs.predict import predict as predict_pictures

        flags = flag.data_and_model_overrides(
            data=None,
            model=model,
            architecture=architecture,
            mean=mean,
            std=std,
            trust=trust,
            image_size=image_size,
            crop=crop,
            grayscale=grayscale,
            labels_map=labels_map,
            seed=seed,
            device=device,
        ) | {"data.rotate": rotate, "data.flip": flip}
        config = load_config(overrides=flag.overrides(flags))
        loaded = load_for_prediction(config.model, config.data, device=config.device, seed=config.seed)
        wish = preparation_of(config.model, config.data)
        found = predict_pictures(loaded, images, explain=explain, seed=config.seed, wish=wish)
        written = write_explanations(found, images, out)
        document = {"model": Path(model).name, "predictions": [_row(*one) for one in zip(found, written, strict=True)]}
        voice.give(document, lambda: _show(found, written, voice))


def _row(one: Prediction, place: Path | None) -> dict[str, Any]:
    top = [{"class": c.name, "index": c.index, "probability": round(c.probability, 6)} for c in one.top]
    explanation = {"method": one.method, "file": None if place is None else str(place), "reason": one.reason}
    return {"image": one.name, "top": top, "explanation": explanation if one.method else None}


def _show(found: Sequence[Prediction], written: Sequence[Path | None], voice: Terminal) -> None:
    from rich.markup import escape

    for one, place in zip(found, written, strict=True):
        voice.out.print(f"[bold]{escape(one.name)}[/]", soft_wrap=True)
        for candidate in one.top:
            voice.out.print(f"  {candidate.probability:>6.1%}  {escape(candidate.name)}", soft_wrap=True)
        if place is not None:
            voice.out.print(f"  explained by {one.method}: {escape(str(place))}", soft_wrap=True)
        elif one.method:
            voice.out.print(f"  not explained by {one.method}: {escape(one.reason)}", soft_wrap=True)
