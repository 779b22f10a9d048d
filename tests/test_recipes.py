"""The recipes of audit/README.md, run as they stand: inside the package, and as a package outside that brings them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from audit.core.resources import resource_dir

PACKAGE = Path(__file__).parent.parent / "audit"
METHODS = ("attacks/brightness", "attributions/squared_gradient", "data/formats/stripes")
RUN = """
[model]
architecture = "cnn-28"
[data]
source = "stripes:16"
[training]
epochs = 1
[hardening]
enabled = false
[robustness]
examples = 20
battery = [{attack = "brightness"}, {attack = "fgsm"}]
[corruptions]
examples = 20
names = ["fog"]
severities = [1]
[explanations]
examples = 4
methods = ["squared-gradient"]
[self_test]
enabled = false
"""


def recipes() -> dict[str, str]:
    """The code of each file that a recipe names, by its path."""
    text = (PACKAGE / "README.md").read_text(encoding="utf-8")
    return dict(re.findall(r"^`([\w/.]+)`\n\n```\w+\n(.*?)^```$", text, re.M | re.S))


def audit(folder: Path, path: str, *words: str) -> subprocess.CompletedProcess[str]:
    """The command `audit` in a folder, with a path of packages."""
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "audit", *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package `darkroom` outside the repository, installed: on the path, with the entry points of its wheel."""
    site = tmp_path_factory.mktemp("site")
    (site / "darkroom").mkdir()
    (site / "darkroom" / "__init__.py").write_text("")
    for path, code in recipes().items():
        if path.startswith("audit/topics/"):
            target = site / "darkroom" / path.removeprefix("audit/topics/")
            target.parent.mkdir(exist_ok=True)
            target.write_text(code.replace("audit.topics.low_light", "darkroom.low_light"))
        elif path.startswith("audit/"):
            (site / "darkroom" / Path(path).name).write_text(code)
    info = site / "darkroom-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: darkroom\nVersion: 1.0\n")
    modules = "".join(f"{Path(m).name} = darkroom.{Path(m).name}\n" for m in METHODS)
    (info / "entry_points.txt").write_text(
        f"[audit.methods]\n{modules}\n[audit.topics]\nlow_light = darkroom.low_light\n"
    )
    return site


@pytest.fixture(scope="module")
def inside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package with the files where the recipes put them."""
    root = tmp_path_factory.mktemp("inside")
    shutil.copytree(PACKAGE, root / "audit", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("templates", "samples"):
        (root / name).symlink_to(resource_dir(name))
    for path, code in recipes().items():
        (root / path).parent.mkdir(exist_ok=True)
        (root / path).write_text(code)
    return root


@pytest.mark.parametrize("where", ["outside", "inside"])
def test_a_run_uses_what_the_recipes_add(where: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    root: Path = request.getfixturevalue(where)
    path = f"{root}{os.pathsep}{PACKAGE.parent}" if where == "outside" else str(root)
    (tmp_path / "run.toml").write_text(RUN)
    ended = audit(tmp_path, path, "run", "run.toml", "--out", "run", "--no-color")
    assert ended.returncode == 0, ended.stderr

    document = json.loads((tmp_path / "run" / "audit.json").read_text())
    assert document["subject"]["data"] == "stripes"
    assert [row["name"] for row in document["robustness"][0]["attacks"]] == ["brightness", "fgsm"]
    assert document["robustness"][0]["attacks"][0]["tried"] > 0
    assert [(row["method"], row["status"]) for row in document["explanations"]] == [("squared-gradient", "measured")]
    (row,) = document["low_light"]
    assert row["role"] == "standard" and row["accuracy"]["n"] == 50
    (finding,) = [f for f in document["findings"] if f["check"] == "low-light"]
    assert finding["section"] == "low_light" and finding["verdict"] in ("pass", "fail", "inconclusive")

    page = (tmp_path / "run" / "report.html").read_text()
    assert '<a href="#low_light">Low light</a>' in page and "Accuracy in low light" in page
    assert finding["title"] in page
    for format_, language in (("md", "en"), ("html", "zh")):
        shown = audit(tmp_path, path, "report", "run", "--format", format_, "--lang", language, "--out", "again")
        assert shown.returncode == 0, shown.stderr


@pytest.mark.parametrize("where", ["outside", "inside"])
def test_the_lists_know_what_the_recipes_add(where: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    root: Path = request.getfixturevalue(where)
    path = f"{root}{os.pathsep}{PACKAGE.parent}" if where == "outside" else str(root)
    listed = json.loads(audit(tmp_path, path, "methods", "--json").stdout)
    names = {row["name"] for row in listed["methods"]}
    assert {"brightness", "squared-gradient", "stripes", "low-light"} <= names
    planned = audit(tmp_path, path, "plan", "--only", "low_light", "--data", "stripes:16", "--json")
    assert planned.returncode == 0, planned.stderr
    studies = {cell["study"] for cell in json.loads(planned.stdout)["cells"]}
    assert "low-light" in studies and "robustness" not in studies
    refused = audit(tmp_path, path, "run", "--set", "low_light.exampels=3")
    assert refused.returncode == 2 and "examples" in refused.stderr


def test_the_battery_of_the_recipe_runs(tmp_path: Path) -> None:
    (tmp_path / "battery.toml").write_text(recipes()["battery.toml"])
    small = ["--set", "robustness.examples=20", "--set", "training.epochs=1", "--no-harden", "--only", "robustness"]
    ended = audit(tmp_path, str(PACKAGE.parent), "run", "battery.toml", "--out", "run", "--no-color", *small)
    assert ended.returncode == 0, ended.stderr
    (part,) = json.loads((tmp_path / "run" / "audit.json").read_text())["robustness"]
    assert part["battery"] == "custom"
    assert [row["name"] for row in part["attacks"]] == ["fgsm", "apgd-ce", "square"]


def test_no_file_of_the_package_knows_of_what_is_outside() -> None:
    words = re.compile(r"brightness_attack|darkroom|low[-_]light|squared[-_]gradient|stripes:SIZE")
    files = [path for path in PACKAGE.rglob("*") if path.suffix in (".py", ".toml", ".j2")]
    assert [path for path in files if words.search(path.read_text(encoding="utf-8"))] == []
