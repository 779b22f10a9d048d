"""VNN-LIB read: what a file says, whatever its form, and the line of what is wrong."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.bounds.verification_query import Counterexample
from audit.bounds.vnnlib import (
    InputBox,
    OutputConstraint,
    VerificationProperty,
    parse_vnnlib,
    read_vnnlib,
)
from audit.core.errors import DataError

DECLARED = "(declare-const X_0 Real)\n(declare-const Y_0 Real)\n(declare-const Y_1 Real)\n"
NETWORK = """(vnnlib-version <2.0>)
(declare-network f
  (declare-input X float32 [1, 2])
  (declare-output Y float32 [2]))
"""
BOUNDED = DECLARED + "(assert (>= X_0 -1))\n(assert (<= X_0 1))\n"


def conjunctions(condition: str) -> tuple[tuple[OutputConstraint, ...], ...]:
    (box,) = parse_vnnlib(BOUNDED + condition).boxes
    return box.conjunctions


def constraint(factors: dict[int, float], limit: float, strict: bool = False) -> OutputConstraint:
    return OutputConstraint(tuple((i, Fraction(f)) for i, f in factors.items()), Fraction(limit), strict)


numbers = st.decimals(-1000, 1000, places=6).map(Fraction)


@st.composite
def properties(draw: st.DrawFn) -> VerificationProperty:
    inputs, outputs = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    boxes = {}
    for _ in range(draw(st.integers(1, 3))):
        ends = [sorted(draw(st.tuples(numbers, numbers))) for _ in range(inputs)]
        constraints = st.builds(
            lambda factors, limit, strict: OutputConstraint(tuple(sorted(factors.items())), limit, strict),
            st.dictionaries(st.integers(0, outputs - 1), numbers.filter(bool), min_size=1),
            numbers,
            st.booleans(),
        )
        alternatives = draw(st.lists(st.lists(constraints, min_size=1, max_size=3).map(tuple), min_size=1, max_size=3))
        low, high = tuple(e[0] for e in ends), tuple(e[1] for e in ends)
        boxes[low, high] = InputBox(low, high, tuple(dict.fromkeys(alternatives)))
    return VerificationProperty(inputs, outputs, tuple(boxes.values()))


def decimal(value: Fraction) -> str:
    return f"{'-' if value < 0 else ''}{abs(value.numerator) * 10**6 // value.denominator}e-6"


def written(asked: VerificationProperty) -> str:
    """A property in the form of ACAS Xu's properties 6 to 8: one disjunction over boxes."""
    lines = [f"(declare-const X_{i} Real) ; an input" for i in range(asked.inputs)]
    lines += [f"(declare-const Y_{i} Real)" for i in range(asked.outputs)]
    cases = []
    for box in asked.boxes:
        ends = [f"(>= X_{i} {decimal(v)})" for i, v in enumerate(box.low)]
        ends += [f"(<= X_{i} {decimal(v)})" for i, v in enumerate(box.high)]
        alternatives = []
        for conjunction in box.conjunctions:
            terms = []
            for c in conjunction:
                total = " ".join(f"(* {decimal(f)} Y_{i})" for i, f in c.coefficients)
                terms.append(f"({'>' if c.strict else '>='} {decimal(c.limit)} (+ 0 {total}))")
            alternatives.append(f"(and {' '.join(terms)})")
        cases.append(f"(and {' '.join(ends)}\n (or {' '.join(alternatives)}))")
    return "\n".join([*lines, f"(assert (or {' '.join(cases)}))"])


@given(properties())
def test_what_is_written_is_read(asked: VerificationProperty) -> None:
    assert parse_vnnlib(written(asked)) == asked


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("(assert (>= Y_0 Y_1))", [[constraint({0: -1, 1: 1}, 0)]]),
        ("(assert (<= Y_0 -3.5e-1))", [[OutputConstraint(((0, Fraction(1)),), Fraction("-0.35"))]]),
        ("(assert (<= .5 Y_0))", [[constraint({0: -1}, -0.5)]]),
        ("(assert (< (+ (* 2 Y_0) (- Y_1) 1) (/ Y_0 2)))", [[constraint({0: 1.5, 1: -1}, -1, True)]]),
        ("(assert (or (and (<= Y_0 1)) (<= Y_1 2)))", [[constraint({0: 1}, 1)], [constraint({1: 1}, 2)]]),
        ("(assert (not (<= Y_0 1)))", [[constraint({0: -1}, -1, True)]]),
        ("(assert (= Y_0 1))", [[constraint({0: 1}, 1), constraint({0: -1}, -1)]]),
        ("(assert (<= Y_0 1 Y_1))", [[constraint({0: 1}, 1), constraint({1: -1}, -1)]]),
        (
            "(assert (and (or (<= Y_0 1) (<= Y_0 2)) (<= Y_1 3)))",
            [[constraint({1: 1}, 3), constraint({0: 1}, 1)], [constraint({1: 1}, 3), constraint({0: 1}, 2)]],
        ),
        (
            "(assert (not (and (<= Y_0 1) (<= Y_1 2))))",
            [[constraint({0: -1}, -1, True)], [constraint({1: -1}, -2, True)]],
        ),
        ("(assert true)", [[]]),
        ("(check-sat)", [[]]),
    ],
)
def test_conditions_become_alternatives(condition: str, expected: list[list[OutputConstraint]]) -> None:
    assert [list(c) for c in conjunctions(condition)] == expected


def test_the_tightest_bounds_of_an_input_count() -> None:
    (box,) = parse_vnnlib(BOUNDED + "(assert (<= (* 2 X_0) 1))\n(assert (= X_0 0.25))").boxes
    assert box.low == box.high == (Fraction(1, 4),)


def test_version_2_says_what_version_1_does() -> None:
    old = (
        DECLARED
        + """(declare-const X_1 Real)
(assert (and (>= X_0 -1) (< X_0 1))) (assert (and (>= X_1 -1) (<= X_1 1)))
(assert (or (<= Y_0 1) (and (not (= Y_1 2)) (= X_1 0.5))))"""
    )
    new = (
        NETWORK
        + """(assert (and (>= X[0,0] -1) (< X[0,0] 1))) (assert (and (>= X[0, 1] -1) (<= X[0, 1] 1)))
(assert (or (<= Y[0] 1) (and (!= Y[1] 2) (== X[0, 1] 0.5))))"""
    )
    assert parse_vnnlib(old) == parse_vnnlib(new)
    assert len(parse_vnnlib(new).boxes) == 2


def test_a_strict_bound_on_an_input_leaves_its_end_out() -> None:
    (box,) = parse_vnnlib(BOUNDED + "(assert (< X_0 1))").boxes
    assert (box.low, box.high, box.open_low, box.open_high) == ((-1,), (1,), frozenset(), frozenset({0}))
    (box,) = parse_vnnlib(BOUNDED + "(assert (and (> X_0 0) (>= X_0 -2)))").boxes
    assert (box.low, box.open_low, box.open_high) == ((0,), frozenset({0}), frozenset())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (DECLARED + "(assert (<= X_0 1)", "line 4: a parenthesis that is opened here is never closed"),
        (BOUNDED + ")", "line 6: a parenthesis is closed that was not opened"),
        (BOUNDED + "(assert (<= Y_2 1))", "line 6: Y_2 is not declared"),
        (BOUNDED + "(assert (<= Y_0 1.2.3))", "line 6: 1.2.3 is neither a number nor a variable"),
        (BOUNDED + "(assert (<= Y_0 nan))", "line 6: nan is neither a number nor a variable"),
        (BOUNDED + "(assert (<= Y_0 1e9999999999))", "line 6: 1e9999999999 is beyond the numbers"),
        (BOUNDED + "\n\n(assert (<= (* Y_0 Y_1) 1))", "line 8: (* Y_0 Y_1) is not linear"),
        (BOUNDED + "(assert (<= (/ 1 Y_0) 1))", "line 6: (/ 1 Y_0) is not linear"),
        (BOUNDED + "(assert (<= (/ Y_0 0) 1))", "line 6: (/ Y_0 0) divides by zero"),
        (BOUNDED + "(assert (<= Y_0))", "line 6: (<= Y_0) is not a comparison"),
        (BOUNDED + "(assert (<= Y_0 X_0))", "line 6: a condition joins X_0, Y_0"),
        (BOUNDED + "(assert (< X_0 -1))", "line 6: the box is empty: X_0 is to be at least -1 and below -1"),
        (BOUNDED + "(assert (>= X_0 2))", "line 6: the box is empty: X_0 is to be at least 2 and at most 1"),
        (BOUNDED + "(assert (or (<= X_0 -2) (<= Y_0 1)))", "line 6: the box is empty"),
        (BOUNDED + "(assert (xor (<= Y_0 1)))", "line 6: (xor (<= Y_0 1)) is not a comparison"),
        (BOUNDED + "(assert)", "line 6: (assert) is neither"),
        (BOUNDED + "(assert (or))", "what is never true"),
        (BOUNDED + "(declare-const Z_0 Real)", "line 6: (declare-const Z_0 Real) is not"),
        (BOUNDED + "(declare-const Y_0 Real)", "line 6: Y_0 is declared twice"),
        (BOUNDED + "(declare-const Y_3 Real)", "Y_2 is not declared"),
        (BOUNDED + "(vnnlib-version <3.0>)", "line 6: (vnnlib-version <3.0>) is not version 1 or 2"),
        (NETWORK + "(assert (<= X[0,3] 1))", "line 5: X[0,3] is not an element of X, whose sizes are [1, 2]"),
        (NETWORK + "(assert (<= X[0] 1))", "line 5: X[0] is not an element of X"),
        (NETWORK + "(assert (<= Z[0] 1))", "line 5: Z is not declared"),
        (NETWORK + NETWORK, "line 6: a second network is declared"),
        (NETWORK.replace("float32 [1, 2]", "int8 [1, 2]"), "line 3: X is of type int8"),
        (NETWORK.replace("(declare-output Y float32 [2])", ""), "line 2: the network is declared without an input or"),
        (NETWORK.replace("declare-output Y", "declare-hidden Y"), "line 4: (declare-hidden ...) is not decided"),
        (NETWORK.replace("declare-output Y", "declare-input Y"), "line 4: Y is declared beside another of its kind"),
        (NETWORK.replace("[1, 2]", ""), "line 3: (declare-input X float32) is not (declare-input NAME TYPE [SIZES])"),
        (DECLARED + "(assert (>= X_0 1))", "X_0 has no upper bound"),
        ("", "X_0 is not declared"),
        ("sat", "line 1: 'sat' stands outside of parentheses"),
        ("(" * 300, "nested more than"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(text: str, message: str) -> None:
    with pytest.raises(DataError) as caught:
        parse_vnnlib(text, "spec.vnnlib")
    assert message in str(caught.value) and str(caught.value).startswith("spec.vnnlib")


def test_alternatives_that_multiply_beyond_reason_are_refused() -> None:
    many = "(assert (or (<= Y_0 1) (<= Y_1 1)))\n" * 40
    with pytest.raises(DataError, match="alternatives"):
        parse_vnnlib(BOUNDED + many)


@pytest.mark.parametrize("content", [b"\x1f\x8b\x08 cut", b"\xff\xfe\x00", b"\x1f\x8b\x07"])
def test_what_is_no_text_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "spec.vnnlib"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"spec\.vnnlib"):
        read_vnnlib(path)
    with pytest.raises(DataError, match="cannot be read"):
        read_vnnlib(tmp_path / "absent.vnnlib")


def test_a_counterexample_is_written_as_the_competition_does() -> None:
    assert Counterexample([0.1, -2.0], [1e-20]).text() == "((X_0 0.1)\n (X_1 -2.0)\n (Y_0 1e-20))\n"
