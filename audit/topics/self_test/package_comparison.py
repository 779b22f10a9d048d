"""The self-test's problems solved by the installed captum, shap, lime and foolbox too: how far the answers differ."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

import torch
from torch import Tensor

from audit.core.errors import fault_line
from audit.core.note import Note, note

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


@dataclass(frozen=True)
class PackageComparison:
    """How far our answer to one problem is from a package's.

    Attributes:
        package: The package with its version.
        problem: The problem.
        method: Our method.
        call: What of the package was called; empty where it failed.
        difference: Largest difference of the two answers, relative to the largest value; None where the package failed.
        ours: Our error from the answer known by hand, relative; None where none is known.
        theirs: The package's.
        bound: The largest difference that `why` accounts for.
        why: Why the answers differ, or how the package failed.
    """

    package: str
    problem: Note
    method: str
    call: str
    difference: float | None
    ours: float | None
    theirs: float | None
    bound: float
    why: Note

    @property
    def holds(self) -> bool:
        """Whether the difference is within what `why` accounts for."""
        return self.difference is not None and self.difference <= self.bound


def compare_with_packages(device: torch.device) -> tuple[PackageComparison, ...]:
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
) -> Iterator[PackageComparison]:
    try:
        name = f"{package} {version(package)}"
    except PackageNotFoundError:
        name = package
    try:
        for answer in answers(device):
            yield _compare(name, answer)
    except Exception as fault:  # whatever a package of some version raises
        why = note("package_failed", "the package failed: {fault}", fault=fault_line(fault))
        yield PackageComparison(name, note("not_solved", "not solved"), "", "", None, None, None, 0.0, why)


def _compare(package: str, answer: PackageAnswer) -> PackageComparison:
    known = answer.known
    scale = float((answer.ours if known is None else known).abs().max())
    return PackageComparison(
        package,
        answer.problem,
        answer.method,
        answer.call,
        _apart(answer.ours, answer.theirs, scale),
        None if known is None else _apart(answer.ours, known, scale),
        None if known is None else _apart(answer.theirs, known, scale),
        answer.bound,
        answer.why,
    )


def _apart(first: Tensor, second: Tensor, scale: float) -> float:
    apart = float((first.double() - second.double()).abs().max()) / max(scale, 1e-30)
    return apart if apart == apart else float("inf")
