"""What `audit run` does, from Python."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audit.config import RunConfig, load_config
from audit.core.evidence import Finding
from audit.document.schema import AuditDocument
from audit.report.document import to_json
from audit.report.html import render_html
from audit.runs.pipeline import run_audit
from audit.topics.compression.section import read_latencies


@dataclass(frozen=True)
class AuditResult:
    """A finished run. A notebook displays it as the report.

    Attributes:
        document: Its audit.json.
        folder: The run folder.
    """

    document: AuditDocument
    folder: Path

    @property
    def findings(self) -> list[Finding]:
        """What the checks conclude."""
        return self.document.findings

    def to_json(self) -> str:
        """The text of audit.json."""
        return to_json(self.document)

    def to_html(self, *, language: str = "en") -> str:
        """The report as a self-contained page.

        Args:
            language: en or zh.
        """
        return render_html(self.document, language=language, latencies=read_latencies(self.folder / "timing.json"))

    def _repr_html_(self) -> str:
        import html

        page = html.escape(self.to_html(), quote=True)
        return f'<iframe srcdoc="{page}" style="width:100%;height:40rem;border:0" title="Audit report"></iframe>'


def run(
    config: RunConfig | Mapping[str, Any] | str | Path | None = None,
    *,
    out: str | Path = "audit-run",
    within: float | None = None,
) -> AuditResult:
    """Train or load a model, audit it, harden it, audit that too.

    Args:
        config: A configuration, an audit.toml, a nested mapping of its keys, or None for the sample.
        out: The run folder. What it holds already is not computed again.
        within: Seconds after which the run ends with a report of what is there; None for as long as it needs.

    Raises:
        AuditError: Any of `audit.core.errors`.
    """
    finished = run_audit(_as_config(config), Path(out), within=within)
    return AuditResult(finished.document, finished.folder.root)


def _as_config(config: RunConfig | Mapping[str, Any] | str | Path | None) -> RunConfig:
    if isinstance(config, RunConfig):
        return config
    if isinstance(config, Mapping):
        return load_config(overrides=config)
    return load_config(None if config is None else Path(config))
