"""What only people know of a model that is handed over: its licence, its data sets, and what was decided."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from audit.core.errors import UsageError
from audit.document.schema import AuditDocument
from audit.report.document import to_json
from audit.report.gate import gate
from audit.report.policy import Policy


@dataclass(frozen=True)
class SignOff:
    """A decision about a model, as somebody stated it; nothing in it is made up.

    Attributes:
        decision: What was decided.
        by: Who decided; empty where it was not said.
        on: When; empty where it was not said.
        policy: Name of the policy file that the run was held against; empty for the built-in policy.
        policy_sha256: SHA-256 of that file, in hexadecimal digits; empty without one.
        gate_passed: Whether the run passes it.
        errors: Number of findings that the policy calls errors.
        document_sha256: SHA-256 of the document decided on, in hexadecimal digits.
    """

    decision: str
    by: str
    on: str
    policy: str
    policy_sha256: str
    gate_passed: bool
    errors: int
    document_sha256: str


@dataclass(frozen=True)
class HandOver:
    """What a reader is told beside the audit.

    Attributes:
        license: The model's licence, as the Hub or SPDX names it; empty where it was not said.
        datasets: The data sets it was trained on, as the Hub names them.
        sign_off: What was decided; None where nothing was.
    """

    license: str = ""
    datasets: tuple[str, ...] = ()
    sign_off: SignOff | None = None

    def __post_init__(self) -> None:
        """Refuse what the Hub would not read."""
        if self.license and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.+-]*", self.license):
            raise UsageError(
                f"--license {self.license!r} is no name of a licence: give its SPDX name, as in apache-2.0."
            )
        for name in self.datasets:
            if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name, flags=re.ASCII):
                raise UsageError(f"--dataset {name!r} is no name of a data set: give it as NAME or OWNER/NAME.")


def sign_off(
    document: AuditDocument,
    decision: str,
    *,
    by: str = "",
    on: str = "",
    policy: Policy | None = None,
    policy_name: str = "",
    policy_text: str = "",
) -> SignOff | None:
    """A decision about a run under a policy.

    Args:
        document: The document decided on.
        decision: What was decided; empty for nothing.
        by: Who decided.
        on: When.
        policy: The policy; None for the built-in one.
        policy_name: Name of its file.
        policy_text: Text of its file.

    Returns:
        The sign-off; None where nothing was decided.

    Raises:
        UsageError: It is said who decided or when, and not what.
    """
    if not decision:
        if by or on:
            raise UsageError("Who decided and when is said, and not what: add it, as in --decision 'may ship'.")
        return None
    gated = gate(document.findings, policy, text=policy_text, source=policy_name)
    return SignOff(
        decision,
        by,
        on,
        policy_name,
        hashlib.sha256(policy_text.encode()).hexdigest() if policy_name else "",
        gated.passed,
        sum(row.outcome == "error" for row in gated.rows),
        hashlib.sha256(to_json(document).encode()).hexdigest(),
    )
