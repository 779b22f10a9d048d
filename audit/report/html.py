"""Rendering a document as one self-contained HTML page, readable without script and without any network request."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache, partial
from typing import Any

from jinja2 import ChoiceLoader, Environment, FileSystemLoader, PrefixLoader, StrictUndefined
from markupsafe import Markup, escape

from audit.core.resources import resource_dir
from audit.core.threat_format import format_threat
from audit.core.topic import topics
from audit.document.locale import Locale, load_locale
from audit.document.model import Proportion
from audit.document.sanitise import visible
from audit.document.schema import AuditDocument
from audit.report.compiled_templates import CompiledTemplates
from audit.report.hand_over import HandOver
from audit.report.history import RunRow
from audit.report.live_run import LiveRun
from audit.report.run_comparison import RunComparison
from audit.report.topic_parts import OnPartFault, topic_part
from audit.report.trends import numbered, trend_chart, trends
from audit.report.view import build_view
from audit.topics.compression.section import LatencyRow
from audit.topics.detection_comparison.view import named_quantity


def render_html(
    document: AuditDocument,
    *,
    language: str = "en",
    latencies: Sequence[LatencyRow] = (),
    on_fault: OnPartFault | None = None,
    hand_over: HandOver | None = None,
    live: LiveRun | None = None,
) -> str:
    """The page of a document; the same document gives the same text.

    Args:
        document: The document.
        language: Code of the language.
        latencies: Latencies of a compressed model, where the run measured them.
        on_fault: Told of a topic whose part of the page fails, which is then left out; without it the error is raised.
        hand_over: What was decided about the run, where somebody stated it.
        live: How far the run is, where it goes on; the page then loads itself again.

    Raises:
        UsageError: The language is unknown.
    """
    style, script = _asset("report.css"), _asset("report.js")
    return (
        page_environment()
        .get_template("report.html.j2")
        .render(
            d=document,
            t=load_locale(language),
            page=build_view(document, load_locale(language), on_fault=on_fault),
            on_fault=on_fault,
            latencies=latencies,
            h=hand_over,
            live=live,
            style=Markup(style),
            script=Markup(script),
            policy=_policy(style, script),
        )
    )


def render_live_note(state: str, *, language: str = "en", to: str = "", **values: object) -> str:
    """A page of one sentence on a run: that it waits for its first numbers, is done, or ended without a report.

    Args:
        state: "waits", "done" or "ended".
        language: Code of the language.
        to: Where the page leads at once; empty for nowhere. While it waits it loads itself again.
        **values: What the sentence names.
    """
    style = _asset("report.css")
    page = {"state": state, "to": to, "values": values, "t": load_locale(language), "style": Markup(style)}
    return (
        page_environment()
        .get_template("live.html.j2")
        .render(**page, policy=_policy(style, ""), seconds=LiveRun.seconds)
    )


def render_comparison(comparison: RunComparison, *, language: str = "en") -> str:
    """The page of a comparison of two runs, without script.

    Args:
        comparison: The comparison.
        language: Code of the language.

    Raises:
        UsageError: The language is unknown.
    """
    style = _asset("report.css")
    template = page_environment().get_template("compare.html.j2")
    return template.render(c=comparison, t=load_locale(language), style=Markup(style), policy=_policy(style, ""))


def render_history(
    rows: Sequence[RunRow], *, links: Mapping[str, str] | None = None, language: str = "en", version: str = ""
) -> str:
    """The page of a history, without script: trends, then a table of runs.

    Args:
        rows: The runs, the oldest first.
        links: By path of a run, the link to its report, relative to the page.
        language: Code of the language.
        version: Version of the program, for the footer.

    Raises:
        UsageError: The language is unknown.
    """
    style, locale, runs = _asset("report.css"), load_locale(language), numbered(rows)
    return (
        page_environment()
        .get_template("index.html.j2")
        .render(
            runs=runs,
            total=len(rows),
            failing=sum(row.verdict == "fail" for row in rows),
            charts=[(trend, Markup(trend_chart(trend, locale))) for trend in trends(runs)],
            moment=partial(_moment, locale=locale),
            links=dict(links or {}),
            t=locale,
            version=version,
            style=Markup(style),
            policy=_policy(style, ""),
        )
    )


def _moment(text: str, locale: Locale) -> str:
    """An ISO 8601 time as the language writes it; text that is none as it is."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return visible(text)
    return locale("history.moment", year=at.year, month=at.month, day=at.day, hour=at.hour, minute=at.minute)


@cache
def page_environment() -> Environment:
    """The templates of all pages, with their filters."""
    by_topic = {topic.name: FileSystemLoader(topic.folder) for topic in topics()}
    environment = Environment(
        loader=ChoiceLoader(
            [FileSystemLoader(resource_dir("templates")), PrefixLoader({"topics": PrefixLoader(by_topic)})]
        ),
        autoescape=True,
        bytecode_cache=CompiledTemplates(),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"topic_part": topic_part, "named_quantity": named_quantity}
    environment.filters |= {
        "name": _name,
        "seen": lambda text: visible(str(text)),
        "percent": percent,
        "bounds": bounds,
        "between": between,
        "decimals": decimals,
        "coded": _coded,
        "number": number,
        "pretty": _pretty,
        "points": lambda share: signed(f"{100 * share:+.1f}"),
        "signed": signed,
        "settings": _settings,
        "history_columns": _history_columns,
        "epoch_value": lambda value, key: percent(value) if key.endswith("_accuracy") else number(value),
        "in_words": lambda identifier, locale: locale.method(identifier),
        "threat": lambda eps, norm: format_threat(norm, eps),
    }
    return environment


def signed(text: str) -> str:
    """A text with a minus sign, U+2212, in place of the hyphen before each negative number.

    Args:
        text: Any text.
    """
    return re.sub(r"(?<![\w.-])-(?=\d)", "\u2212", text)


def percent(value: float) -> str:
    """A share as a percentage with one decimal.

    Args:
        value: The share, 0.5 for 50%.
    """
    return f"{value:.1%}"


def number(value: float) -> str:
    """A count in full with thousands separators, any other number with four significant digits.

    Args:
        value: An int for a count, a float otherwise.
    """
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"


def bounds(share: Proportion) -> str:
    """The interval of a share in percent, such as 96.1–98.2%.

    Args:
        share: The share.
    """
    return between((share.low, share.high))


def between(interval: tuple[float, float]) -> str:
    """Two shares as a range in percent, such as 96.1–98.2%.

    Args:
        interval: Lower and upper bound.
    """
    return f"{100 * interval[0]:.1f}\u2013{100 * interval[1]:.1f}%"


def decimals(value: float) -> str:
    """A number with two decimals and a minus sign, U+2212; without it where it rounds to zero.

    Args:
        value: The number.
    """
    return f"{value:z.2f}".replace("-", "\u2212")


def _coded(text: object) -> Markup:
    """A sentence whose parts between backticks are code."""
    parts = visible(str(text)).split("`")
    if len(parts) % 2 == 0:
        return escape(visible(str(text)))
    return Markup("").join(Markup("<code>{}</code>").format(p) if i % 2 else escape(p) for i, p in enumerate(parts))


def _name(text: object) -> Markup:
    """A word from outside, isolated from the text direction around it, with invisible characters written out."""
    return Markup("<bdi>{}</bdi>").format(visible(str(text)))


def _pretty(value: Any) -> str:
    return visible_lines(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False))


def visible_lines(text: str) -> str:
    """A text with its invisible characters written out and its line breaks kept.

    Args:
        text: Any text.
    """
    return "\n".join(visible(line) for line in text.split("\n"))


def _settings(settings: dict[str, Any]) -> Markup:
    texts = (f"{key} {_short(value)}" for key, value in sorted(settings.items()) if value is not None)
    return Markup(", ").join(escape(visible(text)) for text in texts)


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


@cache
def _asset(name: str) -> str:
    return (resource_dir("templates") / name).read_text("utf-8")


def _policy(style: str, script: str) -> str:
    return (
        "default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; "
        f"style-src 'sha256-{_digest(style)}'; script-src 'sha256-{_digest(script)}'"
    )


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")


_ACCURACIES = ("train_accuracy", "clean_accuracy", "robust_accuracy", "clean_map", "robust_map")
_HISTORY = ("epoch", "loss", *_ACCURACIES, "learning_rate")


def _history_columns(rows: Sequence[Mapping[str, float]]) -> list[str]:
    """The columns of a training history in reading order, however the rows were stored."""
    present = {key for row in rows for key in row}
    return [key for key in _HISTORY if key in present] + sorted(present - set(_HISTORY))
