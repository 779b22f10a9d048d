"""What a model's outputs are called: read from the files in which such lists are kept, and matched with classes."""

from __future__ import annotations

import ast
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audit.core.errors import DataError, nearest
from audit.data.plain_text import read_plain_text

_WORDNET = re.compile(r"(n\d{8})[\s,:]+(?P<rest>.+)")
_NUMBER_FIRST = re.compile(r"\{?\s*(?P<number>\d+)\s*[\s,;:]\s*(?P<name>.+?)[\s,}]*")
_NUMBER_LAST = re.compile(r"(?P<name>.+?)\s*[\s,;:]\s*(?P<number>\d+)")
_HEADERS = frozenset("name names class classes label labels category categories class_name class_names".split())
_UNDER = ("id2label", "idx_to_class", "index_to_class", "label2id", "class_to_idx", "classes", "labels", "names")
"""Keys of a JSON object below which the names stand."""


@dataclass(frozen=True)
class OutputNames:
    """The names of a model's outputs: words to show, which may be the same for two outputs, and others for each.

    Attributes:
        shown: The name of each output, in their order.
        aliases: What else each output is called, such as a WordNet number or synonyms.
    """

    shown: tuple[str, ...]
    aliases: tuple[tuple[str, ...], ...]


def read_output_names(path: Path) -> OutputNames:
    """Read a list of class names.

    Args:
        path: A text file with a name a line in the model's order, perhaps with its number before or after it; or JSON:
            a list of names, or an object from number to name (or to a list of names), or from name to number, perhaps
            under "id2label".

    Raises:
        DataError: It cannot be read or is no such list.
    """
    try:
        text = read_plain_text(path)
    except (OSError, UnicodeDecodeError) as fault:
        reason = fault.strerror if isinstance(fault, OSError) else "it is not UTF-8 text"
        raise DataError(f"Cannot read the labels map {str(path)!r}: {reason}.") from fault
    if path.suffix.lower() != ".json":
        return _checked(_lines_of(text, path.name), path.name)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as fault:
        raise DataError(f"{path.name} is not JSON ({str(fault)[:80]}).") from fault
    return _checked(_from_json(content, path.name), path.name)


def plain_names(names: Sequence[str]) -> OutputNames:
    """The names that a model brings, with the synonyms between the commas of each.

    Args:
        names: A name for each output.
    """
    return OutputNames(tuple(names), tuple(_synonyms(name) for name in names))


def outputs_of(classes: Sequence[str], names: OutputNames, source: str) -> list[int | None]:
    """The output of each class: that called so as it stands, else by an alias, else but for case; None for none.

    Args:
        classes: Class names of the data; two may be the same only where the outputs have the same two names there.
        names: The names of the outputs.
        source: Where the names come from, for errors.

    Raises:
        DataError: A class fits several outputs, or two classes fit one.
    """
    levels: list[dict[str, list[int]]] = [{}, {}, {}]
    for output, (shown, aliases) in enumerate(zip(names.shown, names.aliases, strict=True)):
        for level, words in enumerate(((shown,), (shown, *aliases), map(_folded, (shown, *aliases)))):
            for word in dict.fromkeys(words):
                levels[level].setdefault(word, []).append(output)
    same_length = len(classes) == len(names.shown)
    outputs: list[int | None] = []
    for number, name in enumerate(classes):
        fitting = next((found for level in levels[:2] if (found := level.get(name))), levels[2].get(_folded(name), []))
        if len(fitting) > 1 and same_length and names.shown[number] == name:
            fitting = [number]
        if len(fitting) > 1:
            raise DataError(
                f"{source} gives the name {name!r} to the outputs {' and '.join(map(str, fitting[:4]))}, and the data "
                "has a class of that name: which of them it is cannot be told. Call the data's class, and that output "
                "in a file for --labels-map, by a name that stands once."
            )
        outputs.append(fitting[0] if fitting else None)
    twice = next((output for output, n in Counter(outputs).items() if n > 1 and output is not None), None)
    if twice is not None:
        both = [name for name, output in zip(classes, outputs, strict=True) if output == twice]
        raise DataError(
            f"The classes {' and '.join(map(repr, both[:3]))} of the data are one output of {source}, number {twice}; "
            "one class for each was expected."
        )
    return outputs


def no_place(name: str, count: int, names: OutputNames, taken: Sequence[str], source: str) -> DataError:
    """The error of a class that no output is called.

    Args:
        name: The class.
        count: How many classes are such.
        names: The names of the outputs.
        taken: The classes of the data.
        source: Where the names come from.
    """
    unused = [shown for shown in names.shown if shown not in taken]
    return DataError(
        f"{source} has no place for the class {name!r} ({count} such).{nearest(name, unused)} "
        f"It names {', '.join(names.shown[:6])}. List every class of the data in the model's order."
    )


def _lines_of(text: str, name: str) -> OutputNames:
    """Names a line, without comments, a header and quotes; or the list that stands on a single line."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("# ")]
    if len(lines) == 1:
        try:
            return _from_json(ast.literal_eval(lines[0]), name)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            lines = [part.strip() for part in re.split("[,;\t]", lines[0]) if part.strip()]
    if len(lines) > 2 and lines[0].strip("'\"").casefold() in _HEADERS:
        lines = lines[1:]
    if all(len(line) > 2 and line[0] == line[-1] and line[0] in "'\"" for line in lines):
        lines = [line[1:-1] for line in lines]
    return _from_lines(lines)


def _from_lines(lines: Sequence[str]) -> OutputNames:
    for form in (_NUMBER_FIRST, _NUMBER_LAST):
        matches = [form.fullmatch(line) for line in (lines[1:] if _has_header(lines, form) else lines)]
        numbers = [int(match["number"]) if match else -1 for match in matches]
        start = min(numbers, default=-1)
        several = len({match["name"] for match in matches if match}) > 1  # "class 0", "class 1" are names
        if several and start in (0, 1) and sorted(numbers) == list(range(start, start + len(numbers))):
            by_number = {n: match["name"].strip("'\" ") for n, match in zip(numbers, matches, strict=True) if match}
            literal = dict(zip(numbers, lines[-len(numbers) :], strict=True))
            ordered = sorted(by_number)
            return _with_wordnet([by_number[n] for n in ordered], [literal[n] for n in ordered])
    return _with_wordnet(lines, lines)


def _has_header(lines: Sequence[str], form: re.Pattern[str]) -> bool:
    return len(lines) > 2 and not form.fullmatch(lines[0])


def _with_wordnet(names: Sequence[str], literal: Sequence[str]) -> OutputNames:
    """Names such as "n01440764 tench, Tinca tinca" are shown without their number, which is an alias."""
    matches = [_WORDNET.fullmatch(name) for name in names]
    if not all(matches):
        return OutputNames(tuple(names), tuple((*_synonyms(n), line) for n, line in zip(names, literal, strict=True)))
    shown = tuple(match["rest"] for match in matches if match)
    numbers = [match[1] for match in matches if match]
    return OutputNames(
        shown, tuple((n, *_synonyms(s), line) for n, s, line in zip(numbers, shown, literal, strict=True))
    )


def _synonyms(name: str) -> tuple[str, ...]:
    parts = tuple(part.strip() for part in name.split(","))
    return parts if len(parts) > 1 else ()


def _from_json(content: Any, name: str) -> OutputNames:
    if isinstance(content, Mapping):
        inner = next((content[key] for key in _UNDER if isinstance(content.get(key), (list, Mapping))), None)
        content = content if inner is None else inner
    if isinstance(content, list) and content and all(isinstance(entry, Mapping) for entry in content):
        content = {entry.get("id"): entry.get("name") for entry in content}
    if isinstance(content, list):
        return _of_entries(content, name)
    if not isinstance(content, Mapping) or not content:
        raise _no_map(name)
    by_key = {number: value for key, value in content.items() if (number := _whole(key)) is not None}
    if len(by_key) == len(content) and not all(type(value) is int for value in content.values()):
        return _of_entries([by_key[n] for n in _counting(list(by_key), name)], name)
    by_value = {number: str(key) for key, value in content.items() if (number := _whole(value)) is not None}
    if len(by_value) == len(content):
        return _of_entries([by_value[n] for n in _counting(list(by_value), name)], name)
    raise _no_map(name)


def _whole(value: Any) -> int | None:
    """The whole number from 0 that a value of JSON is, as 3, 3.0 or "3"; None for any other."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = "" if isinstance(value, bool) else str(value)
    return int(text) if re.fullmatch("[0-9]{1,7}", text) else None


def _counting(numbers: list[int], name: str) -> list[int]:
    """The numbers in order. Raises DataError where they leave one out, or count from 1 as folders are called."""
    ordered = sorted(numbers)
    if ordered != list(range(len(ordered))):
        raise DataError(f"{name} numbers the model's outputs {ordered[:6]}; 0, 1, 2, ... without a gap were expected.")
    return ordered


def _of_entries(entries: Sequence[Any], name: str) -> OutputNames:
    """Each entry is a name, or a list of names of which the last is shown."""
    if not all(isinstance(entry, str) for entry in entries):
        if not all(isinstance(e, list) and e and all(isinstance(word, str) for word in e) for e in entries):
            raise _no_map(name)
        return OutputNames(tuple(e[-1] for e in entries), tuple((*e[:-1], *_synonyms(e[-1])) for e in entries))
    return plain_names(entries)


def _no_map(name: str) -> DataError:
    return DataError(
        f"{name} is no labels map; class names, one a line, a JSON list of them, or a JSON object from name to number "
        "or from number to name was expected."
    )


def _checked(names: OutputNames, source: str) -> OutputNames:
    if len(names.shown) < 2:
        raise DataError(
            f"{source} numbers the model's outputs {list(range(len(names.shown)))}; 0, 1, 2, ... without a gap, two at "
            "least, were expected."
        )
    return names


def _folded(name: str) -> str:
    """Alike for "Polar_bear", "polar bear" and "polar-bear"."""
    return re.sub(r"[\s_-]+", " ", unicodedata.normalize("NFC", name).casefold()).strip()
