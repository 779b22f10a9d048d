"""What ships in samples/ for pipelines: policies from mild to strict, and configurations whose commands all work."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import typer
import yaml
from made_run import made_document
from typer.testing import CliRunner

from audit.cli.app import app
from audit.core.resources import resource_dir
from audit.document.schema import AuditDocument
from audit.report.document import to_json
from audit.report.gate import Gate, gate
from audit.report.policy import load_policy

PIPELINES = ("github-actions.yml", "pre-commit-config.yaml")
POLICIES = ("policy-research.toml", "policy-release.toml", "policy-strict.toml")


@pytest.fixture(scope="module")
def document() -> AuditDocument:
    return made_document()


def under(name: str, document: AuditDocument) -> Gate:
    policy, text = load_policy(resource_dir("samples") / name)
    return gate(document.findings, policy, text=text, source=name)


def errors(found: Gate) -> set[tuple[str, str]]:
    return {(row.finding.role, row.finding.check) for row in found.rows if row.outcome == "error"}


def texts(part: Any) -> Iterator[str]:
    """Every text inside a parsed YAML file."""
    if isinstance(part, str):
        yield part
    elif isinstance(part, dict | list):
        for inner in part.values() if isinstance(part, dict) else part:
            yield from texts(inner)


def commands(name: str) -> list[list[str]]:
    parsed = yaml.safe_load((resource_dir("samples") / name).read_text("utf-8"))
    lines = [line.strip() for text in texts(parsed) for line in text.splitlines()]
    return [shlex.split(line)[1:] for line in lines if line.startswith("audit ")]


def test_each_policy_stops_what_the_milder_one_stops(document: AuditDocument) -> None:
    research, release, strict = (errors(under(name, document)) for name in POLICIES)
    assert research == set()
    assert {check for _, check in release} >= {"robust-accuracy", "corruption", "calibration"}
    assert research < release < strict


def test_a_release_is_of_the_model_under_test(document: AuditDocument) -> None:
    """What the hardened model lacks does not hold back the audited one."""
    assert "hardened" not in {role for role, _ in errors(under("policy-release.toml", document))}
    assert "hardened" in {role for role, _ in errors(under("policy-strict.toml", document))}


@pytest.mark.parametrize("check", ["gradient-masking", "attack-controls", "certified-not-broken", "self-test"])
def test_even_research_stops_at_numbers_that_are_not_true(check: str, document: AuditDocument) -> None:
    role = "tool" if check == "self-test" else "standard"
    failing = document.findings[0].model_copy(update={"check": check, "role": role, "verdict": "fail"})
    for name in POLICIES:
        policy, _ = load_policy(resource_dir("samples") / name)
        assert not gate([failing], policy).passed


@pytest.mark.parametrize("name", PIPELINES)
def test_every_command_of_a_pipeline_is_one(name: str) -> None:
    group = typer.main.get_command(app)
    context = group.make_context("audit", [], resilient_parsing=True)
    found = commands(name)
    assert any(words[0] == "check" for words in found)
    for first, *words in found:
        command = group.get_command(context, first)  # type: ignore[attr-defined]
        assert command is not None, first
        command.make_context(first, words, parent=context)


@pytest.mark.parametrize("name", PIPELINES)
def test_a_pipelines_gate_reads_the_run_and_the_policy_of_audit_init(
    name: str, document: AuditDocument, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "audit-run").mkdir()
    (tmp_path / "audit-run" / "audit.json").write_text(to_json(document), encoding="utf-8")
    assert CliRunner().invoke(app, ["init", "audit-run"]).exit_code == 0
    for words in commands(name):
        if words[0] in ("report", "check"):
            shown = CliRunner().invoke(app, words)
            assert shown.exit_code == 0, shown.output
    if name == "github-actions.yml":
        sarif = json.loads((tmp_path / "audit-run" / "audit.sarif").read_text("utf-8"))
        places = [r["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for r in sarif["runs"][0]["results"]]
        assert set(places) == {"policy.toml"}
        ElementTree.parse(tmp_path / "audit-run" / "junit.xml")
        assert (tmp_path / "audit-run" / "summary.md").read_text("utf-8").startswith("## ")


def test_uploaded_files_are_files_that_are_written() -> None:
    parsed = yaml.safe_load((resource_dir("samples") / "github-actions.yml").read_text("utf-8"))
    uses = {step["uses"].split("@")[0]: step["with"] for step in parsed["jobs"]["audit"]["steps"] if "with" in step}
    written = {"audit.json", "report.html", "summary.md", "model-card.md", "junit.xml", "audit.sarif"}
    kept = [*uses["actions/upload-artifact"]["path"].split(), uses["github/codeql-action/upload-sarif"]["sarif_file"]]
    assert kept and {Path(path).name for path in kept} <= written
