"""Running every registered check on every model of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, TypeAlias

from audit.config import RunConfig
from audit.core.errors import SetupError, fault_line
from audit.core.evidence import CheckValue, Finding, Verdict
from audit.core.note import NO_NOTE
from audit.core.registry import Method, methods
from audit.core.wording import agree
from audit.results.check_result import CheckResult
from audit.results.run_results import RunResults
from audit.results.stopping import ending, stopping_note

SEVERITY: tuple[Verdict, ...] = ("fail", "inconclusive", "warn", "not_run", "informative", "pass")
"""Verdicts, the most severe first."""
OnFault: TypeAlias = Callable[[str, str, str], None]
"""Takes the name of a part that failed, the role of the model it is about ("" for all), and why, as a sentence."""


def run_checks(results: RunResults, config: RunConfig, on_fault: OnFault | None = None) -> tuple[Finding, ...]:
    """The findings of all checks that apply, by model and then by check.

    Args:
        results: The run.
        config: The configuration of the run, with the thresholds.
        on_fault: Told of a check that fails, and of the model: its findings are then left out.

    Raises:
        SetupError: A check fails and there is no `on_fault`; the sentence says whose it is.
    """
    return tuple(
        finding
        for role in results.roles
        for method in methods("check")
        for finding in _conclusions(method, results, role, config, on_fault)
    )


def _conclusions(
    method: Method, results: RunResults, role: str, config: RunConfig, on_fault: OnFault | None
) -> tuple[Finding, ...]:
    """What a check concludes."""
    try:
        concluded = _as_tuple(method.function(results, role, config))
        return tuple(_as_stopped(method, role, result, results, config) for result in concluded)
    except Exception as fault:
        error = SetupError(
            f"Check {method.name} ({method.function.__module__}) failed: {fault_line(fault)}. What was "
            "measured is kept in the run folder; mend the check and run the same command again."
        )
        if on_fault is None:
            raise error from fault
        on_fault(method.name, role, str(error))
        return ()


def _as_stopped(method: Method, role: str, result: CheckResult, results: RunResults, config: RunConfig) -> Finding:
    """The finding with the rule that ended the studies it rests on; one that was cut short passes nothing."""
    read = [s for s in results.steps if any(task.cell.key in result.evidence for task in s.tasks)]
    cut = any(ending(results, steps, config) == "unfinished" for steps in read)
    if cut and result.verdict == "pass":
        result = replace(result, verdict="inconclusive")
    notes = [said for steps in read if (said := stopping_note(results, steps, config))]
    return to_finding(method, role, result).model_copy(update={"stopping": notes[0] if notes else NO_NOTE})


def to_finding(method: Method, role: str, result: CheckResult) -> Finding:
    """The finding of a check: its templates filled in with the values of its result.

    Args:
        method: The check.
        role: Role of the model.
        result: What the check returned.
    """
    values = {**result.values, "role": role}
    texts = fill_templates(method.facts, result.verdict, values)
    interval = result.interval
    return Finding(
        check=method.name,
        role=role,
        verdict=result.verdict,
        title=texts["title"],
        explanation=texts["explanation"],
        criterion=texts["criterion"],
        advice=texts["advice"],
        estimate=interval.estimate if interval else None,
        interval=(interval.low, interval.high) if interval else None,
        n=interval.n if interval else _examples(result),
        unit=result.unit,
        evidence=result.evidence,
        command=_command(method.facts, result.verdict, values),
        section=str(method.facts["section"]),
        values=dict(result.values),
        examples=(),
    )


def _command(templates: Mapping[str, Any], verdict: Verdict, values: Mapping[str, CheckValue]) -> str:
    return "" if verdict == "pass" else _template(templates, "command", verdict).format_map(values)


def _examples(result: CheckResult) -> int:
    n = result.values.get("n", 0)
    return int(n) if isinstance(n, int | float) else 0


def fill_templates(templates: Mapping[str, Any], verdict: Verdict, values: Mapping[str, CheckValue]) -> dict[str, str]:
    """Title, explanation, criterion and advice for a verdict; the advice is empty where the check passed.

    Args:
        templates: By name, the templates of a check.
        verdict: The verdict.
        values: The values that templates may name.
    """
    words = {name: " ".join(map(str, value)) if isinstance(value, list) else value for name, value in values.items()}
    texts = {
        part: agree(_template(templates, part, verdict).format_map(words))
        for part in ("title", "explanation", "criterion", "advice")
    }
    return texts | ({"advice": ""} if verdict == "pass" else {})


def _template(templates: Mapping[str, Any], part: str, verdict: Verdict) -> str:
    """The template of `part` for `verdict`: for a title the failing one by default, for the others the general one."""
    general = "title_pass" if part == "title" and verdict in ("pass", "informative") else part
    general = "title_fail" if general == "title" else general
    return str(templates.get(f"{part}_{verdict}") or templates.get(general, ""))


def _as_tuple(results: CheckResult | Iterable[CheckResult] | None) -> tuple[CheckResult, ...]:
    if results is None:
        return ()
    return (results,) if isinstance(results, CheckResult) else tuple(results)
