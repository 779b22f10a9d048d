"""The verdict in one sentence, and which findings come first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from audit.checks.judge import SEVERITY, sentences
from audit.evidence import Verdict
from audit.registry import methods
from audit.report.locale import Locale
from audit.report.schema import FindingPart

_SECTIONS = ("robustness", "accuracy", "corruptions", "explanations", "comparison", "protocol")


def ranked(findings: Sequence[FindingPart]) -> list[FindingPart]:
    """The findings from the one that matters most; equals in the order of sections, then as they were."""

    def weight(finding: FindingPart) -> tuple[int, int]:
        section = _SECTIONS.index(finding.section) if finding.section in _SECTIONS else len(_SECTIONS)
        return SEVERITY.index(finding.verdict), section

    return sorted(findings, key=weight)


def worst(findings: Sequence[FindingPart], count: int = 3) -> list[FindingPart]:
    """The `count` findings to read first, none that passed, one a check while there are others."""
    bad = [f for f in ranked(findings) if f.verdict in ("fail", "inconclusive", "warn")]
    firsts = list({f.check: f for f in reversed(bad)}.values())
    firsts = [f for f in bad if f in firsts]
    return (firsts + [f for f in bad if f not in firsts])[:count]


def overall(findings: Sequence[FindingPart], role: str) -> Verdict:
    """The worst verdict on the model under test."""
    verdicts = [f.verdict for f in findings if f.role == role]
    return min(verdicts, key=SEVERITY.index) if verdicts else "not_run"


def sentences_of(findings: Sequence[FindingPart], roles: Sequence[str], locale: Locale) -> list[str]:
    """May the model ship and why not; then, a sentence for each other model, whether that one may."""
    if not findings or not roles:
        return [locale("headline.not_run")]
    return [_clause(findings, roles[0], locale), *(_second(findings, role, locale) for role in roles[1:])]


def _clause(findings: Sequence[FindingPart], role: str, locale: Locale) -> str:
    own = [f for f in ranked(findings) if f.role == role]
    if not own:
        return locale("headline.not_run")
    verdict = own[0].verdict
    key = "headline.pass" if verdict in ("pass", "informative") else f"headline.{verdict}"
    return locale(key, why=_lowered(in_words(own[0], locale)["title"]), **_counts(own), role=locale.name("role", role))


def _second(findings: Sequence[FindingPart], role: str, locale: Locale) -> str:
    own = [f for f in ranked(findings) if f.role == role]
    if not own:
        return locale("headline.other_not_run", role=locale.name("role", role))
    verdict = "pass" if own[0].verdict in ("pass", "informative") else own[0].verdict
    key = "headline.other_pass" if verdict == "pass" else "headline.other_short"
    return locale(key, role=locale.name("role", role), why=_lowered(in_words(own[0], locale)["title"]), **_counts(own))


def _lowered(title: str) -> str:
    """A title inside a sentence: its first letter small, unless it begins a name."""
    first, _, rest = title.partition(" ")
    return title if not first.istitle() or not rest else f"{title[0].lower()}{title[1:]}"


def _counts(findings: Sequence[FindingPart]) -> dict[str, int]:
    passed = sum(f.verdict in ("pass", "informative") for f in findings)
    return {"passed": passed, "total": len(findings), "failed": sum(f.verdict == "fail" for f in findings)}


def in_words(finding: FindingPart, locale: Locale) -> dict[str, str]:
    """The finding's sentences in the locale's language; as they were written where it has no words for the check."""
    own = {"title": finding.title, "explanation": finding.explanation}
    own |= {"criterion": finding.criterion, "advice": finding.advice}
    prefix = f"check.{finding.check}."
    if not locale.has(f"{prefix}title_pass"):
        return own
    templates = {key.removeprefix(prefix): text for key, text in locale.texts.items() if key.startswith(prefix)}
    values: Mapping[str, str | float] = {**finding.values, "role": locale.name("role", finding.role)}
    return sentences(templates, finding.verdict, values)


def untranslated(locale: Locale) -> list[str]:
    """The registered checks that `locale` has no words for."""
    return [m.name for m in methods("check") if not locale.has(f"check.{m.name}.title_pass")]
