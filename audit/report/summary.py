"""The verdict in words, and the order of findings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from audit.core.evidence import CheckValue, Finding, Verdict
from audit.core.note import Note
from audit.core.registry import methods
from audit.core.topic import sections, topics
from audit.document.locale import Locale
from audit.results.run_checks import SEVERITY, fill_templates

_LAST = 1000
PASSING: tuple[Verdict, ...] = ("pass", "informative")


def by_severity(findings: Sequence[Finding]) -> list[Finding]:
    """Findings sorted by severity, then by the priority of their check or section, then as they were.

    Args:
        findings: The findings.
    """

    def weight(finding: Finding) -> tuple[int, int]:
        return SEVERITY.index(_effective_verdict(finding)), declared.get(finding.check) or by_section.get(
            finding.section, _LAST
        )

    by_section = _section_priorities()
    declared = {m.name: int(m.facts["priority"]) for m in methods("check") if "priority" in m.facts}
    return sorted(findings, key=weight)


def _section_priorities() -> dict[str, int]:
    """By section, the priority of the first of its topics."""
    return {name: min(topic.priority for topic in topics() if topic.section == name) for name in sections()}


def top_findings(findings: Sequence[Finding], count: int = 3) -> list[Finding]:
    """The findings to read first: none that passed, and one per check before a second of the same check.

    Args:
        findings: The findings.
        count: How many, at most.
    """
    bad = [f for f in by_severity(findings) if f.verdict in ("fail", "inconclusive", "warn")]
    firsts = list({f.check: f for f in reversed(bad)}.values())
    firsts = [f for f in bad if f in firsts]
    return (firsts + [f for f in bad if f not in firsts])[:count]


def overall_verdict(
    findings: Sequence[Finding], roles: Sequence[str], only: Sequence[str] = (), *, cut: bool = False
) -> Verdict:
    """The most severe verdict on the model under test or on the tool itself.

    Args:
        findings: The findings of the run.
        roles: Roles of the models, the one under test first.
        only: The sections the run was restricted to; it is then inconclusive where it would pass.
        cut: Whether the run was cut before its end; likewise.
    """
    verdicts = [_effective_verdict(f) for f in _deciding(findings, roles)]
    worst = min(verdicts, key=SEVERITY.index) if verdicts else "not_run"
    return "inconclusive" if (only or cut) and worst in (*PASSING, "warn") else worst


def _effective_verdict(finding: Finding) -> Verdict:
    """The verdict as it counts for the model: an inconclusive finding about a map says nothing against it, so it
    warns."""
    unsure = finding.section == "explanations" and finding.verdict == "inconclusive"
    return "warn" if unsure else finding.verdict


def verdict_sentences(
    findings: Sequence[Finding],
    roles: Sequence[str],
    locale: Locale,
    only: Sequence[str] = (),
    *,
    cut: bool = False,
) -> list[str]:
    """The verdict in words.

    Args:
        findings: The findings of the run.
        roles: Roles of the models, the one under test first.
        locale: The reader's language.
        only: The sections the run was restricted to.
        cut: Whether the run was cut before its end.

    Returns:
        A sentence on the model under test, then one on each other model and whether it does better.
    """
    deciding = _deciding(by_severity(findings), roles)
    if not deciding:
        return [locale("headline.not_run")]
    first = _verdict_sentence(deciding, roles, locale)
    if (only or cut) and _effective_verdict(deciding[0]) in (*PASSING, "warn"):
        parts = ", ".join(locale.title(section) for section in only)
        first = locale("headline.cut", **_counts(deciding)) if cut else locale("headline.partial", parts=parts)
    return [first, *(_other_model_sentence(deciding[0], findings, role, locale) for role in roles[1:])]


def _deciding(findings: Sequence[Finding], roles: Sequence[str]) -> list[Finding]:
    """Findings on the first model, and on the tool itself where the first model has any."""
    audited = [f for f in findings if f.role in roles[:1]]
    return [f for f in findings if f in audited or f.role not in roles] if audited else []


def _verdict_sentence(deciding: Sequence[Finding], roles: Sequence[str], locale: Locale) -> str:
    verdict = "pass" if deciding[0].verdict in PASSING else _effective_verdict(deciding[0])
    role = locale.name("role", roles[0])
    return locale(f"headline.{verdict}", why=_lowercase_title(deciding[0], locale), role=role, **_counts(deciding))


def _other_model_sentence(worst: Finding, findings: Sequence[Finding], role: str, locale: Locale) -> str:
    """What became, in another model, of the finding that the verdict rests on."""
    of_role = [f for f in by_severity(findings) if f.role == role]
    name = locale.name("role", role)
    if not of_role:
        return locale("headline.other_not_run", role=name)
    if of_role[0].verdict in PASSING:
        return locale("headline.other_pass", role=name, **_counts(of_role))
    same = next((f for f in of_role if f.check == worst.check), of_role[0])
    improves = same.verdict in PASSING and worst.verdict not in PASSING
    values = {"role": name, "open": _lowercase_title(of_role[0], locale), **_counts(of_role)}
    return locale(
        "headline.other_mends" if improves else "headline.other_short", why=_lowercase_title(same, locale), **values
    )


def _lowercase_title(finding: Finding, locale: Locale) -> str:
    """The finding's title as part of a sentence: its first letter in lower case, unless it begins a name."""
    title = localised_text(finding, locale)["title"]
    return f"{title[0].lower()}{title[1:]}" if title.split(" ", 1)[0].istitle() else title


def _counts(findings: Sequence[Finding]) -> dict[str, int]:
    passed = sum(f.verdict in PASSING for f in findings)
    return {"passed": passed, "total": len(findings), "failed": sum(f.verdict == "fail" for f in findings)}


def localised_text(finding: Finding, locale: Locale) -> dict[str, str]:
    """The sentences of a finding in the reader's language; in English where the language has none for its check.

    Args:
        finding: The finding.
        locale: The reader's language.

    Returns:
        "title", "explanation", "criterion" and "advice".
    """
    english = {"title": finding.title, "explanation": finding.explanation}
    english |= {"criterion": finding.criterion, "advice": finding.advice}
    prefix = f"check.{finding.check}."
    if not locale.has(f"{prefix}title_pass"):
        return english
    templates = {key.removeprefix(prefix): text for key, text in locale.texts.items() if key.startswith(prefix)}
    values: Mapping[str, CheckValue] = {
        **{name: _translated(value, locale) for name, value in finding.values.items()},
        **{
            word: locale.method(str(finding.values[key]))
            for word, key in (("method", "identifier"), ("corruption", "corruption_name"))
            if key in finding.values
        },
        "role": locale.name("role", finding.role),
    }
    try:
        return fill_templates(templates, finding.verdict, values)
    except (KeyError, IndexError, ValueError, TypeError):  # a text of another version, or of a package that errs
        return english


def _translated(value: CheckValue, locale: Locale) -> CheckValue:
    """Notes in the locale's language; numbers and plain texts as they are."""
    if isinstance(value, list):
        return " ".join(locale.note(sentence) for sentence in value)
    return locale.note(value) if isinstance(value, Note) else value
