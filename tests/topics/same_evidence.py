"""Whether two cells measured the same, bit for bit."""

from __future__ import annotations

from audit.core.evidence import Evidence


def assert_same(first: Evidence, second: Evidence, *, passes: bool = False) -> None:
    """Every measurement, array and fact is the same; the cells and what they cost may differ.

    Args:
        first: Evidence.
        second: Other evidence.
        passes: Whether they must have cost the same too.
    """
    assert (first.status, str(first.reason)) == (second.status, str(second.reason))
    assert first.facts == second.facts
    described = [
        [(m.name, m.unit, m.better, m.per_example.dtype, m.per_example.tobytes()) for m in evidence.measurements]
        for evidence in (first, second)
    ]
    assert described[0] == described[1]
    arrays = [
        {name: (array.dtype, array.shape, array.tobytes()) for name, array in evidence.arrays.items()}
        for evidence in (first, second)
    ]
    assert arrays[0] == arrays[1]
    if passes:
        assert (first.forwards, first.backwards) == (second.forwards, second.backwards)
