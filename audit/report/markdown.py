"""Rendering a document as Markdown: a summary for a merge request, and a model card."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from itertools import groupby

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from audit.core.resources import resource_dir
from audit.core.threat_format import format_threat
from audit.document.locale import load_locale
from audit.document.model import Proportion
from audit.document.sanitise import visible
from audit.document.schema import AuditDocument
from audit.report.card_head import card_head
from audit.report.gate import gate
from audit.report.hand_over import HandOver
from audit.report.view import FindingView, build_view


@dataclass(frozen=True)
class MarkdownFinding:
    """A finding as the Markdown templates show it.

    Attributes:
        view: The finding in the reader's language.
        verdict: Its verdict under the policy.
        outcome: What it does to the pipeline.
    """

    view: FindingView
    verdict: str
    outcome: str


def render_markdown(document: AuditDocument, *, language: str = "en") -> str:
    """A summary for a merge request: the verdict, the scorecard and the findings that stop or warn.

    Args:
        document: The document.
        language: Code of the language.
    """
    return _render("summary.md.j2", document, language)


def render_card(document: AuditDocument, *, language: str = "en", hand_over: HandOver | None = None) -> str:
    """A model card (Mitchell et al. 2019, arXiv:1810.03993) of what was measured and what was not.

    It begins with the YAML head that the Hugging Face Hub indexes.

    Args:
        document: The document.
        language: Code of the language.
        hand_over: The licence, the data sets and the decision, where somebody stated them.
    """
    stated = hand_over or HandOver()
    return f"{card_head(document, stated)}\n{_render('card.md.j2', document, language, stated)}"


def _render(template: str, document: AuditDocument, language: str, stated: HandOver | None = None) -> str:
    locale = load_locale(language)
    page = build_view(document, locale, draw=False)
    views = {id(view.finding): view for section in page.by_section.values() for view in section}
    rows = [
        MarkdownFinding(views[id(row.finding)], row.verdict, row.outcome)
        for row in gate(document.findings).rows
        if id(row.finding) in views
    ]
    text = _environment().get_template(template).render(d=document, t=locale, page=page, rows=rows, h=stated)
    return _single_blank_lines(text)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(resource_dir("templates")),
        autoescape=False,  # Markdown has its own escapes: every value passes `md` or `code`
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "md": escaped,
        "code": lambda text: visible(str(text)).replace("`", "'"),
        "percent": lambda value: f"{value:.1%}",
        "number": lambda value: f"{value:,}",
        "share": _share,
        "share_of": _share_of,
        "threat": lambda eps, norm: format_threat(norm, eps),
    }
    return environment


def escaped(text: object) -> str:
    """A text in which nothing is Markdown, HTML or a mention.

    Args:
        text: Anything; its `str` is used.
    """
    plain = visible(str(text)).replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"([\\`*_\[\]{}#|~!>])", r"\\\1", plain).replace("@", "&#64;")


def _share(share: Proportion | None) -> str:
    return "–" if share is None else f"{share.estimate:.1%} ({100 * share.low:.1f}–{100 * share.high:.1f}%)"


def _share_of(share: Proportion | None, bare: float | None = None) -> str:
    """With the number of images; of a document without the interval the bare figure."""
    if share is None:
        return "–" if bare is None else f"{bare:.1%}"
    return f"{_share(share)}, n = {share.n:,}"


def _single_blank_lines(text: str) -> str:
    lines = (list(group) for _, group in groupby(text.splitlines(), key=lambda line: not line.strip()))
    return "\n".join(line for group in lines for line in (group[:1] if not group[0].strip() else group)) + "\n"
