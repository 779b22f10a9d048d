"""`audit schema`: the JSON Schema of audit.json."""

from __future__ import annotations

import json

from audit.cli.options import command
from audit.cli.terminal import Terminal


@command()
def schema(terminal: Terminal) -> None:
    """Print the JSON Schema that every audit.json of this version obeys.

    [bold]Examples[/]

      audit schema > audit.schema.json
    """
    from audit.report.document import schema_json

    text = schema_json()
    terminal.emit(json.loads(text), lambda: print(text, end=""))
