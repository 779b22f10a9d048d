"""Killed at any moment, the same command gives the same document."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest


def command(config: Path, out: Path) -> list[str]:
    return [sys.executable, "-m", "audit", "run", str(config), "--out", str(out), "--quiet"]


def environment(tmp_path: Path) -> dict[str, str]:
    return os.environ | {"AUDIT_CACHE_DIR": str(tmp_path / "cache")}


def cells(out: Path) -> int:
    return len(list((out / "store").glob("*/*/evidence.json"))) if out.exists() else 0


def run_until(config: Path, out: Path, env: dict[str, str], wanted: int, delay: float) -> int | None:
    """Start the command and kill it `delay` seconds after it stored `wanted` cells; its exit code if it ended."""
    running = subprocess.Popen(command(config, out), env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while running.poll() is None and cells(out) < wanted:
        time.sleep(0.02)
    time.sleep(delay)
    running.send_signal(signal.SIGKILL)
    return running.wait()


@pytest.mark.timeout(280)
def test_a_killed_run_resumes_to_the_same_document(small_toml: Path, tmp_path: Path) -> None:
    env = environment(tmp_path)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    subprocess.run(command(small_toml, whole), env=env, check=True, capture_output=True)
    draw = random.Random(0)
    for wanted in (0, 1, 6):
        run_until(small_toml, broken, env, wanted, draw.random() * 0.5)
        assert not (broken / "audit.json").exists()
    last = subprocess.run(command(small_toml, broken), env=env, check=True, capture_output=True, text=True)
    assert (broken / "audit.json").read_bytes() == (whole / "audit.json").read_bytes()
    assert (broken / "report.html").read_bytes() == (whole / "report.html").read_bytes()
    assert not list(broken.rglob(".draft-*")) and "Traceback" not in last.stderr


def test_ctrl_c_finishes_the_batch_and_prints_the_command_that_resumes(small_toml: Path, tmp_path: Path) -> None:
    env, out = environment(tmp_path), tmp_path / "run"
    arguments = [*command(small_toml, out)[:-1], "--json"]
    running = subprocess.Popen(arguments, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while cells(out) < 2:
        assert running.poll() is None
        time.sleep(0.02)
    running.send_signal(signal.SIGINT)
    answer, aside = running.communicate(timeout=120)
    assert running.returncode == 130
    assert f"--out {out}" in json.loads(answer)["error"]
    assert "Traceback" not in aside
    assert cells(out) >= 2 and not (out / "audit.json").exists()
