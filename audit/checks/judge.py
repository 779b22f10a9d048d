"""Every registered check on every model of a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from audit.checks.conclusion import Conclusion
from audit.config import CriteriaConfig
from audit.dossier import Dossier
from audit.evidence import Finding, Verdict
from audit.registry import Method, methods

SEVERITY: tuple[Verdict, ...] = ("fail", "inconclusive", "warn", "not_run", "informative", "pass")
"""Verdicts from the one that matters most."""


def judge(dossier: Dossier, criteria: CriteriaConfig) -> tuple[Finding, ...]:
    """The findings of all checks that have something to speak of, by model and then by check."""
    return tuple(
        finding(method, role, conclusion)
        for role in dossier.roles
        for method in methods("check")
        for conclusion in _several(method.function(dossier, role, criteria))
    )


def finding(method: Method, role: str, conclusion: Conclusion) -> Finding:
    """A conclusion in words: the check's templates filled with its values."""
    values = {**conclusion.values, "role": role}
    said = sentences(method.facts, conclusion.verdict, values)
    interval = conclusion.interval
    return Finding(
        check=method.name,
        role=role,
        verdict=conclusion.verdict,
        title=said["title"],
        explanation=said["explanation"],
        criterion=said["criterion"],
        advice=said["advice"],
        estimate=interval.estimate if interval else None,
        interval=(interval.low, interval.high) if interval else None,
        n=interval.n if interval else int(conclusion.values.get("n", 0)),
        unit=conclusion.unit,
        evidence=conclusion.evidence,
        command="" if conclusion.verdict == "pass" else _template(method.facts, "command", conclusion.verdict),
        section=str(method.facts["section"]),
        values=conclusion.values,
    )


def sentences(templates: Mapping[str, Any], verdict: Verdict, values: Mapping[str, str | float]) -> dict[str, str]:
    """Title, explanation, criterion and advice for `verdict`; no advice where there is nothing to mend."""
    said = {
        part: _template(templates, part, verdict).format_map(values)
        for part in ("title", "explanation", "criterion", "advice")
    }
    return said | ({"advice": ""} if verdict == "pass" else {})


def _template(templates: Mapping[str, Any], part: str, verdict: Verdict) -> str:
    """The template of `part` made for `verdict`; a title falls back on the failing one, the rest on the general."""
    general = "title_pass" if part == "title" and verdict in ("pass", "informative") else part
    general = "title_fail" if general == "title" else general
    return str(templates.get(f"{part}_{verdict}") or templates.get(general, ""))


def _several(given: Conclusion | Iterable[Conclusion] | None) -> tuple[Conclusion, ...]:
    if given is None:
        return ()
    return (given,) if isinstance(given, Conclusion) else tuple(given)
