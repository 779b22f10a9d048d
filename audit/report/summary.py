"""The verdict in one sentence, and which findings come first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from audit.core.evidence import CheckValue, Finding, Verdict
from audit.core.note import Note
from audit.core.registry import methods
from audit.core.topic import sections, topics
from audit.document.locale import Locale
from audit.results.run_checks import SEVERITY, fill_templates

_LAST = 1000
GOOD: tuple[Verdict, ...] = ("pass", "informative")


def by_severity(findings: Sequence[Finding]) -> list[Finding]:
    """The findings from the one that matters most; equals by what they speak of, then as they were."""

    def weight(finding: Finding) -> tuple[int, int]:
        return SEVERITY.index(_weighty(finding)), declared.get(finding.check) or by_section.get(finding.section, _LAST)

    by_section = _section_priorities()
    declared = {m.name: int(m.facts["priority"]) for m in methods("check") if "priority" in m.facts}
    return sorted(findings, key=weight)


def _section_priorities() -> dict[str, int]:
    """By section, the priority of the first of its topics."""
    return {name: min(topic.priority for topic in topics() if topic.section == name) for name in sections()}


def top_findings(findings: Sequence[Finding], count: int = 3) -> list[Finding]:
    """The `count` findings to read first, none that passed, one a check while there are others."""
    bad = [f for f in by_severity(findings) if f.verdict in ("fail", "inconclusive", "warn")]
    firsts = list({f.check: f for f in reversed(bad)}.values())
    firsts = [f for f in bad if f in firsts]
    return (firsts + [f for f in bad if f not in firsts])[:count]


def overall_verdict(findings: Sequence[Finding], roles: Sequence[str], only: Sequence[str] = ()) -> Verdict:
    """The worst verdict on the model under test, the first of `roles`, or on the tool itself. Nothing good is said of
    a model of which `only` some sections were measured."""
    verdicts = [_weighty(f) for f in _deciding(findings, roles)]
    worst = min(verdicts, key=SEVERITY.index) if verdicts else "not_run"
    return "inconclusive" if only and worst in (*GOOD, "warn") else worst


def _weighty(finding: Finding) -> Verdict:
    """A map that could not be judged is a warning about the map: it says nothing against the model."""
    unsure = finding.section == "explanations" and finding.verdict == "inconclusive"
    return "warn" if unsure else finding.verdict


def sentences_of(
    findings: Sequence[Finding], roles: Sequence[str], locale: Locale, only: Sequence[str] = ()
) -> list[str]:
    """May the model ship and why not; then, a sentence for each other model, whether that one mends it."""
    own = _deciding(by_severity(findings), roles)
    if not own:
        return [locale("headline.not_run")]
    first = _verdict(own, roles, locale)
    if only and _weighty(own[0]) in (*GOOD, "warn"):
        first = locale("headline.partial", parts=", ".join(locale.title(section) for section in only))
    return [first, *(_remedy(own[0], findings, role, locale) for role in roles[1:])]


def _deciding(findings: Sequence[Finding], roles: Sequence[str]) -> list[Finding]:
    """Findings on the first model, and on no model at all where there is one: a tool that errs judges nothing."""
    own = [f for f in findings if f.role in roles[:1]]
    return [f for f in findings if f in own or f.role not in roles] if own else []


def _verdict(own: Sequence[Finding], roles: Sequence[str], locale: Locale) -> str:
    verdict = "pass" if own[0].verdict in GOOD else _weighty(own[0])
    role = locale.name("role", roles[0])
    return locale(f"headline.{verdict}", why=_inside(own[0], locale), role=role, **_counts(own))


def _remedy(worst: Finding, findings: Sequence[Finding], role: str, locale: Locale) -> str:
    """What became, in another model, of the finding the verdict rests on."""
    own = [f for f in by_severity(findings) if f.role == role]
    name = locale.name("role", role)
    if not own:
        return locale("headline.other_not_run", role=name)
    if own[0].verdict in GOOD:
        return locale("headline.other_pass", role=name, **_counts(own))
    same = next((f for f in own if f.check == worst.check), own[0])
    mends = same.verdict in GOOD and worst.verdict not in GOOD
    said = {"role": name, "open": _inside(own[0], locale), **_counts(own)}
    return locale("headline.other_mends" if mends else "headline.other_short", why=_inside(same, locale), **said)


def _inside(finding: Finding, locale: Locale) -> str:
    """The finding's title as part of a sentence: its first letter small, unless it begins a name."""
    title = localised_text(finding, locale)["title"]
    return f"{title[0].lower()}{title[1:]}" if title.split(" ", 1)[0].istitle() else title


def _counts(findings: Sequence[Finding]) -> dict[str, int]:
    passed = sum(f.verdict in GOOD for f in findings)
    return {"passed": passed, "total": len(findings), "failed": sum(f.verdict == "fail" for f in findings)}


def localised_text(finding: Finding, locale: Locale) -> dict[str, str]:
    """The finding's sentences in the locale's language; as they were written where it has no words for the check."""
    own = {"title": finding.title, "explanation": finding.explanation}
    own |= {"criterion": finding.criterion, "advice": finding.advice}
    prefix = f"check.{finding.check}."
    if not locale.has(f"{prefix}title_pass"):
        return own
    templates = {key.removeprefix(prefix): text for key, text in locale.texts.items() if key.startswith(prefix)}
    values: Mapping[str, CheckValue] = {
        **{name: _translated(value, locale) for name, value in finding.values.items()},
        **({"method": locale.method(str(finding.values["identifier"]))} if "identifier" in finding.values else {}),
        "role": locale.name("role", finding.role),
    }
    return fill_templates(templates, finding.verdict, values)


def _translated(value: CheckValue, locale: Locale) -> CheckValue:
    """Notes in the locale's language; numbers and plain texts as they are."""
    if isinstance(value, list):
        return " ".join(locale.note(sentence) for sentence in value)
    return locale.note(value) if isinstance(value, Note) else value
