"""Files and folders that systems, cameras and editors leave among pictures, and that are no data."""

from __future__ import annotations

_NAMES = frozenset(
    name.casefold()
    for name in (
        *("__MACOSX", "__pycache__", "lost+found", "$RECYCLE.BIN", "RECYCLER", "System Volume Information"),
        *("Thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "Picasa.ini", "Icon\r", "FOUND.000"),
        *("@eaDir", "@Recycle", "@Recently-Snapshot", "#recycle", "#snapshot", "Network Trash Folder"),
        *("Temporary Items", "_gsdata_", "node_modules"),
    )
)
_BEGINNINGS = (".", "~$", "@__thumb", "synofile_thumb", "synophoto_thumb")
_SYNOLOGY = "_SYN"
"""In capitals alone: _synthetic is a class."""


def is_litter(path: str) -> bool:
    """Whether a path leads to, or through, what a system left there: .DS_Store, @eaDir, Thumbs.db, any hidden name.

    Args:
        path: A relative path with forward slashes; a folder's may end in one.
    """
    return bool(litter_step(path))


def litter_step(path: str) -> str:
    """The first step of a path that a system left there; "" for none.

    Args:
        path: As for `is_litter`.
    """
    for step in path.split("/"):
        folded = step.casefold()
        if folded in _NAMES or folded.startswith(_BEGINNINGS) or step.startswith(_SYNOLOGY):
            return step
    return ""
