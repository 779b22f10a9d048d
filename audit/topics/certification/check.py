"""Whether certificates and attacks are consistent: no image may be broken inside its certified radius."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from audit.config import RunConfig
from audit.core.evidence import Array
from audit.core.registry import check
from audit.results.check_result import CheckResult
from audit.results.queries import PerExample, cell_keys, only_measured, per_example
from audit.results.run_results import RunResults, TaskResult
from audit.topics.certification.facts import CertificationFacts

THE_MODEL = "the model itself"
"""The value of `CertificationFacts.certifies` of certificates that attacks on the model can be compared with."""


@check(
    section="robustness",
    title_pass="Proofs and attacks agree on the {role} model: nothing certified was broken",
    title_fail="The tool contradicts itself on the {role} model: {count} images were broken inside what it proved",
    explanation="Each of {n} images has a radius in {norm} within which interval bounds prove the prediction, and a "
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
    proofs = [e for e in only_measured(results.entries("certification", role=role)) if _of_the_model(e)]
    attacks = [e for e in only_measured(results.entries("robustness", role=role)) if _threat(e) in map(_norm, proofs)]
    if not proofs or not attacks:
        return None
    radius, distance = _both(per_example(proofs, "certified_radius"), _distances(attacks))
    count = int((distance < radius).sum())
    values: dict[str, str | float] = {
        "n": radius.size,
        "count": count,
        "proven": int((radius > 0).sum()),
        "norm": _norm(proofs[0]),
    }
    return CheckResult("fail" if count else "pass", None, cell_keys([*proofs, *attacks]), values)


def _of_the_model(entry: TaskResult) -> bool:
    return entry.evidence.facts_as(CertificationFacts).certifies == THE_MODEL


def _norm(entry: TaskResult) -> str:
    return entry.evidence.facts_as(CertificationFacts).norm


def _threat(entry: TaskResult) -> str:
    return str((entry.task.cell.threat or {}).get("norm"))


def _distances(attacks: Sequence[TaskResult]) -> PerExample:
    """The smallest distance at which each image was broken, in audit order; infinite where none was found."""
    positions = np.concatenate([np.arange(e.task.examples.start, e.task.examples.stop) for e in attacks])
    values = np.concatenate([np.asarray(e.evidence.arrays["minimal_eps"]) for e in attacks])
    order = np.argsort(positions, kind="stable")
    return PerExample(positions[order], values[order])


def _both(radius: PerExample, distance: PerExample) -> Iterator[Array]:
    common = np.intersect1d(radius.positions, distance.positions)
    return (values.at(common).values for values in (radius, distance))
