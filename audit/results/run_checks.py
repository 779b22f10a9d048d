"""Every registered check on every model of a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from audit.config import RunConfig
from audit.core.evidence import CheckValue, Finding, Verdict
from audit.core.registry import Method, methods
from audit.results.check_result import CheckResult
from audit.results.run_results import RunResults

SEVERITY: tuple[Verdict, ...] = ("fail", "inconclusive", "warn", "not_run", "informative", "pass")
"""Verdicts from the one that matters most."""


def run_checks(results: RunResults, config: RunConfig) -> tuple[Finding, ...]:
    """The findings of all checks that have something to speak of, by model and then by check."""
    return tuple(
        to_finding(method, role, conclusion)
        for role in results.roles
        for method in methods("check")
        for conclusion in _several(method.function(results, role, config))
    )


def to_finding(method: Method, role: str, conclusion: CheckResult) -> Finding:
    """A conclusion in words: the check's templates filled with its values."""
    values = {**conclusion.values, "role": role}
    said = fill_templates(method.facts, conclusion.verdict, values)
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
        n=interval.n if interval else _examples(conclusion),
        unit=conclusion.unit,
        evidence=conclusion.evidence,
        command="" if conclusion.verdict == "pass" else _template(method.facts, "command", conclusion.verdict),
        section=str(method.facts["section"]),
        values=dict(conclusion.values),
        examples=(),
    )


def _examples(conclusion: CheckResult) -> int:
    n = conclusion.values.get("n", 0)
    return int(n) if isinstance(n, int | float) else 0


def fill_templates(templates: Mapping[str, Any], verdict: Verdict, values: Mapping[str, CheckValue]) -> dict[str, str]:
    """Title, explanation, criterion and advice for `verdict`; no advice where there is nothing to mend."""
    words = {name: " ".join(map(str, value)) if isinstance(value, list) else value for name, value in values.items()}
    said = {
        part: _template(templates, part, verdict).format_map(words)
        for part in ("title", "explanation", "criterion", "advice")
    }
    return said | ({"advice": ""} if verdict == "pass" else {})


def _template(templates: Mapping[str, Any], part: str, verdict: Verdict) -> str:
    """The template of `part` made for `verdict`; a title falls back on the failing one, the rest on the general."""
    general = "title_pass" if part == "title" and verdict in ("pass", "informative") else part
    general = "title_fail" if general == "title" else general
    return str(templates.get(f"{part}_{verdict}") or templates.get(general, ""))


def _several(given: CheckResult | Iterable[CheckResult] | None) -> tuple[CheckResult, ...]:
    if given is None:
        return ()
    return (given,) if isinstance(given, CheckResult) else tuple(given)
