"""`audit init`: a configuration with every key explained, and a policy from the numbers of a first run."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from audit.cli.options import command
from audit.cli.terminal import Terminal, document_path


@command("preset")
def init(
    terminal: Terminal,
    overrides: dict[str, Any],
    run: Annotated[
        Path | None,
        typer.Argument(help="A finished run folder, or its audit.json: policy.toml is written from its numbers."),
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="The folder the files go to.")] = Path(),
    force: Annotated[bool, typer.Option("--force", help="Write over files that are there.")] = False,
) -> None:
    """Write an audit.toml that lists every key with its default and meaning; after a first run, a policy.toml.

    With a RUN the policy is written: a rule a check, its threshold what that run reached. An audit.toml that is
    there already is then left as it is.

    [bold]Examples[/]

      audit init

      audit init audit-run --out .
    """
    from audit.config.template import configuration_template
    from audit.core.errors import UsageError
    from audit.storage.store import write_atomically

    texts: dict[Path, str] = {}
    if run is None or not (out / "audit.toml").exists():
        texts[out / "audit.toml"] = configuration_template(overrides.get("preset", "quick"))
    if run is not None:
        from audit.report.document import read_document
        from audit.report.first_policy import first_policy

        texts[out / "policy.toml"] = first_policy(read_document(document_path(run)))
    existing = [str(path) for path in texts if path.exists()]
    if existing and not force:
        raise UsageError(
            f"{' and '.join(existing)} exists already, and nothing was written. "
            "Give --force to write over it, or another folder with --out."
        )
    for path, text in texts.items():
        write_atomically(path, text, flag="--out")
    paths = [str(path) for path in texts]
    terminal.emit({"written": paths}, lambda: terminal.stdout.print("\n".join(paths), soft_wrap=True, markup=False))
    if run is None:
        configuration = shlex.quote(str(out / "audit.toml"))
        terminal.info(f"Next: audit run {configuration}, then audit init RUN writes policy.toml from what it found.")
