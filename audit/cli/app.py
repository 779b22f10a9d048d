"""The commands of `audit`."""

from __future__ import annotations

from typing import Annotated

import typer

from audit.cli.calibrate import calibrate
from audit.cli.check import check
from audit.cli.compare import compare
from audit.cli.compress import compress
from audit.cli.doctor import doctor
from audit.cli.door import OneDoor
from audit.cli.harden import harden
from audit.cli.index import index
from audit.cli.init import init
from audit.cli.list import list_runs
from audit.cli.log import log_run
from audit.cli.methods import methods
from audit.cli.plan import plan
from audit.cli.predict import predict
from audit.cli.report import report
from audit.cli.run import run
from audit.cli.schema import schema
from audit.cli.show import show
from audit.cli.sign import sign, verify_signature
from audit.cli.train import train
from audit.cli.verify import verify

app = typer.Typer(
    cls=OneDoor,
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 pass · 1 gate failed · 2 usage or configuration · 3 incomplete · 4 refused as untrusted · "
    "5 environment · 70 audit itself failed · 130 interrupted.",
)

for command in (
    run,
    plan,
    train,
    harden,
    compress,
    calibrate,
    predict,
    verify,
    report,
    check,
    compare,
    show,
    index,
    methods,
    doctor,
    schema,
    init,
):
    app.command()(command)
app.command("list")(list_runs)
app.command("log")(log_run)
app.command("sign")(sign)
app.command("verify-signature")(verify_signature)


def _print_version(requested: bool) -> None:
    if requested:
        from importlib.metadata import version

        typer.echo(version("audit"))
        raise typer.Exit


@app.callback()
def about(
    _version: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True)] = False,
) -> None:
    """What does an image classifier look at, how easily is it fooled, and can it be made harder to fool?"""
