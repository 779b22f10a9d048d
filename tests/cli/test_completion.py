"""What a shell is told when somebody presses Tab."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from audit.cli.app import app


def completions(shell: str, words: str) -> tuple[int, list[str]]:
    asked = {"_AUDIT_COMPLETE": f"complete_{shell}", "_TYPER_COMPLETE_ARGS": words}
    asked |= {"_TYPER_COMPLETE_FISH_ACTION": "get-args", "_TYPER_COMPLETE_WORD_TO_COMPLETE": words.split(" ")[-1]}
    asked |= {"COMP_WORDS": words, "COMP_CWORD": str(len(words.split(" ")) - 1)}
    shown = CliRunner().invoke(app, [], env=asked, prog_name="audit")
    return shown.exit_code, shown.output.split()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("audit re", {"report"}),
        ("audit verify", {"verify", "verify-signature"}),
        ("audit run --nor", {"--norm"}),
    ],
)
def test_bash_is_told_how_a_word_goes_on(words: str, expected: set[str]) -> None:
    code, found = completions("bash", words)
    assert code == 0 and set(found) == expected


def test_zsh_and_fish_are_told_what_each_means() -> None:
    for shell in ("zsh", "fish"):
        code, found = completions(shell, "audit re")
        assert code == 0 and "report" in " ".join(found) and "Render" in " ".join(found)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_a_shell_is_shown(shell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")  # a test may run outside any shell
    shown = CliRunner().invoke(app, ["--show-completion", shell], prog_name="audit")
    assert shown.exit_code == 0 and "_AUDIT_COMPLETE" in shown.output
