"""A folder of images on disk."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from audit.core.errors import DataError
from audit.core.note import Note, note
from audit.core.registry import data_format
from audit.data.dataset import Dataset, LoadOptions
from audit.data.folder_layout import infer_layout
from audit.data.folder_metadata import folder_metadata
from audit.data.image_files import image_file_dataset, reader_below
from audit.data.image_survey import printable
from audit.data.litter import is_litter
from audit.data.text_tables import read_text_table


@data_format(argument="DIR", images=True)
def folder(path: str, options: LoadOptions) -> Dataset:
    """A folder with a folder of images for each class, perhaps inside train and test (or validation) folders.

    Args:
        path: The folder, read as `audit.data.folder_layout` says.
        options: Size, colour and crop of the images.

    Raises:
        DataError: When the folder cannot be read or is no data set.
    """
    root = Path(path)
    if not root.is_dir():
        raise DataError(f"No folder {path!r}; give the one that holds a folder of images for each class.")
    name = printable(root.resolve().name)
    dangling: list[str] = []
    entries = list(_entries(root, "", frozenset(), dangling))
    links = tuple(_link_notes([link for link in dangling if not is_litter(link)]))
    if links and options.strict:
        raise DataError(f"{links[0]} --strict makes that an error.")
    metadata = folder_metadata(entries, lambda entry: read_text_table(root / entry))
    try:
        layout = infer_layout([entry for entry in entries if entry not in metadata.used], name)
    except DataError as fault:
        raise DataError(" ".join(map(str, (fault, *links)))) from fault
    cells, said = metadata.beside(layout)
    notes = (*layout.notes, *links, *said)
    read = reader_below(root / layout.base)
    return image_file_dataset(read, name, layout.classes, layout.files_by_split, options, notes, cells=cells)


def _link_notes(dangling: Sequence[str]) -> Iterator[Note]:
    if dangling:
        yield note(
            "data_dangling",
            "Links that lead to no file were left aside: {count}, such as {first}. Git annex, DVC and caches keep "
            "files behind such links: fetch them, or copy what the links lead to.",
            count=len(dangling),
            first=printable(dangling[0]),
        )


def _entries(root: Path, inside: str, above: frozenset[str], dangling: list[str]) -> Iterator[str]:
    """Regular files and folders below `root`, relative; links are followed, but never in a circle.

    Links that lead nowhere are added to `dangling`.
    """
    real = os.path.realpath(root / inside)
    if real in above:
        return
    try:
        entries = sorted(os.scandir(root / inside), key=lambda entry: os.fsencode(entry.name))
    except OSError as fault:
        raise DataError(f"The folder {printable(inside) or '.'!r} cannot be read ({fault.strerror}).") from fault
    for entry in entries:
        path = f"{inside}{entry.name}"
        if entry.is_dir():
            yield f"{path}/"
            yield from _entries(root, f"{path}/", above | {real}, dangling)
        elif entry.is_file():
            yield path
        elif entry.is_symlink():
            dangling.append(path)
