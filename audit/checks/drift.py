"""Do explanations move further under an attack that keeps the prediction than under noise of the same size?"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from audit.checks.conclusion import MORE, Conclusion, at_most, of_a_map, values_of
from audit.checks.names import written
from audit.checks.readings import grouped, keys, measured, outcomes, threat_text
from audit.config import CriteriaConfig
from audit.dossier import Dossier, Entry
from audit.registry import check
from audit.statistics import bootstrap_mean

MARGIN = 0.1
"""How much rank correlation with the clean map an attack may take beyond what noise takes."""


@check(
    section="explanations",
    title_pass="{method} of the {role} model stays put under an attack that keeps the prediction",
    title_fail="{method} of the {role} model moves under an attack that keeps the prediction",
    title_inconclusive="Whether {method} of the {role} model moves under an attack that keeps the prediction cannot be "
    "told from {n} images",
    explanation="PGD ({threat}) that stops before the prediction changes leaves the map a rank correlation of "
    "{moved:.2f} with the clean one, noise of the same size {noise:.2f}: {estimate:+.3f} is lost beyond noise (95% "
    "interval {low:+.3f} to {high:+.3f}).",
    criterion="The upper bound of the 95% interval of the loss beyond noise is at most {margin:.2f}.",
    advice="Do not let a decision hang on this map where images may be tampered with: it changes while the prediction "
    "does not.",
    advice_inconclusive=MORE,
    reference="arXiv:1710.10547",
)
def drift_at_constant_label(dossier: Dossier, role: str, criteria: CriteriaConfig) -> tuple[Conclusion, ...]:
    """The rank correlation with the clean map lost beyond noise, under PGD at constant label; one a method."""
    return tuple(_conclusions(dossier, role, "constant-label"))


@check(
    section="explanations",
    title_pass="{method} of the {role} model withstands being steered",
    title_fail="{method} of the {role} model can be steered while the prediction stays",
    title_inconclusive="Whether {method} of the {role} model can be steered cannot be told from {n} images",
    explanation="Images moved within {threat} so that the gradient turns and the prediction stays leave the map a rank "
    "correlation of {moved:.2f} with the clean one, noise of the same size {noise:.2f}: {estimate:+.3f} is lost beyond "
    "noise (95% interval {low:+.3f} to {high:+.3f}).",
    criterion="The upper bound of the 95% interval of the loss beyond noise is at most {margin:.2f}.",
    advice="Do not offer this map as proof of what the model looks at to anyone who does not trust the image.",
    advice_inconclusive=MORE,
    reference="arXiv:1906.07983",
)
def steered_explanations(dossier: Dossier, role: str, criteria: CriteriaConfig) -> tuple[Conclusion, ...]:
    """The rank correlation with the clean map lost beyond noise, under manipulation; one conclusion a method."""
    return tuple(_conclusions(dossier, role, "manipulation"))


def _conclusions(dossier: Dossier, role: str, kind: str) -> Iterator[Conclusion]:
    for at, entries in grouped(measured(dossier.entries("drift", role=role)), "kind"):
        if at.setting == kind and (judged := _judge(at.method, threat_text(at.norm, at.eps), entries)):
            yield judged


def _judge(method: str, threat: str, entries: tuple[Entry, ...]) -> Conclusion | None:
    """None where no image could be moved: there is no map to compare."""
    moved, noise = (outcomes(entries, name).values for name in ("agreement", "agreement_random"))
    both = np.isfinite(moved) & np.isfinite(noise)
    if not both.any():
        return None
    lost = bootstrap_mean(noise[both] - moved[both])
    said = values_of(
        lost,
        method=written(method),
        identifier=method,
        threat=threat,
        margin=MARGIN,
        moved=float(moved[both].mean()),
        noise=float(noise[both].mean()),
    )
    return Conclusion(of_a_map(lost, at_most(lost, MARGIN)), lost, keys(entries), said, unit="rank correlation")
