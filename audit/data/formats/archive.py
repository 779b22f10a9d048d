"""Image folders in zip and tar files, read without unpacking them."""

from __future__ import annotations

import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from audit.core.errors import DataError
from audit.core.registry import data_format
from audit.data.dataset import Dataset, LoadOptions
from audit.data.folder_layout import infer_layout
from audit.data.folder_metadata import folder_metadata
from audit.data.image_decoding import MOST_BYTES
from audit.data.image_files import image_file_dataset
from audit.data.image_survey import Read, printable
from audit.data.other_files import other_kind
from audit.data.relative_paths import relative_path
from audit.data.text_tables import TextTable, text_table_of

_MOST_MEMBERS = 5_000_000
_MOST_RATIO = 200
"""Pictures are compressed already; a member that grows more than this is a bomb."""


@dataclass(frozen=True)
class Archive:
    """The regular files of an archive.

    Attributes:
        name: The archive's file name.
        members: The names of its files, with forward slashes.
        read: Gives a file's bytes by name; several threads may call it. Raises OSError for a damaged file.
    """

    name: str
    members: tuple[str, ...]
    read: Read


@data_format(argument="FILE", images=True)
def archive(path: str, options: LoadOptions) -> Dataset:
    """A folder of images inside a .zip or uncompressed .tar file.

    A metadata.csv, .tsv or .jsonl beside the pictures is read too.

    Args:
        path: The archive; its folders are read as `audit.data.folder_layout` says.
        options: Size, colour and crop of the images.

    Raises:
        DataError: For a damaged or hostile archive, and for folders that are no data set.
    """
    opened = open_archive(Path(path))

    def table_of(member: str) -> TextTable:
        try:
            return text_table_of(opened.read(member), member)
        except OSError as fault:
            raise DataError(f"{printable(member)} cannot be read ({fault.strerror}).") from fault

    metadata = folder_metadata(opened.members, table_of)
    layout = infer_layout([member for member in opened.members if member not in metadata.used], opened.name)
    cells, said = metadata.beside(layout)

    def read(name: str) -> bytes:
        return opened.read(layout.base + name)

    notes = (*layout.notes, *said)
    return image_file_dataset(read, opened.name, layout.classes, layout.files_by_split, options, notes, cells=cells)


def open_archive(path: Path) -> Archive:
    """Open a zip or uncompressed tar file and list its files.

    Args:
        path: The archive.

    Raises:
        DataError: When it is damaged or encrypted, holds links or paths outside itself, or unpacks to far more than
            its size.
    """
    if not path.is_file():
        raise DataError(f"No file {str(path)!r}; give a .zip or .tar file of pictures.")
    if zipfile.is_zipfile(path):
        return _zip(path)
    if kind := other_kind(path):
        broken = kind.startswith("is a zip file")
        kind = "is a damaged zip file (its end is missing); copy or download it again" if broken else kind
        raise DataError(f"{printable(path.name)} is no archive of pictures: it {kind}.")
    return _tar(path)


def _zip(path: Path) -> Archive:
    try:
        zipped = zipfile.ZipFile(path)
        members = [entry for entry in zipped.infolist() if not entry.filename.endswith(("/", "\\"))]
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as fault:
        raise DataError(f"{path.name} is a damaged zip file ({fault}); copy or download it again.") from fault
    entries: dict[str, zipfile.ZipInfo] = {}
    for entry in members:
        kind = stat.S_IFMT(entry.external_attr >> 16)
        name = _plain_name(path.name, entry.filename, regular=kind in (0, stat.S_IFREG))
        entries[name] = entry
        if entry.flag_bits & 1:
            raise DataError(f"{path.name} is encrypted; unpack it and use folder:DIR.")
        if entry.file_size > min(MOST_BYTES, _MOST_RATIO * max(entry.compress_size, 4096)):
            raise DataError(
                f"{path.name} holds {printable(name)!r}, which unpacks to {entry.file_size:,} bytes: a bomb?"
            )
    _require_few(path.name, len(entries))

    def read(name: str) -> bytes:
        try:
            return zipped.read(entries[name])
        except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError) as fault:
            raise OSError(0, f"damaged in its archive: {fault}") from fault

    return Archive(printable(path.name), tuple(entries), read)


def _tar(path: Path) -> Archive:
    extents = dict(_tar_extents(path))
    file = os.open(path, os.O_RDONLY)

    def read(name: str) -> bytes:
        start, size = extents[name]
        return os.pread(file, size, start)

    return Archive(printable(path.name), tuple(extents), read)


def _tar_extents(path: Path) -> Iterator[tuple[str, tuple[int, int]]]:
    """Name, offset and size of each regular file."""
    try:
        with tarfile.open(path, "r:") as members:
            for count, member in enumerate(members, start=1):
                _require_few(path.name, count)
                if member.isdir():
                    continue
                name = _plain_name(path.name, member.name, regular=member.isreg())
                if member.size > MOST_BYTES:
                    raise DataError(
                        f"{path.name} holds {printable(member.name)!r} of {member.size:,} bytes; no picture."
                    )
                yield name, (member.offset_data, member.size)
    except (tarfile.TarError, OSError, EOFError, ValueError) as fault:
        raise DataError(
            f"{path.name} is no zip file and no uncompressed tar file ({fault}). Unpack it and use folder:DIR."
        ) from fault


def _plain_name(container: str, name: str, *, regular: bool) -> str:
    """The name of a member in its plainest form. Raises DataError for a link and for a path that leads out."""
    plain = relative_path(name)
    if not regular or plain is None:
        what = "leads out of the archive" if regular else "is a link or a device"
        raise DataError(
            f"{container} holds {printable(name)!r}, which {what}; it is not read. Ask where it comes from."
        )
    return plain


def _require_few(container: str, count: int) -> None:
    if count > _MOST_MEMBERS:
        raise DataError(f"{container} holds over {_MOST_MEMBERS:,} files; split it, or unpack it and use folder:DIR.")
