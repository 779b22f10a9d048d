"""Zip and tar files read in place: nothing is unpacked, so nothing can land anywhere."""

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
from audit.data.dataset import Dataset
from audit.data.folder_layout import infer_layout
from audit.data.image_decoding import MOST_BYTES
from audit.data.image_files import Read, image_file_dataset, printable
from audit.data.options import LoadOptions

_MOST_MEMBERS = 5_000_000
_MOST_RATIO = 200
"""Pictures are compressed already; a member that grows more than this is a bomb."""


@dataclass(frozen=True)
class Archive:
    """The regular files of an archive by name, and a reader of them that several threads may call."""

    name: str
    members: tuple[str, ...]
    read: Read


def load_archive(place: str, wish: LoadOptions) -> Dataset:
    """A folder of pictures inside a .zip or .tar file, laid out as `audit.data.folder_layout` reads it."""
    archive = open_archive(Path(place))
    layout = infer_layout(archive.members, archive.name)

    def read(name: str) -> bytes:
        return archive.read(layout.base + name)

    return image_file_dataset(read, archive.name, layout.classes, layout.parts, wish, layout.notes)


def open_archive(path: Path) -> Archive:
    """The archive at `path`. Raises DataError for links, for names that lead out, for bombs and for damage."""
    if not path.is_file():
        raise DataError(f"No file {str(path)!r}; give a .zip or .tar file of pictures.")
    if zipfile.is_zipfile(path):
        return _zip(path)
    return _tar(path)


def _zip(path: Path) -> Archive:
    try:
        archive = zipfile.ZipFile(path)
        entries = {entry.filename: entry for entry in archive.infolist() if not entry.is_dir()}
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as fault:
        raise DataError(f"{path.name} is a damaged zip file ({fault}); copy or download it again.") from fault
    for name, entry in entries.items():
        kind = stat.S_IFMT(entry.external_attr >> 16)
        _require_plain(path.name, name, regular=kind in (0, stat.S_IFREG))
        if entry.flag_bits & 1:
            raise DataError(f"{path.name} is encrypted; unpack it and use folder:DIR.")
        if entry.file_size > min(MOST_BYTES, _MOST_RATIO * max(entry.compress_size, 4096)):
            raise DataError(
                f"{path.name} holds {printable(name)!r}, which unpacks to {entry.file_size:,} bytes: a bomb?"
            )
    _require_few(path.name, len(entries))

    def read(name: str) -> bytes:
        try:
            return archive.read(entries[name])
        except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError) as fault:
            raise OSError(0, f"damaged in its archive: {fault}") from fault

    return Archive(printable(path.name), tuple(entries), read)


def _tar(path: Path) -> Archive:
    places = dict(_tar_places(path))
    file = os.open(path, os.O_RDONLY)

    def read(name: str) -> bytes:
        start, size = places[name]
        return os.pread(file, size, start)

    return Archive(printable(path.name), tuple(places), read)


def _tar_places(path: Path) -> Iterator[tuple[str, tuple[int, int]]]:
    """Where the bytes of each regular file lie."""
    try:
        with tarfile.open(path, "r:") as archive:
            for count, member in enumerate(archive, start=1):
                _require_few(path.name, count)
                if member.isdir():
                    continue
                _require_plain(path.name, member.name, regular=member.isreg())
                if member.size > MOST_BYTES:
                    raise DataError(
                        f"{path.name} holds {printable(member.name)!r} of {member.size:,} bytes; no picture."
                    )
                yield member.name.removeprefix("./"), (member.offset_data, member.size)
    except (tarfile.TarError, OSError, EOFError, ValueError) as fault:
        raise DataError(
            f"{path.name} is no zip file and no uncompressed tar file ({fault}). Unpack it and use folder:DIR."
        ) from fault


def _require_plain(archive: str, name: str, *, regular: bool) -> None:
    steps = name.replace("\\", "/").split("/")
    if not regular or ".." in steps or name.startswith(("/", "\\")) or ":" in steps[0] or "\0" in name:
        what = "leads out of the archive" if regular else "is a link or a device"
        raise DataError(f"{archive} holds {printable(name)!r}, which {what}; it is not read. Ask where it comes from.")


def _require_few(archive: str, count: int) -> None:
    if count > _MOST_MEMBERS:
        raise DataError(f"{archive} holds over {_MOST_MEMBERS:,} files; split it, or unpack it and use folder:DIR.")
