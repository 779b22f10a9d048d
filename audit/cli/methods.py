"""`audit methods`: everything the suite can do, with settings and sources."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Annotated, Any

import typer

from audit.cli.options import command
from audit.cli.terminal import Terminal

if TYPE_CHECKING:
    from audit.core.topic import Topic


@command()
def methods(
    terminal: Terminal,
    kind: Annotated[
        str | None,
        typer.Argument(
            help="attack, attribution, corruption, metric, recipe, study, check, data-format, model-format, "
            "detection-attack, detection-attribution or topic."
        ),
    ] = None,
) -> None:
    """List the methods, their settings and the papers they come from.

    [bold]Examples[/]

      audit methods

      audit methods attack --json
    """
    from rich.markup import escape
    from rich.table import Table

    from audit.core.errors import unknown_name
    from audit.core.registry import KINDS, Method
    from audit.core.registry import methods as registered
    from audit.core.topic import topics

    if kind is not None and kind not in (*KINDS, "topic"):
        raise unknown_name("kind of method", kind, (*KINDS, "topic"))
    listed: list[Method] = [m for name in KINDS if kind in (None, name) for m in registered(name)]
    rows: list[dict[str, Any]] = [
        {
            "kind": method.kind,
            "name": method.name,
            "summary": method.summary,
            "settings": {name: repr(value) for name, value in method.defaults.items()},
            "reference": method.reference,
            "version": method.full_version,
        }
        for method in listed
    ]
    if kind in (None, "topic"):
        rows += [_topic_row(topic) for topic in topics()]

    def show() -> None:
        table = Table("kind", "name", "what", "settings", "source", box=None, header_style="bold")
        for row in rows:
            settings = ", ".join(f"{name}={value}" for name, value in row["settings"].items())
            table.add_row(row["kind"], row["name"], escape(row["summary"]), escape(settings), escape(row["reference"]))
        terminal.stdout.print(table)

    terminal.emit({"methods": rows}, show)


def _topic_row(topic: Topic) -> dict[str, Any]:
    """A topic as a row: its settings are the keys of its own table of the configuration."""
    table = topic.config.model_fields if topic.config else {}
    return {
        "kind": "topic",
        "name": topic.name,
        "summary": (importlib.import_module(topic.package).__doc__ or "").partition("\n")[0],
        "settings": {key: repr(field.default) for key, field in table.items()},
        "reference": f"--only {topic.section}" if topic.section else "",
        "version": topic.package,
    }
