"""Killed at any moment, the same command gives the same document."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest


def command(config: Path, out: Path, kind: str = "run") -> list[str]:
    return [sys.executable, "-m", "audit", kind, str(config), "--out", str(out), "--quiet"]


def environment(tmp_path: Path) -> dict[str, str]:
    return os.environ | {"AUDIT_CACHE_DIR": str(tmp_path / "cache")}


def cells(out: Path) -> int:
    return len(list((out / "store").glob("*/*/evidence.json"))) if out.exists() else 0


def run_until(config: Path, out: Path, env: dict[str, str], wanted: int, delay: float, kind: str) -> int:
    """Start the command and kill it `delay` seconds after it stored `wanted` cells; how it ended."""
    running = subprocess.Popen(
        command(config, out, kind), env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while running.poll() is None and cells(out) < wanted:
        time.sleep(0.02)
    time.sleep(delay)
    running.send_signal(signal.SIGKILL)
    return running.wait()


def killed(kind: str, config: Path, tmp_path: Path, moments: int) -> None:
    """Kill the job at seeded moments spread over all of it; then the same command ends in the same documents."""
    env = environment(tmp_path)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    subprocess.run(command(config, whole, kind), env=env, check=True, capture_output=True)
    draw = random.Random(kind)
    for wanted in sorted(draw.sample(range(cells(whole) - 2), moments)):
        ended = run_until(config, broken, env, wanted, draw.random() * 0.4, kind)
        assert ended in (-signal.SIGKILL, 0)
    last = subprocess.run(command(config, broken, kind), env=env, check=True, capture_output=True, text=True)
    for name in ("audit.json", "report.html", "model.safetensors"):
        assert (broken / name).exists() == (whole / name).exists()
        assert not (whole / name).exists() or (broken / name).read_bytes() == (whole / name).read_bytes(), name
    assert not list(broken.rglob(".draft-*")) and "Traceback" not in last.stderr


@pytest.mark.timeout(280)
@pytest.mark.parametrize("kind", ["run", "harden"])
def test_a_killed_job_resumes_to_the_same_documents(kind: str, tiny_toml: Path, tmp_path: Path) -> None:
    killed(kind, tiny_toml, tmp_path, 2)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("kind", ["run", "harden"])
def test_a_job_killed_twenty_times_resumes_to_the_same_documents(kind: str, small_toml: Path, tmp_path: Path) -> None:
    killed(kind, small_toml, tmp_path, 20)


def interrupted_at(wanted: int, config: Path, out: Path, env: dict[str, str]) -> dict[str, Any]:
    """Send Ctrl-C once so many cells are stored; the JSON that the command prints."""
    arguments = [*command(config, out)[:-1], "--json"]
    running = subprocess.Popen(arguments, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while cells(out) < wanted:
        assert running.poll() is None
        time.sleep(0.02)
    running.send_signal(signal.SIGINT)
    answer, aside = running.communicate(timeout=120)
    assert running.returncode == 130
    assert "Traceback" not in aside
    document: dict[str, Any] = json.loads(answer)
    return document


def test_ctrl_c_prints_the_command_that_resumes_or_writes_the_report_of_what_is_there(
    small_toml: Path, tmp_path: Path
) -> None:
    env, out = environment(tmp_path), tmp_path / "run"
    early = interrupted_at(1, small_toml, out, env)
    assert f"--out {out}" in early["error"] and not (out / "audit.json").exists()
    late = interrupted_at(8, small_toml, out, env)
    assert late["cut_by"] == "user" and late["complete"] is False and late["unfinished"]
    assert f"--out {out}" in late["next"] and late["report"] == str(out / "report.html")
    assert "This run was stopped before everything was measured" in (out / "report.html").read_text()
    assert json.loads((out / "audit.json").read_text())["summary"]["cut_by"] == "user"
