"""What indexes and citations say of the package is true, and in the form they read."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import yaml
from trove_classifiers import classifiers

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_every_classifier_is_one() -> None:
    assert set(PROJECT["classifiers"]) <= set(classifiers) and len(PROJECT["classifiers"]) > 5


def test_the_citation_is_of_this_version_and_licence() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]


def test_the_schema_of_citations_takes_it() -> None:
    program = Path(sys.executable).with_name("check-jsonschema")
    words = [program, "--builtin-schema", "vendor.citation-file-format", ROOT / "CITATION.cff"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
