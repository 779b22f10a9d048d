"""WebDataset shards: tar files whose members come in groups, a picture (.jpg) and its label (.cls) of one name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from audit.core.errors import DataError
from audit.data.dataset import Dataset
from audit.data.folder_layout import part_of
from audit.data.formats.archive import Archive, open_archive
from audit.data.image_decoding import ENDINGS
from audit.data.image_files import ImageFile, image_file_dataset, printable
from audit.data.options import LoadOptions


def load_webdataset(place: str, wish: LoadOptions) -> Dataset:
    """The shards *.tar of a folder, or one shard. Labels are whole numbers in .cls; names come by a labels map.

    A shard whose name begins with train is to train on, any other to test. Raises DataError for a sample without a
    label.
    """
    root = Path(place)
    shards = sorted(root.glob("*.tar")) if root.is_dir() else [root]
    if not shards:
        raise DataError(f"{str(root)!r} holds no .tar shards; give their folder, or one of them.")
    archives = {path.name: open_archive(path) for path in shards}
    parts: dict[str, list[ImageFile]] = {}
    for name, archive in archives.items():
        part = part_of(name.split(".")[0].rstrip("0123456789").rstrip("-_")) or "test"
        parts.setdefault(part, []).extend(_files(name, archive))
    if "test" not in parts:
        raise DataError("Every shard's name begins with train; a test shard was expected beside them.")
    highest = max(file.label for files in parts.values() for file in files)
    if highest < 1:
        raise DataError("Every label of the shards is 0; at least two classes were expected.")

    def read(name: str) -> bytes:
        shard, _, member = name.partition("/")
        return archives[shard].read(member)

    classes = tuple(str(label) for label in range(highest + 1))
    return image_file_dataset(read, printable(root.name), classes, parts, wish)


def _files(shard: str, archive: Archive) -> Sequence[ImageFile]:
    found = []
    for key, kinds in _samples(archive.members).items():
        pictures = [member for kind, member in kinds.items() if f".{kind}" in ENDINGS]
        if not pictures:
            continue
        if "cls" not in kinds:
            raise DataError(
                f"{shard}: the sample {printable(key)!r} has no label; a .cls beside the picture was expected."
            )
        found.append(ImageFile(f"{shard}/{pictures[0]}", _label(archive.read(kinds["cls"]), shard, key)))
    if not found:
        raise DataError(f"{shard} holds no pictures with labels; NAME.jpg and NAME.cls were expected.")
    return found


def _samples(members: Sequence[str]) -> dict[str, dict[str, str]]:
    """Members by sample and kind: before and after the first dot of the file name, by WebDataset's rule."""
    found: dict[str, dict[str, str]] = {}
    for name in members:
        folder, _, last = name.rpartition("/")
        key, _, kind = last.partition(".")
        found.setdefault(f"{folder}/{key}" if folder else key, {})[kind.lower()] = name
    return found


def _label(body: bytes, shard: str, key: str) -> int:
    text = body[:20].decode("ascii", "replace").strip()
    if not text.isdigit() or int(text) >= 100_000:
        raise DataError(f"{shard}: the label of {printable(key)!r} is {text!r}; a whole number from 0 was expected.")
    return int(text)
