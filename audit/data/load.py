"""Loading a data set from its source as a user writes it: sample, folder:DIR, npz:FILE."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

from audit.core.errors import DataError, UsageError, unknown_name
from audit.core.image_options import Interpolation, PixelRange, Transparency
from audit.core.note import note
from audit.core.registry import Method, methods
from audit.data.dataset import NO_COLUMNS, Columns, Dataset, LoadOptions
from audit.data.hold_out import divided
from audit.data.image_decoding import IMAGE_SUFFIXES
from audit.data.label_map import remap_labels
from audit.data.other_files import other_kind
from audit.data.sampling import balanced_subset
from audit.data.transforms import Flip, Preprocessing, apply_preprocessing, resize


def load_dataset(
    source: str,
    *,
    image_size: int | None = None,
    grayscale: bool = False,
    train_examples: int | None = None,
    strict: bool = False,
    labels_map: str | None = None,
    crop: float | None = None,
    rotate: float = 0.0,
    flip: Flip = "none",
    interpolation: Interpolation | None = None,
    transparency: Transparency = "drop",
    pixel_range: PixelRange | None = None,
    columns: Columns = NO_COLUMNS,
    test_share: float | None = None,
    seed: int = 0,
) -> Dataset:
    """Load the data set that `source` names, in the size and colour asked for.

    Args:
        source: A registered data format and what follows its colon: "sample", "mnist:DIR", "shapes:size=64".
        image_size: Height and width in pixels; None leaves the images as they are.
        grayscale: Give one channel instead of three.
        train_examples: Keep at most this many training images, balanced over the classes; None keeps all.
        strict: Raise an error for an unreadable image, which is otherwise skipped and named in `Dataset.notes`.
        labels_map: A file that lists the classes in the model's order.
        crop: Share in (0, 1] of each image that is kept (see `LoadOptions`); None keeps all.
        rotate: Degrees counter-clockwise by which evaluation images are rotated.
        flip: How evaluation images are mirrored.
        interpolation: The filter of resizing; None for bilinear.
        transparency: What becomes of transparent pixels (see `LoadOptions`).
        pixel_range: The values that are black and white; None finds them (see `LoadOptions`).
        columns: The columns of a table of images; those of usual names by default.
        test_share: Share in (0, 1) of each class held out to test where the data has a single part; None holds none
            out, and everything is tested on.
        seed: Root of the draw of those.

    Raises:
        DataError: When the data cannot be read, or what follows the colon is missing or superfluous.
        UsageError: For an unknown format or setting of one.
    """
    options = LoadOptions(image_size, grayscale, strict, crop, interpolation, transparency, pixel_range, columns)
    method, argument, settings = _parse(source)
    _require_kind(method, argument)
    _require_columns(method, columns)
    dataset = method.function(argument, options, **settings)
    if method.facts["boxes"]:
        return _with_most(dataset, train_examples)
    dataset = divided(dataset, test_share, seed)
    if not method.facts["images"]:
        dataset = apply_preprocessing(dataset, Preprocessing(crop))
    dataset = apply_preprocessing(resize(dataset, options), Preprocessing(None, rotate, flip))
    if pixel_range is not None and dataset.pixel_range is None:
        unused = note("data_range_unused", "No image has more than 8 bits: --pixel-range changes nothing.")
        dataset = replace(dataset, notes=(*dataset.notes, unused))
    if labels_map is not None:
        dataset = remap_labels(dataset, labels_map)
    return _with_most(dataset, train_examples)


def format_of(source: str) -> Method:
    """The format that a source names. Raises UsageError for an unknown one.

    Args:
        source: As for `load_dataset`.
    """
    return _parse(source)[0]


def _with_most(dataset: Dataset, train_examples: int | None) -> Dataset:
    if dataset.train is None or train_examples is None:
        return dataset
    return replace(dataset, train=balanced_subset(dataset.train, train_examples, seed=0))


def described_formats() -> tuple[str, ...]:
    """Every registered source as a user writes it: "sample", "mnist:DIR", "shapes[:KEY=VALUE,...]"."""
    return tuple(_described(method) for method in methods("data-format"))


def _described(method: Method) -> str:
    if method.defaults:
        return f"{method.name}[:KEY=VALUE,...]"
    argument = method.facts["argument"]
    return f"{method.name}:{argument}" if argument else method.name


def _parse(source: str) -> tuple[Method, str, Mapping[str, object]]:
    """The format that `source` names, what follows the colon, and the settings written there."""
    name, colon, argument = source.partition(":")
    method = {method.name: method for method in methods("data-format")}.get(name)
    if method is None:
        raise _without_format(source) or unknown_name("data source", source, described_formats())
    expected = method.facts["argument"]
    if expected and not argument:
        raise DataError(f"The data source {name!r} needs a place: write {name}:{expected}.")
    if method.defaults:
        return method, "", method.settings(_settings(argument, name)) if argument else method.defaults
    if colon and not expected:
        raise DataError(f"The data source {name!r} takes no place after a colon, but {source!r} was given.")
    return method, argument, {}


_COMPRESSED = (".gz", ".tgz", ".bz2", ".xz")
_BY_ENDING = {
    ".npz": "npz",
    **dict.fromkeys((".zip", ".tar", *_COMPRESSED), "archive"),
    **dict.fromkeys((".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".txt"), "manifest"),
    **dict.fromkeys(IMAGE_SUFFIXES, "image"),
    **dict.fromkeys((".parquet", ".arrow"), "hf"),
}
"""By the ending of a file, the format that reads it."""


def _require_kind(method: Method, argument: str) -> None:
    """Raises DataError where a format of folders is given a file, or one of files a folder, with what reads it."""
    expected, path = method.facts["argument"], Path(argument)
    try:
        differs = (expected == "DIR" and path.is_file()) or (str(expected).startswith("FILE") and path.is_dir())
    except (OSError, ValueError):  # too long for a path, or not one
        return
    right = _format_of_path(path) if differs else None
    if differs and right != method.name and method.name not in _OF_BOTH:
        kind, wanted = ("file", "folder") if expected == "DIR" else ("folder", "file")
        remedy = f"write {right}:{argument}." if right else f"give a {wanted}."
        raise DataError(f"{argument!r} is a {kind}, and {method.name}: reads a {wanted}; {remedy}")


_OF_BOTH = ("webdataset", "hf")
"""Formats of folders that read one of their files, too."""


def _format_of_path(path: Path) -> str | None:
    """The format that reads a folder or a file, by its ending; None for others."""
    if path.is_dir():
        return "folder"
    return _BY_ENDING.get(path.suffix.lower()) if path.is_file() else None


def _without_format(source: str) -> UsageError | None:
    """The error for a place that is there but whose format is not named; None where there is no such place."""
    if not source:
        return None
    path = Path(source)
    try:
        name, unread = _format_of_path(path), other_kind(path) if path.is_file() else ""
    except (OSError, ValueError):  # too long for a path, or not one
        return None
    if unread and (name is None or path.suffix.lower() in _COMPRESSED):
        return UsageError(f"{source!r} {unread}.")
    if name is None and path.suffix.lower() in _BY_ENDING and not path.exists():
        reader = _BY_ENDING[path.suffix.lower()]
        return UsageError(f"There is no file {source!r}; where it is, its format comes first: {reader}:{source}.")
    if name is None:
        return None
    kind = "a folder" if path.is_dir() else "a file"
    return UsageError(f"{source!r} is {kind}, and its format comes first: write {name}:{source}.")


def _require_columns(method: Method, columns: Columns) -> None:
    """Raises UsageError where columns are chosen for a format that has none."""
    chosen = [name for name, value in asdict(columns).items() if value is not None]
    if chosen and not method.facts["columns"]:
        tables = [other.name for other in methods("data-format") if other.facts["columns"]]
        raise UsageError(
            f"--{chosen[0]}-column chooses a column of {' or '.join(tables)} data, and {method.name!r} has no columns; "
            "leave it out."
        )


def _settings(text: str, name: str) -> dict[str, str]:
    pairs = [part.partition("=") for part in text.split(",")]
    if not all(key and equals for key, equals, _ in pairs):
        raise DataError(f"The settings {text!r} of the data source {name!r} are not written KEY=VALUE,KEY=VALUE.")
    return {key.strip(): value.strip() for key, _, value in pairs}
