#!/usr/bin/env bash
# typer 0.29.2 carries a click of its own: `except click.ClickException` around an app catches none of its errors.
#
# Guess: typer builds on click, so an embedding program catches click.ClickException (and click.exceptions.Exit) of
# `app(standalone_mode=False)` as the documentation of click says, and typer.BadParameter is a click.BadParameter.
# Seen (typer 0.29.2, click 8.5.1, Python 3.11): with both installed, a wrong option raises a NoSuchOption that is no
# click.ClickException, typer.BadParameter is no subclass of it either, and typer.Exit none of click.exceptions.Exit.
# The handler never runs and the user sees a traceback.
# What audit does: it takes the base class from typer's own exceptions (audit/cli/faults.py, tests/cli/test_one_door.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check typer==0.29.2 click==8.5.1
cat > "$folder/handler.py" <<'PY'
import click
import typer

app = typer.Typer()


@app.command()
def greet(name: str = "you") -> None:
    print(f"hello {name}")


caught = "nothing"
try:
    app(["--nmae", "me"], standalone_mode=False)
except click.ClickException:
    caught = "click.ClickException"
except Exception as fault:
    caught = f"{type(fault).__name__}, no click.ClickException"
print(caught)
assert caught == "NoSuchOption, no click.ClickException", caught
assert not issubclass(typer.BadParameter, click.ClickException)
assert not issubclass(typer.Exit, click.exceptions.Exit)
PY
"$folder/venv/bin/python" "$folder/handler.py"
