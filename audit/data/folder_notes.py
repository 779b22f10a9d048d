"""What is said of a folder's layout: what lies where, and what is left aside."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence

from audit.core.note import Note, note
from audit.data.folder_parts import Parts, class_folders_of, copies_in
from audit.data.folder_tree import PICTURE_FOLDERS, Folder, Tree
from audit.data.image_survey import printable


def base_note(base: Folder) -> Iterator[Note]:
    """Say where the classes were found, where that is not the top.

    Args:
        base: The folder without wrappers.
    """
    if base.path:
        yield note("data_found_in", "The classes were found in {folder}.", folder=printable(base.path.rstrip("/")))


def layout_notes(tree: Tree, base: Folder, parts: Parts) -> Iterator[Note]:
    """Say what is not used, and which names could be read otherwise.

    Args:
        tree: Everything below the top.
        base: The folder without wrappers.
        parts: The parts found in it.
    """
    if parts.test is base and not parts.inside_classes:
        yield note("data_all_test", "The folder has no train and test parts: every image is used to test.")
    if parts.inside_classes:
        yield note(
            "data_parts_inside",
            "The parts lie inside the class folders: '{train}' is trained on and '{test}' tested on.",
            train=printable(parts.inside_classes["train"]),
            test=printable(parts.inside_classes["test"]),
        )
    used = (parts.test or parts.train or base).path[len(base.path) :].rstrip("/")
    for folder in parts.unused:
        yield note(
            "data_folder",
            "The folder '{name}' is not used: the test part is '{used}'.",
            name=printable(folder.name),
            used=printable(used),
        )
    roots = [root for root in {id(root): root for root in (parts.test, parts.train) if root}.values()]
    for folder in (copy for root in roots for copy in copies_in(root).values()):
        yield note(
            "data_copy",
            "The folder '{name}' is not used: it holds folders of the same names as those beside it.",
            name=printable(folder.path[len(base.path) :].rstrip("/")),
        )
    masks = sum(inner.count for root in roots for one in class_folders_of(root).values() for inner in one.masks())
    if masks:
        yield note("data_masks_beside", "Masks beside the pictures of a class were left aside: {count}.", count=masks)
    for folder in parts.loose:
        yield note(
            "data_loose_part",
            "The folder '{name}' is not used: its pictures lie in no class folder ({count}).",
            name=printable(folder.name),
            count=folder.count,
        )
        for table in [table for table in tree.tables if table.startswith(folder.path)][:1]:
            yield note(
                "data_loose_table",
                "If {table} lists them with their labels, manifest:{table} reads them.",
                table=printable(table),
            )
    for folder in parts.doubtful:
        yield note("data_part_is_class", "The folder '{name}' is taken for a class.", name=printable(folder.name))
    outside = sum(len(folder.images) for folder in {id(f): f for f in (base, parts.test, parts.train) if f}.values())
    if outside:
        yield note("data_loose", "Pictures in no class folder were left aside: {count}.", count=outside)
    if sum(tree.litter.values()):
        listed = ", ".join(printable(name) for name, count in tree.litter.most_common(4) if count)
        yield note(
            "data_litter",
            "Pictures that systems made or hid were left aside: {count} ({listed}).",
            count=sum(tree.litter.values()),
            listed=listed,
        )
    if tree.endings:
        listed = ", ".join(f"{n} {printable(ending)}" for ending, n in tree.endings.most_common(4))
        yield note(
            "data_aside",
            "Files that are no images by their ending were left aside: {count} ({listed}).",
            count=sum(tree.endings.values()),
            listed=listed,
        )


def loose_pictures(folder: Folder, tables: Sequence[str]) -> str:
    """A sentence about pictures that lie in no class folder, with the way to load them; "" where there are none.

    Args:
        folder: The folder where class folders were expected.
        tables: Paths of tables that may list the pictures.
    """
    if not folder.images and len(folder.filled) == 1:
        (only,) = folder.filled
        if only.lower() not in PICTURE_FOLDERS and not folder.filled[only].filled:
            return (
                f" Every picture lies in {printable(only)!r} ({folder.count}): add a folder for each other class "
                "beside it, or, where these are of several classes, list them with their labels in a manifest:FILE.csv."
            )
    images = folder.images or [path for inner in folder.filled.values() for path in inner.images]
    if not images:
        return ""
    said = f" Pictures lie there in no class folder ({len(images)})"
    begins = Counter(re.split(r"[._\-\s\d]", path.rpartition("/")[2], maxsplit=1)[0] for path in images)
    words = [word for word, count in begins.most_common(4) if word and 10 * count >= len(images)]
    if 2 <= len(words) and sum(begins[word] for word in words) == len(images):
        said += f", whose names begin with {', '.join(printable(word) for word in words)}"
    tables = [table for table in tables if not table.endswith(".txt")] or [
        t for t in tables if folder.path and t.startswith(folder.path)
    ]
    if tables:
        return f"{said}; where {printable(tables[0])} lists them with their labels, give manifest:FILE."
    return f"{said}; move each into a folder of its class, or list them with their labels in a manifest:FILE.csv."


def what_lies_there(tree: Tree) -> str:
    """A sentence about a folder without any picture, by the endings of its files; "" where it is empty.

    Args:
        tree: Everything below the folder.
    """
    if tree.top.count or not tree.endings:
        return ""
    listed = ", ".join(f"{count} {printable(ending)}" for ending, count in tree.endings.most_common(4))
    remedy = next((way for endings, way in _WAYS if endings & tree.endings.keys()), "")
    return f" There is no picture, but: {listed}.{remedy}"


_WAYS = (
    ({".zip", ".tar"}, " Give an archive of class folders as archive:FILE, or unpack it."),
    ({".gz", ".tgz", ".7z", ".rar", ".bz2", ".xz"}, " Unpack the archive first."),
    ({".npz"}, " Arrays are read as npz:FILE."),
    ({".npy", ".mat", ".h5", ".hdf5"}, " Save the arrays with numpy.savez as x_test and y_test and give npz:FILE."),
    ({".parquet", ".arrow"}, " Tables of the Hugging Face Hub are read as hf:DIR."),
)
"""By the endings of the files, how they can be loaded."""
