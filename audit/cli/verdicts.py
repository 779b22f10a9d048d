"""Verdicts as words in a terminal."""

from __future__ import annotations

from collections.abc import Mapping

MARKS: Mapping[str, str] = {
    "pass": "[green]pass[/]",
    "warn": "[yellow]warn[/]",
    "fail": "[red]fail[/]",
    "inconclusive": "[magenta]inconclusive[/]",
    "informative": "[dim]note[/]",
    "not_run": "[dim]not run[/]",
}
