"""`audit schema`: the JSON Schema of audit.json."""

from __future__ import annotations

import json

from audit.cli import options as flag
from audit.cli.terminal import command_context


def schema(
    as_json: flag.AsJson = False,
    quiet: flag.Quiet = False,
    verbose: flag.Verbose = False,
    no_color: flag.NoColor = False,
) -> None:
    """Print the JSON Schema that every audit.json of this version obeys.

    [bold]Examples[/]

      audit schema > audit.schema.json
    """
    with command_context(as_json=as_json, quiet=quiet, verbose=verbose, no_color=no_color) as voice:
        from audit.report.document import schema_json

        text = schema_json()
        voice.give(json.loads(text), lambda: print(text, end=""))
