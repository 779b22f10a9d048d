"""The self-test's problems solved by the installed captum, shap, lime and foolbox too: how far the answers differ."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

import torch
from torch import Tensor

from audit.core.errors import fault_line
from audit.core.note import Note, note
from audit.topics.self_test.facts import PackageRow

SAME_CODE = note("same_code", "this package is what is called: rounding alone can differ")
OTHER_CODE = note("rounding_alone", "the same quantity by other code: rounding alone differs")


@dataclass(frozen=True)
class PackageAnswer:
    """Two answers to one problem, ours and a package's.

    Attributes:
        problem: The problem.
        method: Our method, with its settings in brackets.
        call: What of the package was called.
        ours: Our answer, on the CPU.
        theirs: The package's, shaped as ours.
        known: The answer known by hand, shaped as ours; None where none is.
        bound: The largest difference that `why` accounts for, relative to the answer's largest value.
        why: Why the answers differ.
    """

    problem: Note
    method: str
    call: str
    ours: Tensor
    theirs: Tensor
    known: Tensor | None
    bound: float
    why: Note


def compare_with_packages(device: torch.device) -> tuple[PackageRow, ...]:
    """Solve problems of the self-test by us and by each package.

    A package that is missing or fails gives one row that says so: it is no fault of the audit, and the run goes on.

    Args:
        device: Where the models run.
    """
    from audit.topics.self_test.attack_answers import foolbox_answers
    from audit.topics.self_test.attribution_answers import captum_answers, lime_answers, shap_answers

    packages: tuple[tuple[str, Callable[[torch.device], Iterator[PackageAnswer]]], ...] = (
        ("captum", captum_answers),
        ("shap", shap_answers),
        ("lime", lime_answers),
        ("foolbox", foolbox_answers),
    )
    return tuple(row for package, answers in packages for row in _compared(package, answers, device))


def _compared(
    package: str, answers: Callable[[torch.device], Iterator[PackageAnswer]], device: torch.device
) -> Iterator[PackageRow]:
    try:
        name = f"{package} {version(package)}"
    except PackageNotFoundError:
        name = package
    try:
        for answer in answers(device):
            yield _compare(name, answer)
    except Exception as fault:  # whatever a package of some version raises
        why = note("package_failed", "the package failed: {fault}", fault=fault_line(fault))
        unsolved = note("not_solved", "not solved")
        yield PackageRow(
            package=name,
            problem=unsolved,
            method="",
            call="",
            difference=None,
            ours=None,
            theirs=None,
            bound=0.0,
            holds=False,
            why=why,
        )


def _compare(package: str, answer: PackageAnswer) -> PackageRow:
    known = answer.known
    scale = float((answer.ours if known is None else known).abs().max())
    difference = _apart(answer.ours, answer.theirs, scale)
    return PackageRow(
        package=package,
        problem=answer.problem,
        method=answer.method,
        call=answer.call,
        difference=difference,
        ours=None if known is None else _apart(answer.ours, known, scale),
        theirs=None if known is None else _apart(answer.theirs, known, scale),
        bound=answer.bound,
        holds=difference <= answer.bound,
        why=answer.why,
    )


def _apart(first: Tensor, second: Tensor, scale: float) -> float:
    apart = float((first.double() - second.double()).abs().max()) / max(scale, 1e-30)
    return apart if apart == apart else float("inf")
