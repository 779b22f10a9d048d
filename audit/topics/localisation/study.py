"""Localisation as evidence: whether a method's maps lie on the object."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from audit.core.cell import Cell
from audit.core.evidence import Evidence, Measurement
from audit.core.note import note
from audit.core.precise import precise
from audit.core.registry import study
from audit.execution.context import Context
from audit.execution.explanation_inputs import NOTHING_TO_JUDGE
from audit.execution.measured import measured_evidence
from audit.metrics.localisation import pointing_game, relevance_mass, relevance_rank
from audit.topics.localisation.facts import LocalisationFacts


@study()
def localisation(context: Context, cell: Cell) -> Evidence:
    """Compare the maps of `cell.inputs["explanation"]` with the masks of the same images.

    Measurements, shares in [0, 1], NaN for an image without a mask or a map without positive attribution:
    `relevance_mass`, `relevance_rank`, `pointing_game`, and `mask_share`, the area of the mask, which is the expected
    value of the first and the last by chance. Not applicable where the explanation was not, or where no image has a
    mask.

    Args:
        context: Gives the model, the examples and the inputs of the cell.
        cell: The cell.
    """
    explained = context.evidence("explanation")
    if explained.status != "measured":
        return Evidence(cell, "not_applicable", reason=explained.reason or NOTHING_TO_JUDGE)
    maps = torch.from_numpy(explained.arrays["attributions"].copy())
    masks = context.batch().masks
    if masks is None or not masks.any():
        return Evidence(cell, "not_applicable", reason=note("no_masks", "None of the explained images has a mask."))
    shares = {
        "relevance_mass": relevance_mass(maps, masks),
        "relevance_rank": relevance_rank(maps, masks),
        "pointing_game": pointing_game(maps, masks),
        "mask_share": precise(masks).flatten(1).mean(1),
    }
    unmarked = ~masks.flatten(1).any(1)
    measurements = tuple(
        Measurement(name, "share", "neither" if name == "mask_share" else "higher", _nan_where(values, unmarked))
        for name, values in shares.items()
    )
    return measured_evidence(cell, measurements, facts=LocalisationFacts(masked=int((~unmarked).sum())))


def _nan_where(values: Tensor, unmarked: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    return np.asarray(values.masked_fill(unmarked, torch.nan).numpy(), np.float64)
