"""Finds the files that a list or a table names, as other systems and programs spell them."""

from __future__ import annotations

import os
import posixpath
import unicodedata
from collections import Counter
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from urllib.parse import unquote

from audit.core.errors import DataError
from audit.core.note import Note, note
from audit.data.image_decoding import IMAGE_SUFFIXES
from audit.data.image_survey import printable
from audit.data.litter import is_litter
from audit.data.relative_paths import is_absolute, posix_path, relative_path, scheme_of

_MOST_FILES = 2_000_000
_STEPS_ABOVE = 3


class NamedFiles:
    """The files below a folder, by the names that a list has for them.

    A name is tried as it stands; then in the other Unicode form and with %20 read as a space; then, where it is an
    absolute path of another machine, by its last steps; then as a name without its ending or without its folder, which
    counts only where one file alone fits.
    """

    def __init__(self, base: Path, source: str) -> None:
        """Look below a folder.

        Args:
            base: The folder.
            source: What the list is called, for errors.
        """
        self._base = base
        self._source = source
        self._counts: Counter[str] = Counter()
        self._examples: dict[str, tuple[str, str]] = {}
        self._moved_from = ""

    def find(self, name: str, where: str) -> str:
        """The relative path of a file; that of the name itself where there is no such file.

        Args:
            name: The name in the list.
            where: The place in the list, for errors: "list.csv, line 3".

        Raises:
            DataError: The name is an address, leads outside the folder, or fits several files.
        """
        if scheme := scheme_of(name):
            raise DataError(
                f"{where}: {printable(name[:80])!r} is an address ({scheme}), and nothing is downloaded here; download "
                "the files and name them relative to the list's folder."
            )
        path = relative_path(name, self._base)
        if path is None:
            path = self._moved(posix_path(name))
            if path is None:
                raise DataError(
                    f"{where}: {printable(name)!r} leads outside the folder of {self._source}; name files relative to "
                    "it, and put the list beside or above the images."
                )
            return self._noted("moved", name, path)
        if self._is_file(path):
            return path
        for spelled in _spellings(path):
            if self._is_file(spelled):
                return spelled
        return self._from_above(path, where) or self._completed(path, where)

    def notes(self) -> Iterator[Note]:
        """What was completed or moved to find the files."""
        if count := self._counts["moved"]:
            name, path = self._examples["moved"]
            yield note(
                "data_paths_moved",
                "Paths that lead to no file from the list's folder were found below it by their last steps: {count}, "
                "such as {path} for {name}.",
                count=count,
                name=printable(name),
                path=printable(path),
            )
        if count := self._counts["completed"]:
            name, path = self._examples["completed"]
            yield note(
                "data_paths_completed",
                "Names that are no paths were completed by the one file that fits each: {count}, such as {path} for "
                "{name}.",
                count=count,
                name=printable(name),
                path=printable(path),
            )

    def _from_above(self, path: str, where: str) -> str | None:
        """A file below this folder that is named from a folder above it. Raises DataError for one that lies beside."""
        for above in self._base.resolve().parents[:_STEPS_ABOVE]:
            if not _exists(above / path):
                continue
            inside = relative_path(str(above / path), self._base)
            if inside is None:
                raise DataError(
                    f"{where}: {printable(path)!r} lies beside the folder of {self._source}; put the list above the "
                    "images, and name them relative to it."
                )
            return self._noted("moved", path, inside)
        return None

    def _moved(self, path: str) -> str | None:
        """An absolute path of another machine below this folder: what follows the folder's own name, or two steps."""
        if not is_absolute(path) or os.path.exists(path) or "\0" in path:
            return None
        if self._moved_from and path.startswith(self._moved_from) and self._is_file(path[len(self._moved_from) :]):
            return path[len(self._moved_from) :]
        steps = posixpath.normpath(path).split("/")
        own = self._base.resolve().name
        for start in range(1, len(steps)):
            rest = "/".join(steps[start:])
            if (steps[start - 1] == own or len(steps) - start > 1) and self._is_file(rest):
                self._moved_from = "/".join(steps[:start]) + "/"
                return rest
        return None

    def _completed(self, path: str, where: str) -> str:
        """The one file of this name in another case, without its ending, or in another folder; else `path`."""
        key = _key(path)
        suffixed = posixpath.splitext(path)[1].lower() in IMAGE_SUFFIXES
        for fitting in (
            self._by_path.get(key, ()),
            () if suffixed else self._by_stem.get(key, ()),
            self._by_name.get(key, ()) if "/" not in path else (),
            self._by_last_stem.get(key, ()) if "/" not in path and not suffixed else (),
        ):
            if len(fitting) > 1:
                raise DataError(
                    f"{where}: {printable(path)!r} fits {len(fitting)} files ({printable(fitting[0])}, "
                    f"{printable(fitting[1])}); name each by its path from the list's folder."
                )
            if fitting:
                return self._noted("completed", path, fitting[0])
        return path

    def _noted(self, kind: str, name: str, path: str) -> str:
        self._counts[kind] += 1
        self._examples.setdefault(kind, (name, path))
        return path

    def _is_file(self, path: str) -> bool:
        return _exists(self._base / path)

    @cached_property
    def _pictures(self) -> tuple[str, ...]:
        paths: list[str] = []
        for folder, folders, files in os.walk(self._base):
            inside = os.path.relpath(folder, self._base).replace(os.sep, "/")
            folders[:] = sorted(name for name in folders if not is_litter(name))
            prefix = "" if inside == "." else f"{inside}/"
            paths += [prefix + n for n in sorted(files) if posixpath.splitext(n)[1].lower() in IMAGE_SUFFIXES]
            if len(paths) > _MOST_FILES:
                break
        return tuple(path for path in paths if not is_litter(path))

    @cached_property
    def _by_path(self) -> dict[str, list[str]]:
        return _grouped((_key(path), path) for path in self._pictures)

    @cached_property
    def _by_stem(self) -> dict[str, list[str]]:
        return _grouped((_key(posixpath.splitext(path)[0]), path) for path in self._pictures)

    @cached_property
    def _by_name(self) -> dict[str, list[str]]:
        return _grouped((_key(posixpath.basename(path)), path) for path in self._pictures)

    @cached_property
    def _by_last_stem(self) -> dict[str, list[str]]:
        return _grouped((_key(posixpath.splitext(posixpath.basename(path))[0]), path) for path in self._pictures)


def _exists(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # too long, or of characters that the system has no bytes for
        return False


def _spellings(path: str) -> Iterator[str]:
    decoded = unquote(path)
    for text in (path, decoded) if decoded != path else (path,):
        for form in ("NFC", "NFD"):
            spelled = unicodedata.normalize(form, text)
            if spelled != path and relative_path(spelled) == spelled:
                yield spelled


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _grouped(pairs: Iterator[tuple[str, str]]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for key, path in pairs:
        groups.setdefault(key, []).append(path)
    return groups
