"""WebDataset shards: tar files in which an image (.jpg), its label (.cls) and other facts (.json) have one name."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from audit.core.errors import DataError
from audit.core.note import Note
from audit.core.registry import data_format
from audit.data.class_labels import MISSING, class_labels
from audit.data.cohorts import group_columns, unread_note
from audit.data.dataset import Dataset, LoadOptions
from audit.data.formats.archive import Archive, open_archive
from audit.data.image_decoding import IMAGE_SUFFIXES
from audit.data.image_files import image_file_dataset
from audit.data.image_survey import ImageFile, printable
from audit.data.litter import is_litter
from audit.data.split_names import part_within

_LABELS = ("cls", "class", "label", "lbl", "cls.txt")
_MOST_LABEL = 200
"""Bytes."""


@data_format(argument="DIR", images=True)
def webdataset(path: str, options: LoadOptions) -> Dataset:
    """WebDataset shards: the .tar files of a folder, or one of them; labels stand in .cls files.

    Shards whose names begin with train are the training part, all others the test part. Labels that are numbers get
    their names from a labels map. Numbers, truth values and texts of .json files beside the pictures are kept to
    compare groups of images.

    Args:
        path: The folder of the shards, or one shard.
        options: Size, colour and crop of the images.

    Raises:
        DataError: When there are no shards, a sample has no label, or a shard is damaged.
    """
    root = Path(path)
    shards = sorted(root.glob("*.tar")) if root.is_dir() else [root]
    if not shards:
        raise DataError(f"{str(root)!r} holds no .tar shards; give their folder, or one of them.")
    archives = {shard.name: open_archive(shard) for shard in shards}
    unread: list[Note] = []
    samples = [
        (_split_of(name), *sample)
        for name, archive in archives.items()
        for sample in _labelled_images(name, archive, unread)
    ]
    labels = class_labels(
        [label for _, _, label, _ in samples],
        printable(root.name),
        strict=options.strict,
        place=lambda row: samples[row][1],
    )
    if len(labels.classes) < 2:
        raise DataError(f"Every label of the shards is {labels.classes[0]}; at least two classes were expected.")
    files_by_split: dict[str, list[ImageFile]] = {}
    for (split, image, _, _), label in zip(samples, labels.numbers, strict=True):
        if label != MISSING:
            files_by_split.setdefault(split, []).append(ImageFile(image, label))

    def read(name: str) -> bytes:
        shard, _, member = name.partition("/")
        return archives[shard].read(member)

    known = [facts for _, _, _, facts in samples]
    names = dict.fromkeys(name for facts in known for name in facts)
    nested = [name for name in names if any(isinstance(facts.get(name), (list, dict)) for facts in known)]
    cells, said = group_columns(
        [image for _, image, _, _ in samples],
        ((name, [facts.get(name) for facts in known]) for name in names if name not in nested),
        {file.name: file.label for files in files_by_split.values() for file in files},
        "json",
        aside=nested,
    )
    name, notes = printable(root.name), (*labels.notes, *unread[:1], *said)
    return image_file_dataset(read, name, labels.classes, files_by_split, options, notes, cells=cells)


def _split_of(shard: str) -> str:
    """The part that a shard belongs to by the beginning of its name, or by its last word; else "test"."""
    stem = shard.split(".")[0].rstrip("0123456789{}").rstrip("-_")
    part = part_within(stem)[0] or "test"
    return "train" if part == "train" else "test"


def _labelled_images(shard: str, archive: Archive, unread: list[Note]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """The path of each picture, the text of its label, and what its .json says; DataError where there is no label.

    What is to be said of .json files that cannot be read is added to `unread`.
    """
    pictures = 0
    for key, kinds in _samples(archive.members).items():
        images = [member for kind, member in kinds.items() if f".{kind}" in IMAGE_SUFFIXES]
        if not images:
            continue
        label = next((kinds[kind] for kind in _LABELS if kind in kinds), None)
        if label is None:
            raise DataError(
                f"{shard}: the sample {printable(key)!r} has no label; a .cls beside the picture was expected."
            )
        pictures += 1
        facts: dict[str, Any] = {}
        try:
            facts = _facts(archive, kinds["json"]) if "json" in kinds else {}
        except DataError as fault:
            unread.append(unread_note(kinds["json"], fault))
        yield f"{shard}/{images[0]}", archive.read(label)[:_MOST_LABEL].decode("utf-8", "backslashreplace"), facts
    if not pictures:
        raise DataError(f"{shard} holds no pictures with labels; NAME.jpg and NAME.cls were expected.")


def _facts(archive: Archive, member: str) -> dict[str, Any]:
    """The object of a .json file. Raises DataError where it is none."""
    try:
        facts = json.loads(archive.read(member))
    except (OSError, ValueError, RecursionError) as fault:
        raise DataError(f"it is not JSON ({str(fault)[:80]}); write it again.") from fault
    if not isinstance(facts, dict):
        raise DataError("it holds no JSON object, and one with a value a name was expected.")
    return facts


def _samples(members: Sequence[str]) -> dict[str, dict[str, str]]:
    """Members by sample and kind: before and after the first dot of the file name, by WebDataset's rule."""
    samples: dict[str, dict[str, str]] = {}
    for name in members:
        if is_litter(name):
            continue
        folder, _, last = name.rpartition("/")
        key, _, kind = last.partition(".")
        samples.setdefault(f"{folder}/{key}" if folder else key, {})[kind.lower()] = name
    return samples
