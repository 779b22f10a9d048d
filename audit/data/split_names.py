"""The words by which folders, files and columns name the parts of a data set: train, validation, test."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Literal

SplitPart = Literal["train", "test", "validation"]

_TRAIN = ("train", "training", "trn", "trainval")
_TEST = ("test", "testing", "tst", "holdout", "pred", "predict", "prediction")
_VALIDATION = ("validation", "valid", "val", "dev", "development", "eval", "evaluation")
_PARTS: dict[str, SplitPart] = {
    **dict.fromkeys(_TRAIN, "train"),
    **dict.fromkeys(_TEST, "test"),
    **dict.fromkeys(_VALIDATION, "validation"),
}
_BY_RANK = (*_TRAIN, *_TEST, *_VALIDATION)
_FILLERS = frozenset(
    "a the of set sets split splits part parts folder dir data dataset datasets image images img imgs picture pictures "
    "photo photos pic pics file files sample samples seg class classes cls crops public private".split()
)
_GLUED = sorted(("set", "data", "dataset", "images", "image", "imgs", "split"), key=len, reverse=True)


def part_of(name: str) -> SplitPart | None:
    """The part that a folder, a file or a cell of this name is.

    Args:
        name: "train", "Testing", "val_set", "seg_train", "trainingImages", "test1", ...

    Returns:
        The part; None where the name says anything else besides.
    """
    part, rest = part_within(name)
    return None if rest else part


def split_of(name: str) -> str | None:
    """The part that a folder or a split of this name belongs to, validation counting as test.

    Args:
        name: As for `part_of`.

    Returns:
        "train", "test", or None for a name of neither.
    """
    part = part_of(name)
    return "test" if part == "validation" else part


def is_part_word(name: str) -> bool:
    """Whether a name is the word for a part and nothing else: "train", "Testing", "val".

    Args:
        name: The name of a folder.
    """
    return name.strip().lower() in _PARTS


def part_within(name: str) -> tuple[SplitPart | None, tuple[str, ...]]:
    """The part that a name begins or ends with, and what else it says.

    Args:
        name: "flowers_train", "train-flowers", "train", ...

    Returns:
        The part or None, and the other words in lower case, without numbers and words such as "set" and "images".
    """
    words = [word for word in _words(name) if word not in _FILLERS and not word.isdigit()]
    parts = [word for word in words if word in _PARTS]
    if len(parts) == 2 and {_PARTS[word] for word in parts} == {"train", "validation"}:
        parts, words = parts[:1], [word for word in words if word != parts[1]]
    if len(parts) != 1 or parts[0] not in (words[0], words[-1]):
        return None, tuple(words)
    words.remove(parts[0])
    return _PARTS[parts[0]], tuple(words)


def by_rank(names: Sequence[str]) -> list[str]:
    """Names of parts in the order in which they are preferred: test before validation, the plain word first.

    Args:
        names: Names that `part_within` knows.
    """

    def rank(name: str) -> tuple[int, int, str]:
        ranks = [_BY_RANK.index(word) for word in _words(name) if word in _PARTS]
        return (min(ranks, default=len(_BY_RANK)), len(name), name)

    return sorted(names, key=rank)


def _words(name: str) -> list[str]:
    """Lower-case words and numbers of a name, "trainImages", "hold-out" and "trainset" taken apart."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", unicodedata.normalize("NFC", name))
    text = re.sub(r"hold[\W_]*out", "holdout", spaced.lower())
    return [word for found in re.findall(r"[^\W\d_]+|\d+", text) for word in _unglued(found)]


def _unglued(word: str) -> list[str]:
    stems = (word.removesuffix(filler) for filler in _GLUED if word.endswith(filler))
    return next(([stem] for stem in stems if stem in _PARTS), [word])
