"""Verification instances in VNN-LIB 1.0 and 2.0: bounds on inputs, comparisons of outputs, joined by `and` and `or`.

A property is satisfied by an input of one of its boxes whose outputs meet all constraints of one of the box's
conjunctions. Numbers are exact fractions until they are computed with.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from audit.bounds.packed_file import is_packed, reading
from audit.bounds.vnnlib_terms import Syntax, TermReader, parse_error, read_syntax
from audit.core.errors import DataError

CASES = 20_000
"""Alternatives that a property may have once `and` and `or` are multiplied out."""


@dataclass(frozen=True)
class OutputConstraint:
    """A linear inequality between outputs: coefficients times outputs is at most `limit`.

    Attributes:
        coefficients: The numbers of outputs, each with its factor.
        limit: The constant.
        strict: Whether equality does not count.
    """

    coefficients: tuple[tuple[int, Fraction], ...]
    limit: Fraction
    strict: bool = False

    def holds(self, outputs: list[float]) -> bool:
        """Whether outputs meet it, without rounding.

        Args:
            outputs: All outputs of the net, finite.
        """
        value = sum((c * Fraction(outputs[i]) for i, c in self.coefficients), Fraction(0))
        return value < self.limit if self.strict else value <= self.limit


@dataclass(frozen=True)
class InputBox:
    """A box of inputs, and what it asks for there.

    Attributes:
        low: The lower end of every input.
        high: The upper ends, none below its lower end.
        conjunctions: Alternatives; each asks for all its constraints at once.
        open_low: The inputs whose lower end does not belong to the box.
        open_high: Those whose upper end does not.
    """

    low: tuple[Fraction, ...]
    high: tuple[Fraction, ...]
    conjunctions: tuple[tuple[OutputConstraint, ...], ...]
    open_low: frozenset[int] = frozenset()
    open_high: frozenset[int] = frozenset()


@dataclass(frozen=True)
class VerificationProperty:
    """What an instance asks: does an input of a box exist whose outputs meet a conjunction of the box.

    Attributes:
        inputs: The number of inputs, X_0 on.
        outputs: The number of outputs, Y_0 on.
        boxes: The alternatives, at least one.
    """

    inputs: int
    outputs: int
    boxes: tuple[InputBox, ...]


class _Bound(NamedTuple):
    """An input at most (or at least) a value; `strict` where equality does not count."""

    number: int
    upper: bool
    value: Fraction
    line: int
    strict: bool


_Conjunction = tuple[_Bound | OutputConstraint, ...]


def read_vnnlib(path: Path) -> VerificationProperty:
    """The property of a file.

    Args:
        path: A .vnnlib file, or one compressed with gzip.

    Raises:
        DataError: It cannot be read, or a line of it is not VNN-LIB.
    """
    with reading(path, DataError):
        content = path.read_bytes()
        if is_packed(content):
            content = gzip.decompress(content)
    try:
        text = content.decode()
    except UnicodeDecodeError as fault:
        raise DataError(f"{path} is not text, where a property in VNN-LIB was expected.") from fault
    return parse_vnnlib(text, path.name)


def parse_vnnlib(text: str, name: str = "the property") -> VerificationProperty:
    """The property of a text.

    Args:
        text: VNN-LIB 1.0, or 2.0 of one network.
        name: The file's name, for errors.

    Raises:
        DataError: A line is not VNN-LIB, an input lacks a bound, or a box is empty.
    """
    return _Reader(name).read(text)


class _Reader:
    """Reads one text."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.terms = TermReader(name)

    def read(self, text: str) -> VerificationProperty:
        common: list[_Bound | OutputConstraint] = []
        alternatives: list[list[_Conjunction]] = []
        count = 1
        for statement in read_syntax(text, self.name):
            expression = self._asserted(statement)
            if expression is None:
                continue
            found = self._alternatives(expression, negated=False)
            if len(found) == 1:
                common.extend(found[0])
            else:
                alternatives.append(found)
                count *= len(found)
                self._check_count(count, expression)
        inputs, outputs = self.terms.count("X"), self.terms.count("Y")
        joined: list[_Conjunction] = [()]
        for found in alternatives:
            joined = [(*first, *second) for first in joined for second in found]
        return VerificationProperty(inputs, outputs, self._boxes(common, joined, inputs))

    def _asserted(self, statement: Syntax) -> Syntax | None:
        """What an assertion holds; None for the statements without one."""
        words = statement.words
        head = words[0].text if words else ""
        if head in ("declare-const", "declare-fun"):
            self.terms.declare(statement)
            return None
        if head == "assert" and len(words or ()) == 2:
            return words[1]  # type: ignore[index]
        if head in ("set-logic", "set-info", "set-option", "check-sat", "get-model", "exit"):
            return None
        if head == "declare-network":
            self.terms.declare_network(statement)
            return None
        if head == "vnnlib-version" and len(words or ()) == 2:
            if words[1].text.strip("<>").split(".")[0] not in ("1", "2"):  # type: ignore[index]
                raise self._error(statement, f"{statement} is not version 1 or 2")
            return None
        raise self._error(statement, f"{statement} is neither (declare-const NAME Real) nor (assert CONDITION)")

    def _alternatives(self, expression: Syntax, *, negated: bool) -> list[_Conjunction]:
        """A condition as alternatives of conjunctions."""
        words = expression.words
        head = words[0].text if words else expression.text
        if words is None and head in ("true", "false"):
            return [()] if (head == "true") != negated else []
        if words is None or not head:
            raise self._error(expression, f"{expression} is no condition")
        parts = words[1:]
        if head == "not" and len(parts) == 1:
            return self._alternatives(parts[0], negated=not negated)
        if head in ("and", "or"):
            found = [self._alternatives(part, negated=negated) for part in parts]
            if (head == "or") != negated:
                return [conjunction for part in found for conjunction in part]
            return self._product(found, expression)
        if head == "!=" and len(parts) == 2:
            return self._comparison("=", *parts, not negated)
        if head in ("<=", "<", ">=", ">", "=", "==") and len(parts) >= 2:
            pairs = [self._comparison(head.replace("==", "="), *pair, negated) for pair in pairwise(parts)]
            return [c for pair in pairs for c in pair] if negated else self._product(pairs, expression)
        raise self._error(expression, f"{expression} is not a comparison, and, or or not of conditions")

    def _product(self, found: list[list[_Conjunction]], expression: Syntax) -> list[_Conjunction]:
        count = 1
        for part in found:
            count *= len(part)
            self._check_count(count, expression)
        common = [atom for part in found if len(part) == 1 for atom in part[0]]
        joined: list[_Conjunction] = [tuple(common)]
        for part in found:
            if len(part) != 1:
                joined = [(*first, *second) for first in joined for second in part]
        return joined

    def _check_count(self, count: int, expression: Syntax) -> None:
        if count > CASES:
            raise self._error(expression, f"the property has more than {CASES:,} alternatives; split it into several")

    def _comparison(self, sign: str, left: Syntax, right: Syntax, negated: bool) -> list[_Conjunction]:
        if sign == "=":
            both = [self._at_most(left, right, strict=negated), self._at_most(right, left, strict=negated)]
            if negated:  # above or below
                return both[0] + both[1]
            return self._product(both, left)
        small, large, strict = (left, right, sign == "<") if sign[0] == "<" else (right, left, sign == ">")
        if negated:
            small, large, strict = large, small, not strict
        return self._at_most(small, large, strict=strict)

    def _at_most(self, small: Syntax, large: Syntax, *, strict: bool) -> list[_Conjunction]:
        """The condition that one term is at most another."""
        line = small.line
        below, above = self.terms.value(small), self.terms.value(large)
        difference = {key: below.get(key, Fraction(0)) - above.get(key, Fraction(0)) for key in {*below, *above}}
        limit = -difference.pop(None, Fraction(0))
        difference = {key: factor for key, factor in difference.items() if factor}
        inputs = [key for key in difference if key and key[0] == "X"]
        if not difference:
            return [()] if (0 < limit if strict else 0 <= limit) else []
        if not inputs:
            coefficients = tuple(sorted((key[1], factor) for key, factor in difference.items() if key))
            return [(OutputConstraint(coefficients, limit, strict),)]
        if len(difference) > 1:
            names = ", ".join(f"{key[0]}_{key[1]}" for key in sorted(difference) if key)  # type: ignore[type-var]
            raise self._error(small, f"a condition joins {names}, where each input has bounds of its own")
        (key,) = inputs
        assert key is not None
        return [(_Bound(key[1], difference[key] > 0, limit / difference[key], line, strict),)]

    def _boxes(
        self, common: list[_Bound | OutputConstraint], joined: list[_Conjunction], inputs: int
    ) -> tuple[InputBox, ...]:
        low: dict[int, _Bound] = {}
        high: dict[int, _Bound] = {}
        self._narrow(low, high, common)
        shared = tuple(atom for atom in common if isinstance(atom, OutputConstraint))
        groups: dict[tuple[_Bound, ...], list[tuple[OutputConstraint, ...]]] = {}
        for conjunction in joined:
            own = tuple(atom for atom in conjunction if isinstance(atom, _Bound))
            constraints = (*shared, *(atom for atom in conjunction if isinstance(atom, OutputConstraint)))
            groups.setdefault(own, []).append(constraints)
        boxes: dict[tuple[Any, ...], list[tuple[OutputConstraint, ...]]] = {}
        for own, found in groups.items():
            lower, upper = dict(low), dict(high)
            self._narrow(lower, upper, own)
            ends = tuple(self._ends(lower, inputs, "lower")), tuple(self._ends(upper, inputs, "upper"))
            open_ = (frozenset(i for i, bound in side.items() if bound.strict) for side in (lower, upper))
            boxes.setdefault((*ends, *open_), []).extend(found)
        if not boxes:
            raise DataError(f"{self.name} asks for what is never true, as (or) without alternatives is.")
        return tuple(InputBox(low, high, tuple(dict.fromkeys(c)), *ends) for (low, high, *ends), c in boxes.items())

    def _narrow(
        self,
        low: dict[int, _Bound],
        high: dict[int, _Bound],
        atoms: list[_Bound | OutputConstraint] | tuple[_Bound, ...],
    ) -> None:
        """Take bounds into a box; the tightest of each end stays."""
        for atom in atoms:
            if not isinstance(atom, _Bound):
                continue
            ends, sign = (high, -1) if atom.upper else (low, 1)
            own = ends.get(atom.number)
            if own is None or (sign * atom.value, atom.strict) > (sign * own.value, own.strict):
                ends[atom.number] = atom
            below, above = low.get(atom.number), high.get(atom.number)
            empty = below and above and (below.value - above.value, below.strict or above.strict) > (Fraction(0), False)
            if empty and below and above:
                raise DataError(
                    f"{self.name}, line {atom.line}: the box is empty: X_{atom.number} is to be "
                    f"{'above' if below.strict else 'at least'} {float(below.value):g} and "
                    f"{'below' if above.strict else 'at most'} {float(above.value):g}."
                )

    def _ends(self, ends: Mapping[int, _Bound], inputs: int, kind: str) -> Iterator[Fraction]:
        for index in range(inputs):
            if index not in ends:
                raise DataError(f"{self.name}: X_{index} has no {kind} bound; every input needs both.")
            yield ends[index].value

    def _error(self, syntax: Syntax, what: str) -> DataError:
        return parse_error(self.name, syntax.line, what)
