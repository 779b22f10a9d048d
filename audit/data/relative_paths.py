"""Paths as others write them, as relative POSIX paths: one function for archives, lists and tables."""

from __future__ import annotations

import os
import posixpath
import re
from functools import lru_cache
from pathlib import Path

_DRIVE = re.compile(r"[A-Za-z]:(?=/)")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/{2,}")


def scheme_of(path: str) -> str:
    """The scheme of an address such as https://host/cat.jpg in lower case, "" for a path or a file: address.

    Args:
        path: What stands where a path is expected.
    """
    match = _SCHEME.match(path.strip())
    return "" if match is None or match[1].lower() == "file" else match[1].lower()


def relative_path(path: str, base: Path | None = None) -> str | None:
    """A path in its plainest relative form: forward slashes, no ".", no "..".

    Args:
        path: A path of any system: "./a/b.png", "a\\b.png", "c/../a/b.png", "file:///x/a/b.png", or an absolute one.
        base: The folder that it is relative to, and that an absolute path must lie in; None where there is none, as
            inside an archive.

    Returns:
        The path relative to the folder; None for one that leads outside, or names no file.
    """
    text = posix_path(path)
    if "\0" in text or not text.strip("./"):
        return None
    if is_absolute(text):
        return None if base is None else _below(text, base)
    plain = posixpath.normpath(text)
    if not plain.startswith("../"):
        return None if plain in (".", "..") else plain
    return None if base is None else _below(posixpath.join(os.path.abspath(base), text), base)


def posix_path(path: str) -> str:
    """A path with forward slashes, without "file://".

    Args:
        path: A path of any system.
    """
    text = path.strip().replace("\\", "/")
    match = _SCHEME.match(text)
    if match and match[1].lower() == "file":
        text = "/" + text[match.end() :].removeprefix("localhost/")
        text = text[1:] if _DRIVE.match(text[1:]) else text
    return text


def is_absolute(path: str) -> bool:
    """Whether a path begins at a root or a drive.

    Args:
        path: A path with forward slashes.
    """
    return path.startswith("/") or bool(_DRIVE.match(path))


def _below(path: str, base: Path) -> str | None:
    """`path` relative to `base`, by its words or, where folders on the way are links, by where they lead."""
    roots = _roots(os.path.abspath(base))
    for root in roots:
        if posixpath.normpath(path).startswith(root):
            return posixpath.normpath(path)[len(root) :]
    folder, name = posixpath.split(path)
    if not _DRIVE.match(path) or os.name == "nt":
        real = posixpath.join(os.path.realpath(folder).replace(os.sep, "/"), name)
        return next((real[len(root) :] for root in roots if real.startswith(root)), None)
    return None


@lru_cache
def _roots(base: str) -> tuple[str, ...]:
    """An absolute folder as it is written and as it is without links, with a slash at the end."""
    roots = (base, os.path.realpath(base))
    return tuple(dict.fromkeys(root.replace(os.sep, "/").rstrip("/") + "/" for root in roots))
