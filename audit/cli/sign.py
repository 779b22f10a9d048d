"""`audit sign` and `audit verify-signature`: a run folder or weights, signed by a key."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from audit.cli.options import command
from audit.cli.terminal import Terminal

_Signed = Annotated[Path, typer.Argument(help="A run folder, or a file of weights.")]
_Signature = Annotated[
    Path | None,
    typer.Option("--signature", help="The signature: RUN/audit.sig or FILE.sig by default.", show_default=False),
]


@command()
def sign(
    terminal: Terminal,
    key: Annotated[Path, typer.Option("--key", help="A private elliptic-curve key, PEM.", show_default=False)],
    path: _Signed = Path("audit-run"),
    signature: _Signature = None,
    password: Annotated[
        str, typer.Option("--key-password", envvar="AUDIT_KEY_PASSWORD", help="Of the key.", show_default=False)
    ] = "",
) -> None:
    """Sign a finished run, document, report and weights, or one file, so that others can tell whether it changed.

    The signature is in the format of OpenSSF model-signing, whose own program verifies it too. The store, from which a
    run goes on, is left out.

    [bold]Examples[/]

      audit sign audit-run --key key.pem

      audit sign audit-run/models/standard.safetensors --key key.pem
    """
    from audit.storage import signature as signatures

    target = signature or signatures.signature_of(path)
    files = signatures.sign(path, target, private_key=key, password=password)
    terminal.emit(
        {"signature": str(target), "files": files},
        lambda: terminal.stdout.print(f"{len(files)} files signed: {target}", soft_wrap=True, markup=False),
    )


@command()
def verify_signature(
    terminal: Terminal,
    key: Annotated[Path, typer.Option("--key", help="The public key, PEM.", show_default=False)],
    path: _Signed = Path("audit-run"),
    signature: _Signature = None,
) -> None:
    """Check that a run or a file is what the owner of a key signed. Exit 4 where it is not.

    [bold]Examples[/]

      audit verify-signature audit-run --key key.pub
    """
    from audit.storage import signature as signatures

    target = signature or signatures.signature_of(path)
    files = signatures.verify_signature(path, target, public_key=key)
    terminal.emit(
        {"signature": str(target), "files": files},
        lambda: terminal.stdout.print(
            f"{len(files)} files are as the owner of {key.name} signed them.", soft_wrap=True, markup=False
        ),
    )
