"""Which adversarial images are explained: those that an attack found, as no other map of them is ever shown."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from audit.core.errors import NotApplicable
from audit.core.evidence import Evidence
from audit.planning.plan import Slice
from audit.topics.robustness.facts import ADVERSARIAL_POSITIONS, CLEAN, RobustnessFacts

EXPLAINED_POSITIONS = "explained_positions"
"""The array that says which examples the maps of adversarial images are of: positions in the audit order, int64."""

ADVERSARIAL_IN_FULL = 6
"""First images of the audit order whose adversarial examples are explained, as far as there are any: such maps are only
looked at, and cost as much as the ones that are judged."""


def attacked_positions(attacked: Evidence, examples: Slice) -> NDArray[np.int64]:
    """The examples that an attack broke at the eps of the verdict, of some in the audit order, int64 (M,).

    An image that was wrong before any attack is its own adversarial image, and one that withstood has none.

    Args:
        attacked: Evidence of the robustness study about examples that begin the audit order, these among them.
        examples: The examples.

    Returns:
        Positions in the audit order; all of them where the evidence does not say which were broken.
    """
    positions = np.arange(examples.start, examples.stop, dtype=np.int64)
    if "broken_by" not in attacked.arrays:
        return positions
    facts = attacked.facts_as(RobustnessFacts)
    row = int(np.argmin(np.abs(np.asarray(facts.eps, np.float64) - facts.headline)))
    breakers = attacked.arrays["broken_by"][row][positions]
    broken = [index >= 0 and facts.attacks[index] != CLEAN for index in breakers.tolist()]
    return np.asarray(positions[np.array(broken, dtype=bool)], np.int64)


def adversarial_images(attacked: Evidence, positions: NDArray[np.int64]) -> NDArray[np.float32]:
    """The adversarial images of some examples, float32 (M, C, H, W).

    Args:
        attacked: Evidence of the robustness study.
        positions: The examples, as positions in the audit order, int64 (M,).

    Raises:
        NotApplicable: Some were not stored.
    """
    stored = attacked.arrays["adversarial"]
    known = attacked.arrays.get(ADVERSARIAL_POSITIONS, np.arange(len(stored)))  # earlier evidence holds the first ones
    rows = {position: row for row, position in enumerate(known.tolist())}
    if missing := [position for position in positions.tolist() if position not in rows]:
        raise NotApplicable(
            f"The attacks stored no adversarial image of {len(missing)} of these {len(positions)} examples (the first "
            f"is number {missing[0]} of the audit order); run the attacks on them too."
        )
    return np.asarray(stored[[rows[position] for position in positions.tolist()]], np.float32)
