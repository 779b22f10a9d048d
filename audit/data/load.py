"""From a source as the user writes it ("folder:pets") to a data set: one file a format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module

from audit.core.errors import DataError, unknown_name
from audit.data.dataset import Dataset
from audit.data.label_map import remap_labels
from audit.data.options import Loader, LoadOptions
from audit.data.preprocessing import Flip, Preprocessing, apply_preprocessing
from audit.data.sampling import balanced_subset
from audit.data.transforms import resize

FORMATS: Mapping[str, tuple[str, str]] = {
    "sample": ("audit.data.formats.idx:load_sample", ""),
    "digits": ("audit.data.formats.digits:load_digits", ""),
    "fashion-mnist": ("audit.data.formats.idx:load_fashion_mnist", "DIR"),
    "mnist": ("audit.data.formats.idx:load_mnist", "DIR"),
    "cifar10": ("audit.data.formats.cifar:load_cifar10", "DIR"),
    "folder": ("audit.data.formats.folder:load_folder", "DIR"),
    "manifest": ("audit.data.formats.manifest:load_manifest", "FILE"),
    "archive": ("audit.data.formats.archive:load_archive", "FILE"),
    "webdataset": ("audit.data.formats.webdataset:load_webdataset", "DIR"),
    "image": ("audit.data.formats.image:load_image", "FILE[=LABEL]"),
    "hf": ("audit.data.formats.hf:load_hf", "DIR"),
    "npz": ("audit.data.formats.npz:load_npz", "FILE"),
}
"""Each format: what reads it, and what must follow its colon."""

PICTURES = ("folder", "manifest", "archive", "webdataset", "image", "hf")
"""The formats whose images are picture files of any size: a crop is taken where each is decoded."""


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
) -> Dataset:
    """The data set `source` names ("sample", "mnist:DIR", "npz:FILE", ...), in the size and colour asked for.

    `train_examples` keeps at most that many training images, balanced over the classes. Unreadable images are
    skipped and told in `notes`; `strict` makes them an error. `labels_map` is a file that puts the classes into the
    model's order; `crop` is the share of each picture that is kept (`LoadOptions`), `rotate` and `flip` as
    `Preprocessing` says. Raises DataError, or UsageError for an unknown format.
    """
    wish = LoadOptions(image_size, grayscale, strict, crop)
    loader, place = _resolve(source)
    dataset = loader(place, wish)
    if source.partition(":")[0] not in PICTURES:
        dataset = apply_preprocessing(dataset, Preprocessing(crop))
    dataset = apply_preprocessing(resize(dataset, wish), Preprocessing(None, rotate, flip))
    if labels_map is not None:
        dataset = remap_labels(dataset, labels_map)
    if dataset.train is None or train_examples is None:
        return dataset
    return replace(dataset, train=balanced_subset(dataset.train, train_examples, seed=0))


def described_formats() -> tuple[str, ...]:
    """Every source as a user writes it: "sample", "mnist:DIR", ..."""
    return tuple(f"{name}:{what}" if what else name for name, (_, what) in FORMATS.items())


def _resolve(source: str) -> tuple[Loader, str]:
    name, colon, place = source.partition(":")
    if name not in FORMATS:
        raise unknown_name("data source", source, described_formats())
    path, what = FORMATS[name]
    if what and not place:
        raise DataError(f"The data source {name!r} needs a place: write {name}:{what}.")
    if colon and not what:
        raise DataError(f"The data source {name!r} takes no place after a colon, but {source!r} was given.")
    module, function = path.split(":")
    loader: Loader = getattr(import_module(module), function)
    return loader, place
