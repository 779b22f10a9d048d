"""What a topic adds to the page, each part by itself: one that fails is said so in its place, and the page stands."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

from jinja2 import pass_context
from jinja2.runtime import Context
from markupsafe import Markup

from audit.core.errors import fault_line
from audit.core.evidence import Finding
from audit.core.topic import Topic, sections, topics
from audit.document.locale import Locale
from audit.document.sanitise import visible
from audit.document.schema import AuditDocument

OnPartFault: TypeAlias = Callable[[str], None]
"""Takes a sentence of which topic failed, and how."""


@dataclass(frozen=True)
class TopicView:
    """A topic's part of a section.

    Attributes:
        name: Name of the topic.
        template: Its template; empty when it has none.
        lead: The template of what stands above the section's findings; empty when it has none.
        studies: The studies whose measurements follow in a table.
        view: What the topic's `view` function returned for its templates.
        folded: Whether it is folded where another topic's lead opens the section.
    """

    name: str
    template: str
    lead: str
    studies: tuple[str, ...]
    view: Any
    folded: bool = False


@dataclass(frozen=True)
class SectionView:
    """A section of the report.

    Attributes:
        name: Its anchor.
        title: Its heading.
        lead: The sentence below the heading.
        parts: What its topics show.
    """

    name: str
    title: str
    lead: str
    parts: tuple[TopicView, ...]

    @property
    def folds(self) -> bool:
        """Whether the topics that say so are folded: another one's lead opens the section."""
        return any(part.folded for part in self.parts) and any(part.lead and not part.folded for part in self.parts)


def section_views(
    document: AuditDocument, locale: Locale, findings: Sequence[tuple[str, Finding]], on_fault: OnPartFault | None
) -> tuple[SectionView, ...]:
    """The sections that have something to show.

    Args:
        document: The document.
        locale: The reader's language.
        findings: The findings with their anchors in the page.
        on_fault: Told of a topic whose view fails; without it the error is raised.
    """
    views = {name: _topic_views(name, document, locale, findings, on_fault) for name in sections()}
    return tuple(
        SectionView(
            name,
            locale.title(name),
            locale.optional(f"{name}.lead"),
            topic_views,
        )
        for name, topic_views in views.items()
        if topic_views
    )


def _topic_views(
    section: str,
    document: AuditDocument,
    locale: Locale,
    findings: Sequence[tuple[str, Finding]],
    on_fault: OnPartFault | None,
) -> tuple[TopicView, ...]:
    return tuple(
        _topic_view(topic, document, locale, findings, on_fault)
        for topic in topics()
        if topic.section == section
        and _guarded(topic, "is_shown", partial(_is_shown, topic, document), on_fault, otherwise=False)
    )


def _is_shown(topic: Topic, document: AuditDocument) -> bool:
    """Whether a topic has rows, unless it says so itself."""
    declared = topic.function("view", "is_shown")
    if declared:
        return bool(declared(document))
    rows = any(getattr(document, field) for field in topic.document)
    return rows or any(row.study in topic.studies for row in document.measures)


def _topic_view(
    topic: Topic,
    document: AuditDocument,
    locale: Locale,
    findings: Sequence[tuple[str, Finding]],
    on_fault: OnPartFault | None,
) -> TopicView:
    def call() -> Any:
        view = topic.function("view", "view")
        return view(document, locale, findings) if view else None

    view = _guarded(topic, "view", call, on_fault, otherwise=_FAILED)
    templates = {
        name: f"topics/{topic.name}/{name}.html.j2" if _has_template(topic, name) and view is not _FAILED else ""
        for name in ("section", "lead")
    }
    return TopicView(
        name=topic.name,
        template=templates["section"],
        lead=templates["lead"],
        studies=tuple(topic.studies) if topic.measures else (),
        view=view,
        folded=topic.folded,
    )


_FAILED = object()
"""In place of a view that could not be made: its templates are not filled."""


def _has_template(topic: Topic, name: str) -> bool:
    return (topic.folder / f"{name}.html.j2").is_file()


def _fault_sentence(topic: str, part: str, fault: Exception) -> str:
    """Which part of the page cannot be shown, and why.

    Args:
        topic: Name of the topic.
        part: The file or the function that failed.
        fault: How.
    """
    return f"{part} of topic {topic} failed: {fault_line(fault)}; the page is without it."


def _guarded(topic: Topic, name: str, call: Callable[[], Any], on_fault: OnPartFault | None, otherwise: Any) -> Any:
    """What a function of a topic's `view.py` returns; where it fails and somebody is to be told, a substitute.

    Args:
        topic: The topic.
        name: The function, as a user knows it.
        call: Calls it.
        on_fault: Told of a failure; without it the error is raised.
        otherwise: The substitute.
    """
    try:
        return call()
    except Exception as fault:
        if on_fault is None:
            raise
        on_fault(_fault_sentence(topic.name, name, fault))
        return otherwise


@pass_context
def topic_part(context: Context, name: str, template: str, view: Any, part: Any) -> Markup:
    """A topic's template, filled as `include` fills it.

    Args:
        context: Of the page; its `on_fault` is an `OnPartFault` or None.
        name: Name of the topic.
        template: Path of the template.
        view: What the topic's `view` function returned.
        part: The topic's part of the section.
    """
    on_fault: OnPartFault | None = context["on_fault"]
    try:
        filled = context.environment.get_template(template).render({**context.get_all(), "view": view, "part": part})
        return Markup(filled)
    except Exception as fault:
        if on_fault is None:
            raise
        sentence = _fault_sentence(name, template.rpartition("/")[2], fault)
        on_fault(sentence)
        return Markup('<p class="note">{}</p>').format(visible(sentence))
