"""WebDataset shards: tar files in which an image (.jpg) and its label (.cls) have the same name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from audit.core.errors import DataError
from audit.core.registry import data_format
from audit.data.dataset import Dataset, LoadOptions
from audit.data.folder_layout import split_of
from audit.data.formats.archive import Archive, open_archive
from audit.data.image_decoding import IMAGE_SUFFIXES
from audit.data.image_files import image_file_dataset
from audit.data.image_survey import ImageFile, printable


@data_format(argument="DIR", images=True)
def webdataset(path: str, options: LoadOptions) -> Dataset:
    """WebDataset shards: the .tar files of a folder, or one of them; labels are whole numbers in .cls files.

    Shards whose names begin with train are the training part, all others the test part. Class names come from a
    labels map.

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
    files_by_split: dict[str, list[ImageFile]] = {}
    for name, archive in archives.items():
        split = split_of(name.split(".")[0].rstrip("0123456789").rstrip("-_")) or "test"
        files_by_split.setdefault(split, []).extend(_image_files(name, archive))
    if "test" not in files_by_split:
        raise DataError("Every shard's name begins with train; a test shard was expected beside them.")
    highest = max(file.label for files in files_by_split.values() for file in files)
    if highest < 1:
        raise DataError("Every label of the shards is 0; at least two classes were expected.")

    def read(name: str) -> bytes:
        shard, _, member = name.partition("/")
        return archives[shard].read(member)

    classes = tuple(str(label) for label in range(highest + 1))
    return image_file_dataset(read, printable(root.name), classes, files_by_split, options)


def _image_files(shard: str, archive: Archive) -> Sequence[ImageFile]:
    files = []
    for key, kinds in _samples(archive.members).items():
        images = [member for kind, member in kinds.items() if f".{kind}" in IMAGE_SUFFIXES]
        if not images:
            continue
        if "cls" not in kinds:
            raise DataError(
                f"{shard}: the sample {printable(key)!r} has no label; a .cls beside the picture was expected."
            )
        files.append(ImageFile(f"{shard}/{images[0]}", _label(archive.read(kinds["cls"]), shard, key)))
    if not files:
        raise DataError(f"{shard} holds no pictures with labels; NAME.jpg and NAME.cls were expected.")
    return files


def _samples(members: Sequence[str]) -> dict[str, dict[str, str]]:
    """Members by sample and kind: before and after the first dot of the file name, by WebDataset's rule."""
    samples: dict[str, dict[str, str]] = {}
    for name in members:
        folder, _, last = name.rpartition("/")
        key, _, kind = last.partition(".")
        samples.setdefault(f"{folder}/{key}" if folder else key, {})[kind.lower()] = name
    return samples


def _label(body: bytes, shard: str, key: str) -> int:
    text = body[:20].decode("ascii", "replace").strip()
    if not text.isdigit() or int(text) >= 100_000:
        raise DataError(f"{shard}: the label of {printable(key)!r} is {text!r}; a whole number from 0 was expected.")
    return int(text)
