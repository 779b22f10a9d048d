"""The syntax of VNN-LIB: lists in parentheses, names, numbers and linear terms."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from audit.core.errors import DataError

_TOKEN = re.compile(r"\s+|;[^\n]*|(?P<token>[()]|[^\s();\[\]]*\[[^\]();]*\]|[^\s();]+)")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE](?P<power>[+-]?\d+))?")
_VARIABLE = re.compile(r"([XY])_(\d+)")
_ELEMENT = re.compile(r"([^\[\]]*)\[([\d,]*)\]")
_TYPES = ("real", "float32")
_LARGEST_POWER = 400
_DEPTH = 200

Name = tuple[str, int] | None
"""("X", 3) for X_3; None for the constant part of a term."""


@dataclass(frozen=True)
class Syntax:
    """A word, or a list of such.

    Attributes:
        line: Where it begins, from 1.
        text: The word; "" for a list.
        words: The list; None for a word.
    """

    line: int
    text: str = ""
    words: Words | None = None

    def __str__(self) -> str:
        """The source, cut where it is long."""
        whole = self.text if self.words is None else "(" + " ".join(map(str, self.words[:6])) + ")"
        return whole if len(whole) <= 60 else whole[:57] + "..."


Words = tuple[Syntax, ...]


def parse_error(name: str, line: int, what: str) -> DataError:
    """The error for a line that is not VNN-LIB.

    Args:
        name: The file's name.
        line: The line, from 1.
        what: What is wrong, a sentence without its end.
    """
    return DataError(f"{name}, line {line}: {what}.")


def read_syntax(text: str, name: str) -> Iterator[Syntax]:
    """The statements of a text; comments run from a semicolon to the end of the line.

    Args:
        text: The text.
        name: The file's name, for errors.

    Raises:
        DataError: Parentheses do not match, or a word stands outside of them.
    """
    open_: list[tuple[int, list[Syntax]]] = []
    line = 1
    for match in _TOKEN.finditer(text):
        token = match["token"]
        if token == "(":
            open_.append((line, []))
            if len(open_) > _DEPTH:
                raise parse_error(name, line, f"lists are nested more than {_DEPTH} deep")
        elif token == ")":
            if not open_:
                raise parse_error(name, line, "a parenthesis is closed that was not opened")
            begin, words = open_.pop()
            closed = Syntax(begin, words=tuple(words))
            if open_:
                open_[-1][1].append(closed)
            else:
                yield closed
        elif token:
            token = "".join(token.split())
            if not open_:
                raise parse_error(name, line, f"{token[:40]!r} stands outside of parentheses")
            open_[-1][1].append(Syntax(line, token))
        line += match[0].count("\n")
    if open_:
        raise parse_error(name, open_[0][0], "a parenthesis that is opened here is never closed")


class TermReader:
    """Reads linear terms of declared variables."""

    def __init__(self, name: str) -> None:
        """Nothing is declared yet.

        Args:
            name: The file's name, for errors.
        """
        self.name = name
        self._declared: dict[str, tuple[str, int]] = {}
        self._tensors: dict[str, tuple[str, tuple[int, ...]]] = {}

    def declare(self, statement: Syntax) -> None:
        """Take a declaration.

        Args:
            statement: (declare-const X_0 Real) or (declare-fun X_0 () Real).

        Raises:
            DataError: It declares no real X or Y, or one twice.
        """
        words = statement.words or ()
        constant = words[0].text == "declare-const"
        shape_fits = len(words) == 3 if constant else len(words) == 4 and words[2].words == ()
        match = _VARIABLE.fullmatch(words[1].text) if len(words) > 1 else None
        if not shape_fits or match is None or words[-1].text != "Real":
            raise self._error(statement, f"{statement} is not (declare-const X_i Real) or (declare-const Y_j Real)")
        if words[1].text in self._declared:
            raise self._error(statement, f"{words[1].text} is declared twice")
        self._declared[words[1].text] = (match[1], int(match[2]))

    def declare_network(self, statement: Syntax) -> None:
        """Take the declaration of a network, of VNN-LIB 2.0.

        Args:
            statement: (declare-network f (declare-input X float32 [1,5]) (declare-output Y float32 [1,2])).

        Raises:
            DataError: It is no such declaration, or one of more than one network, input or output.
        """
        words = statement.words or ()
        if self._tensors:
            raise self._error(statement, "a second network is declared, where properties of one are decided")
        for part in words[2:]:
            fields = part.words or ()
            head = fields[0].text if fields else part.text
            kind = {"declare-input": "X", "declare-output": "Y"}.get(head)
            if kind is None:
                raise self._error(part, f"({head} ...) is not decided: only networks with an input and an output are")
            match = _ELEMENT.fullmatch(fields[3].text) if len(fields) >= 4 else None
            if match is None or match[1] or not fields[1].text:
                raise self._error(part, f"{part} is not ({head} NAME TYPE [SIZES])")
            if fields[2].text.lower() not in _TYPES:
                raise self._error(part, f"{fields[1]} is of type {fields[2]}, where {' or '.join(_TYPES)} was expected")
            if fields[1].text in self._tensors or kind in (letter for letter, _ in self._tensors.values()):
                raise self._error(
                    part, f"{fields[1]} is declared beside another of its kind; one input and one output are decided"
                )
            self._tensors[fields[1].text] = kind, tuple(int(size) for size in match[2].split(",") if size)
        if len(self._tensors) != 2:
            raise self._error(statement, "the network is declared without an input or without an output")

    def count(self, kind: str) -> int:
        """How many variables of a kind are declared.

        Args:
            kind: "X" or "Y".

        Raises:
            DataError: There are none, or a number is left out.
        """
        for letter, shape in self._tensors.values():
            if letter == kind:
                return math.prod(shape)
        numbers = {number for letter, number in self._declared.values() if letter == kind}
        lacking = next((i for i in range(len(numbers) + 1) if i not in numbers), 0)
        if lacking < len(numbers) or not numbers:
            raise DataError(f"{self.name}: {kind}_{lacking} is not declared; variables are numbered from {kind}_0 on.")
        return len(numbers)

    def value(self, term: Syntax) -> dict[Name, Fraction]:
        """A term as factors of variables and a constant.

        Args:
            term: A number, a variable, or +, -, * and / of terms.

        Raises:
            DataError: It is not linear, or names what is not declared.
        """
        if term.words is None:
            return self._word(term)
        if not term.words:
            raise self._error(term, "() is no term")
        sign, parts = term.words[0].text, [self.value(word) for word in term.words[1:]]
        if sign in ("+", "-") and parts:
            if sign == "-" and len(parts) == 1:
                return {key: -factor for key, factor in parts[0].items()}
            total = dict(parts[0])
            for part in parts[1:]:
                for key, factor in part.items():
                    total[key] = total.get(key, Fraction(0)) + (factor if sign == "+" else -factor)
            return total
        if sign in ("*", "/") and len(parts) >= 2:
            return self._product(term, sign, parts)
        raise self._error(term, f"{term} is not a number, a variable, or a sum or multiple of them")

    def _product(self, term: Syntax, sign: str, parts: list[dict[Name, Fraction]]) -> dict[Name, Fraction]:
        result = parts[0]
        for part in parts[1:]:
            if sign == "*" and set(result) <= {None}:
                result, part = part, result
            factor = part.get(None, Fraction(0))
            if set(part) > {None} or (set(part) and None not in part):
                raise self._error(term, f"{term} is not linear")
            if sign == "/" and factor == 0:
                raise self._error(term, f"{term} divides by zero")
            result = {key: value * factor if sign == "*" else value / factor for key, value in result.items()}
        return result

    def _word(self, word: Syntax) -> dict[Name, Fraction]:
        if word.text in self._declared:
            return {self._declared[word.text]: Fraction(1)}
        element = _ELEMENT.fullmatch(word.text)
        if element is not None:
            return {self._element(word, *element.groups()): Fraction(1)}
        match = _NUMBER.fullmatch(word.text)
        if match is None:
            what = "is not declared" if _VARIABLE.fullmatch(word.text) else "is neither a number nor a variable"
            raise self._error(word, f"{word} {what}")
        if abs(int(match["power"] or 0)) > _LARGEST_POWER:
            raise self._error(word, f"{word} is beyond the numbers that a net computes with")
        return {None: Fraction(word.text)}

    def _element(self, word: Syntax, name: str, places: str) -> Name:
        """The number of an element of a declared tensor, in the order of its memory."""
        if name not in self._tensors:
            raise self._error(word, f"{name or word} is not declared")
        kind, shape = self._tensors[name]
        index = tuple(int(place) for place in places.split(",") if place)
        if len(index) != len(shape) or any(i >= size for i, size in zip(index, shape, strict=False)):
            raise self._error(word, f"{word} is not an element of {name}, whose sizes are {list(shape)}")
        number = 0
        for i, size in zip(index, shape, strict=True):
            number = number * size + i
        return kind, number

    def _error(self, syntax: Syntax, what: str) -> DataError:
        return parse_error(self.name, syntax.line, what)
