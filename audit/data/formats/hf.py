"""A Hugging Face data set on disk: Parquet files as the Hub stores them, or Arrow files as save_to_disk writes them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from audit.core.errors import DataError
from audit.core.note import Note, note
from audit.core.registry import data_format
from audit.data.class_labels import MISSING, class_labels
from audit.data.cohorts import group_columns
from audit.data.dataset import Dataset, LoadOptions
from audit.data.formats.hf_tables import TABLE_SUFFIXES, Cache, Table
from audit.data.image_files import image_file_dataset
from audit.data.image_survey import ImageFile, printable
from audit.data.litter import is_litter
from audit.data.split_names import by_rank, part_within

_MOST_FILES = 100_000


@data_format(argument="DIR", images=True, columns=True)
def hf(path: str, options: LoadOptions) -> Dataset:
    """A Hugging Face data set on disk: .parquet or .arrow files; nothing is downloaded and no script is run.

    A file's split is its name up to the number of its shard, or its folder's: train, test, else validation. The columns
    are `image` (bytes) and `label` (a ClassLabel, a whole number or a name); others of numbers, truth values or texts
    are kept to compare groups of images.

    Args:
        path: The folder of the files, or one of them.
        options: Size, colour and crop of the images, and the columns where they have other names.

    Raises:
        DataError: For a folder without such files, a damaged file, or labels that are no classes.
    """
    root, single = Path(path), None
    if root.is_file() and root.suffix in TABLE_SUFFIXES:
        root, single = root.parent, root
    if not root.is_dir():
        raise DataError(f"No folder {path!r}; give a local Hugging Face data set, with .parquet or .arrow files.")
    name, cache = printable((single or root).resolve().name), Cache()

    def opened(files: Sequence[Path]) -> dict[str, Table]:
        return {str(file.relative_to(root)): Table(file, cache, options.columns) for file in files}

    used, notes = _train_and_test({_split_name(single.name): [single]} if single else _by_split(root), opened)
    listed = {table.names for files in used.values() for table in files.values()}
    if len(listed) > 1:
        raise DataError("The files name different classes; one list of classes in all of them was expected.")
    rows = [
        (split, f"{file}/{row}", value)
        for split, files in used.items()
        for file, table in files.items()
        for row, value in enumerate(table.labels())
    ]
    if not rows:
        raise DataError("The tables hold no rows; one a picture was expected.")
    labels = class_labels(
        [value for _, _, value in rows],
        name,
        names=listed.pop(),
        strict=options.strict,
        place=lambda row: "{}, row {}".format(*rows[row][1].rsplit("/", 1)),
    )
    if len(labels.classes) < 2:
        raise DataError(f"The data has the single label {labels.classes[0]!r}; at least two classes were expected.")
    files_by_split: dict[str, list[ImageFile]] = {}
    for (split, image, _), label in zip(rows, labels.numbers, strict=True):
        if label != MISSING:
            files_by_split.setdefault(split, []).append(ImageFile(image, label))
    by_file = {file: table for files in used.values() for file, table in files.items()}
    scalars = dict.fromkeys(column for table in by_file.values() for column in table.scalars)
    texts = [column for column in scalars if any(table.is_free_text(column) for table in by_file.values())]
    cells, said = group_columns(
        [image for _, image, _ in rows],
        (
            (column, [cell for table in by_file.values() for cell in table.values(column)])
            for column in scalars
            if column not in texts
        ),
        {file.name: file.label for files in files_by_split.values() for file in files},
        name,
        aside=[*dict.fromkeys(column for table in by_file.values() for column in table.nested), *texts],
    )

    def read(image: str) -> bytes:
        file, _, row = image.rpartition("/")
        return by_file[file].image_bytes(int(row))

    said = (*notes, *labels.notes, *said)
    return image_file_dataset(read, name, labels.classes, files_by_split, options, said, cells=cells)


def _by_split(root: Path) -> dict[str, list[Path]]:
    """The table files by the name of their split. Raises DataError when two folders hold the same split."""
    splits: dict[str, list[Path]] = {}
    for path in sorted(path for suffix in TABLE_SUFFIXES for path in root.rglob(f"*{suffix}")):
        inside = path.relative_to(root).as_posix()
        if not path.name.startswith("cache-") and not is_litter(inside) and path.is_file():
            splits.setdefault(_split_name(inside), []).append(path)
    if not splits or sum(map(len, splits.values())) > _MOST_FILES:
        raise DataError(
            f"{printable(root.name)!r} holds no .parquet or .arrow files; give a data set as the Hub stores it or as "
            "save_to_disk writes it. A folder of pictures is folder:DIR."
        )
    for split, paths in splits.items():
        folders = sorted({path.parent.name for path in paths})
        if len({path.parent for path in paths}) > 1:
            raise DataError(
                f"The {split} split of {printable(root.name)!r} lies in several folders ({', '.join(folders[:4])}); "
                "give one of these configurations alone."
            )
    return splits


def _split_name(inside: str) -> str:
    """The name of the split of a file, by its own name or a folder's; "test" when neither says."""
    *folders, file = inside.split("/")
    stem = re.sub(r"[-_.\d]+(of[-_\d]+)?\.(parquet|arrow)$", "", file)
    words = (re.split(r"[-_.]", file)[0], stem, *reversed(folders))
    return next((word for word in words if part_within(word)[0] is not None), "test")


def _train_and_test(
    splits: Mapping[str, Sequence[Path]], opened: Callable[[Sequence[Path]], dict[str, Table]]
) -> tuple[dict[str, dict[str, Table]], tuple[Note, ...]]:
    """The files to train on and to test on: the test split, else, or where it has no labels, the validation split."""
    parts = {word: part_within(word)[0] for word in splits}
    tests = by_rank([word for word in splits if parts[word] != "train"])
    unlabelled: list[str] = []
    used: dict[str, dict[str, Table]] = {}
    test = next(iter(tests), None)
    for word in tests:
        tables = opened(splits[word])
        if any(map(_labelled, tables.values())):
            used, test = {"test": tables}, word
            break
        unlabelled.append(word)
    if test is not None and not used:
        used, unlabelled = {"test": opened(splits[test])}, [word for word in unlabelled if word != test]
    train = next(iter(by_rank([word for word in splits if parts[word] == "train"])), None)
    if train is not None:
        used["train"] = opened(splits[train])
    unused = sorted(set(splits) - {test, train})
    return used, (
        *(
            note("data_split_unlabelled", "The split '{name}' has no labels and is not used.", name=printable(word))
            for word in unlabelled
        ),
        *(
            note(
                "data_split",
                "The split '{name}' is not used: the test part is '{used}'.",
                name=printable(word),
                used=printable(test or ""),
            )
            for word in unused
            if word not in unlabelled
        ),
    )


def _labelled(table: Table) -> bool:
    return any(value is not None and value != -1 for value in table.labels())
