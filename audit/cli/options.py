"""The flags that several commands share, and how they become a configuration."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from audit.core.errors import UsageError

AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.", rich_help_panel="Output")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Errors only.", rich_help_panel="Output")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="More detail; tracebacks.", rich_help_panel="Output")]
NoColor = Annotated[bool, typer.Option("--no-color", help="Plain text.", rich_help_panel="Output")]

ConfigFile = Annotated[
    Path | None, typer.Argument(help="An audit.toml; flags go over it, a preset under it.", show_default=False)
]
Data = Annotated[
    str | None,
    typer.Option(
        "--data",
        help="sample, digits, fashion-mnist:DIR, mnist:DIR, cifar10:DIR, folder:DIR, npz:FILE, manifest:FILE, "
        "archive:FILE, webdataset:DIR, hf:DIR, image:FILE=LABEL.",
        show_default="sample",
    ),
]
ImageSize = Annotated[
    int | None,
    typer.Option("--image-size", help="Resize images to this height and width; a checkpoint made here says its own."),
]
Crop = Annotated[
    float | None,
    typer.Option(
        "--crop",
        help="Keep the middle square of each picture, this share of its shorter side: .875 is ImageNet's 224 of 256.",
        show_default="the whole, squeezed",
    ),
]
Grayscale = Annotated[bool | None, typer.Option("--grayscale", help="One channel instead of three.")]
LabelsMap = Annotated[
    str | None, typer.Option("--labels-map", help="A file that lists the classes in the model's order.")
]
Strict = Annotated[
    bool | None, typer.Option("--strict", help="An unreadable image is an error, not skipped and listed.")
]
Architecture = Annotated[
    str | None,
    typer.Option(
        "--architecture", help="A zoo name, torchvision:NAME, timm:NAME, or FILE.py:FUNCTION (needs --trust)."
    ),
]
Model = Annotated[
    str | None,
    typer.Option("--model", help="A .safetensors, .pt, .onnx or .keras file, or hf:FOLDER; trained here when absent."),
]
Mean = Annotated[
    str | None,
    typer.Option("--mean", help="The mean the model expects subtracted, one value or one a channel: .5,.5,.5"),
]
Std = Annotated[str | None, typer.Option("--std", help="The standard deviation it expects divided by.")]
Trust = Annotated[
    list[Path] | None, typer.Option("--trust", help="Run this file's code; its SHA-256 is recorded. Repeatable.")
]
Preset = Annotated[str | None, typer.Option("--preset", help="quick, standard or full.", show_default="quick")]
Seed = Annotated[int | None, typer.Option("--seed", min=0, help="Root of every random draw.", show_default="0")]
Device = Annotated[str | None, typer.Option("--device", help="auto, cpu, cuda, cuda:1, mps.", show_default="auto")]
Run = Annotated[Path, typer.Argument(help="A run folder, or its audit.json.")]
Detail = Annotated[
    str | None,
    typer.Option("--detail", help="normal: 16 images in the gallery; high: 200, all explained.", show_default=False),
]
Images = Annotated[
    bool | None, typer.Option("--images/--no-images", help="Pictures in the report, or none.", show_default="images")
]
Only = Annotated[
    list[str] | None,
    typer.Option("--only", help="Measure accuracy, robustness, corruptions or explanations alone. Repeatable."),
]
Runs = Annotated[Path, typer.Argument(help="A folder that holds run folders, at most four levels down.")]
Out = Annotated[Path, typer.Option("--out", help="The run folder: document, report, models, store.")]
NormFlag = Annotated[str | None, typer.Option("--norm", help="linf, l2 or l1.", show_default="linf")]
EpsFlag = Annotated[
    str | None, typer.Option("--eps", help="The verdict's eps in pixel range, as 0.1 or 8/255.", show_default=False)
]
Battery = Annotated[str | None, typer.Option("--battery", help="quick, standard, autoattack or full.")]
Examples = Annotated[int | None, typer.Option("--examples", min=1, help="Attack and corrupt this many test images.")]
Harden = Annotated[
    bool | None,
    typer.Option("--harden/--no-harden", help="Train a hardened model and audit it too.", show_default="harden"),
]
Pretrained = Annotated[
    str | None,
    typer.Option(
        "--pretrained",
        help="Start from these weights, all but the last layer: a file, or torchvision for those of torchvision:NAME "
        "in torch's cache.",
        show_default=False,
    ),
]
TensorBoard = Annotated[
    bool | None,
    typer.Option("--tensorboard", help="Event files in OUT/models while training (extra tensorboard)."),
]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers", min=1, help="Processes that share every batch: parts of the CPU, or a GPU each.", show_default="1"
    ),
]
TimeBudget = Annotated[
    str | None,
    typer.Option(
        "--time-budget", help="As 90s, 12m or 1.5h: fewer epochs when the first steps show they will not fit."
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="Any configuration key: --set explanations.examples=8. Repeatable."),
]


def overrides(flags: Mapping[str, Any], settings: Sequence[str] | None = None) -> dict[str, Any]:
    """A nested configuration from flags named by dotted key (None is left out) and `--set key=value`s."""
    nested: dict[str, Any] = {}
    for key, value in flags.items():
        if value is not None:
            _put(nested, key, value)
    for setting in settings or ():
        key, equals, text = setting.partition("=")
        if not equals:
            raise UsageError(f"--set {setting!r} is not KEY=VALUE, as in --set explanations.examples=8.")
        _put(nested, key.strip(), _toml_value(text.strip()))
    return nested


def data_and_model_overrides(
    *,
    data: str | None,
    model: str | None = None,
    architecture: str | None,
    mean: str | None = None,
    std: str | None = None,
    trust: Sequence[Path] | None,
    image_size: int | None = None,
    crop: float | None = None,
    grayscale: bool | None = None,
    labels_map: str | None = None,
    strict: bool | None = None,
    seed: int | None,
    device: str | None = None,
) -> dict[str, Any]:
    """The flags that say what is worked on, by configuration key."""
    return {
        "data.source": data,
        "data.image_size": image_size,
        "data.crop": crop,
        "data.grayscale": grayscale,
        "data.labels_map": labels_map,
        "data.strict": strict,
        "model.weights": model,
        "model.architecture": architecture,
        "model.mean": parse_floats(mean, "--mean"),
        "model.std": parse_floats(std, "--std"),
        "model.trust": [{"path": str(path)} for path in trust] if trust else None,
        "seed": seed,
        "device": device,
    }


def evaluation_overrides(
    *,
    norm: str | None,
    eps: str | None,
    battery: str | None,
    examples: int | None,
    harden: bool | None,
    only: Sequence[str] | None,
    detail: str | None,
    images: bool | None,
) -> dict[str, Any]:
    """The flags that say what is measured, by configuration key. Raises UsageError for an unknown detail."""
    from audit.report.gallery_size import settings_of

    return {
        "robustness.norm": norm,
        "robustness.eps": eps,
        "robustness.battery": battery,
        "robustness.examples": examples,
        "corruptions.examples": examples,
        "hardening.enabled": harden,
        "only": only or None,
        "report.images": images,
        **settings_of(detail),
    }


def parse_floats(text: str | None, flag: str) -> tuple[float, ...] | None:
    """Comma-separated numbers. Raises UsageError."""
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"{flag} {text!r} is not a number or numbers with commas, as in {flag} 0.5,0.5,0.5.") from None


def parse_duration(text: str | None, flag: str) -> float | None:
    """A duration written as 90, 90s, 12m or 1.5h, in seconds. Raises UsageError."""
    if text is None:
        return None
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smh]?)\s*", text)
    if not match or float(match[1]) == 0:
        raise UsageError(f"{flag} {text!r} is not a duration: write 90s, 12m or 1.5h.")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]


def _put(nested: dict[str, Any], key: str, value: Any) -> None:
    *sections, last = key.split(".")
    for section in sections:
        nested = nested.setdefault(section, {})
        if not isinstance(nested, dict):
            raise UsageError(f"--set {key}: {section!r} is a value, not a table.")
    nested[last] = value


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return json.loads(json.dumps(text))
