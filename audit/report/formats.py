"""The formats a document is rendered in, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module

from audit.core.errors import unknown_name
from audit.document.schema import AuditDocument
from audit.report.hand_over import HandOver
from audit.topics.compression.section import LatencyRow


@dataclass(frozen=True)
class Format:
    """A format that a document can be rendered in.

    Attributes:
        name: Its name on the command line.
        file: Name of the file it is written to.
        function: The function that renders it, as module:name.
        translated: Whether the function takes `language`.
        timed: Whether the function takes `latencies`.
        by_topic: Whether the function takes `on_fault`, which is told of a topic whose part fails.
        handed_over: Whether the function takes `hand_over`.
    """

    name: str
    file: str
    function: str
    translated: bool = False
    timed: bool = False
    by_topic: bool = False
    handed_over: bool = False


_PAGE = (True, True, True, True)  # all that a rendering may take
FORMATS: Mapping[str, Format] = {
    form.name: form
    for form in (
        Format("html", "report.html", "audit.report.html:render_html", *_PAGE),
        Format("pdf", "report.pdf", "audit.report.pdf:render_pdf", *_PAGE),
        Format("junit", "junit.xml", "audit.report.junit:render_junit"),
        Format("sarif", "audit.sarif", "audit.report.sarif:render_sarif"),
        Format("md", "summary.md", "audit.report.markdown:render_markdown", translated=True),
        Format("card", "model-card.md", "audit.report.markdown:render_card", translated=True, handed_over=True),
        Format("bom", "audit.cdx.json", "audit.report.bill_of_materials:render_bill_of_materials", handed_over=True),
    )
}


def parse_formats(names: str) -> tuple[Format, ...]:
    """The formats of some names.

    Args:
        names: Names separated by commas.

    Raises:
        UsageError: A name is unknown; the message lists those there are.
    """
    formats = []
    for name in dict.fromkeys(part.strip() for part in names.split(",")):
        if name not in FORMATS:
            raise unknown_name("format", name, FORMATS)
        formats.append(FORMATS[name])
    return tuple(formats)


def render(
    document: AuditDocument,
    form: Format,
    *,
    language: str = "en",
    latencies: Sequence[LatencyRow] = (),
    on_fault: Callable[[str], None] | None = None,
    hand_over: HandOver | None = None,
) -> str | bytes:
    """Render a document.

    Args:
        document: The document.
        form: The format.
        language: Code of the language, for formats that are translated.
        latencies: Latencies of a compressed model, for formats that show them.
        on_fault: Told of a topic whose part of the page fails; without it the error is raised.
        hand_over: What only people know of the model, for formats that say it.

    Returns:
        The text of the file, or its bytes.
    """
    module, name = form.function.split(":")
    function = getattr(import_module(module), name)
    translation = {"language": language} if form.translated else {}
    timing = {"latencies": latencies} if form.timed else {}
    told = {"on_fault": on_fault} if form.by_topic else {}
    stated = {"hand_over": hand_over} if form.handed_over else {}
    rendered: str | bytes = function(document, **translation, **timing, **told, **stated)
    return rendered
