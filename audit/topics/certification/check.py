"""Whether certificates and attacks are consistent: no image may be broken inside its certified radius."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from audit.config import RunConfig
from audit.core.evidence import Array
from audit.core.registry import check
from audit.core.statistics import clopper_pearson
from audit.core.threat_format import format_threat
from audit.results.check_result import CheckResult
from audit.results.queries import PerExample, cell_keys, only_measured, per_example
from audit.results.run_results import RunResults, TaskResult
from audit.topics.certification.facts import LINEAR_BOUNDS, THE_MODEL, CertificationFacts
from audit.topics.certification.proven import certificates_of
from audit.topics.certification.section import brackets, further_options


@check(
    section="robustness",
    title_pass="Proofs and attacks agree on the {role} model: nothing certified was broken",
    title_fail="The tool contradicts itself on the {role} model: {count} images were broken inside what it proved",
    explanation="Each of {n} images has a radius in {norm} within which bounds prove the prediction, and a "
    "smallest distance at which an attack broke it. The first may never exceed the second; {proven} radii are above 0.",
    criterion="No image may be broken at a distance below its certified radius.",
    advice="Do not use this run: report the model and the versions in the protocol section, as either a bound or the "
    "verifier is wrong.",
    reference="arXiv:1810.12715",
)
def certified_not_broken(results: RunResults, role: str, config: RunConfig) -> CheckResult | None:
    """No image is broken inside its certified radius, over every image that has both in one norm.

    Args:
        results: The run.
        role: Role of the model.
        config: The configuration of the run; its criteria hold the thresholds.
    """
    of_model = [entry for entry in certificates_of(results, role) if _of_the_model(entry)]
    attacks = [e for e in only_measured(results.entries("robustness", role=role)) if _threat(e) in map(_norm, of_model)]
    if not of_model or not attacks:
        return None
    attacks = [e for e in attacks if _threat(e) == _threat(attacks[0])]
    proofs = [e for e in of_model if _norm(e) == _threat(attacks[0])]
    radius, distance = _both(_radii(proofs), _distances(attacks))
    count = int((distance < radius).sum())
    values: dict[str, str | float] = {
        "n": radius.size,
        "count": count,
        "proven": int((radius > 0).sum()),
        "norm": _norm(proofs[0]),
    }
    return CheckResult("fail" if count else "pass", None, cell_keys([*proofs, *attacks]), values)


@check(
    section="robustness",
    title_pass="What is left open on the {role} model does not change its verdict within {threat}",
    title_fail="The verdict on the {role} model within {threat} hangs on images that are neither broken nor proven",
    title_inconclusive="The verdict on the {role} model within {threat} hangs on images neither broken nor proven",
    explanation="Of {n} images {proven:.1%} are proven robust and {unbroken:.1%} are unbroken; robust accuracy lies "
    "between, and {open:.1%} are open.",
    criterion="Both bounds must lie on the same side of the {threshold:.0%} that are asked. The interval is that of "
    "the share proven, so that a policy can ask for a minimum of it.",
    advice_inconclusive="Ask the open images further, or train for proofs.",
    command_inconclusive="audit run {further}",
    reference="arXiv:2103.06624",
)
def proofs_decide(results: RunResults, role: str, config: RunConfig) -> CheckResult | None:
    """Whether the share proven and the share unbroken lie on the same side of `robust_accuracy`.

    Args:
        results: The run.
        role: Role of the model.
        config: The configuration of the run; its criteria hold the thresholds.
    """
    entries = [entry for entry in certificates_of(results, role) if entry.task.cell.method == LINEAR_BOUNDS]
    bracket = next((row for row in brackets(results) if row.role == role), None)
    if bracket is None:
        return None
    eps = float((entries[0].task.cell.threat or {})["eps"])
    point = next(point for point in bracket.points if point.eps == eps)
    threshold = config.criteria.robust_accuracy
    decided = point.proven.estimate >= threshold or point.unbroken.estimate < threshold
    values: dict[str, Any] = {
        "n": bracket.n,
        "proven": point.proven.estimate,
        "unbroken": point.unbroken.estimate,
        "open": point.open,
        "threshold": threshold,
        "threat": format_threat(bracket.norm, eps),
        "further": further_options([bracket]),
    }
    share = clopper_pearson(round(point.proven.estimate * bracket.n), bracket.n)
    return CheckResult("pass" if decided else "inconclusive", share, cell_keys(entries), values)


def _of_the_model(entry: TaskResult) -> bool:
    return entry.evidence.facts_as(CertificationFacts).certifies == THE_MODEL


def _norm(entry: TaskResult) -> str:
    return entry.evidence.facts_as(CertificationFacts).norm


def _threat(entry: TaskResult) -> str:
    return str((entry.task.cell.threat or {}).get("norm"))


def _radii(proofs: Sequence[TaskResult]) -> PerExample:
    """The largest radius that any method proved of each image, in audit order."""
    methods = dict.fromkeys(entry.task.cell.method for entry in proofs)
    parts = [per_example([e for e in proofs if e.task.cell.method == name], "certified_radius") for name in methods]
    positions = np.unique(np.concatenate([part.positions for part in parts]))
    largest = np.zeros(len(positions))
    for part in parts:
        at = np.searchsorted(positions, part.positions)
        largest[at] = np.maximum(largest[at], part.values)
    return PerExample(positions, largest)


def _distances(attacks: Sequence[TaskResult]) -> PerExample:
    """The smallest distance at which each image was broken, in audit order; infinite where none was found."""
    positions = np.concatenate([np.arange(e.task.examples.start, e.task.examples.stop) for e in attacks])
    values = np.concatenate([np.asarray(e.evidence.arrays["minimal_eps"]) for e in attacks])
    order = np.argsort(positions, kind="stable")
    return PerExample(positions[order], values[order])


def _both(radius: PerExample, distance: PerExample) -> Iterator[Array]:
    common = np.intersect1d(radius.positions, distance.positions)
    return (values.at(common).values for values in (radius, distance))
