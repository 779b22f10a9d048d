"""FILE.py:FUNCTION runs only when that very file is vouched for, and leaves nothing behind."""

from __future__ import annotations

import copy
import hashlib
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from audit.config import ModelConfig, TrustConfig
from audit.core.errors import AuditError, ModelError, UntrustedError, UsageError
from audit.models.load import load_model
from audit.models.loaded import LoadedModel
from audit.models.under_test import ModelUnderTest

SOURCE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, classes, size):
        super().__init__()
        self.layer = nn.Linear(size, classes)

    def forward(self, images):
        return self.layer(images.flatten(1))

def make(classes, input_shape):
    return Net(classes, input_shape[0] * input_shape[1] * input_shape[2])

def fixed():
    return Net(2, 64)

def number():
    return 7

def broken():
    raise RuntimeError("no weights here\\nand none there")

def leave():
    raise SystemExit(0)
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "net.py"
    path.write_text(SOURCE)
    return path


def load(path: Path, function: str, *, trusted: bool = True, sha256: str | None = None, seed: int = 0) -> LoadedModel:
    trust = (TrustConfig(path=str(path), sha256=sha256),) if trusted else ()
    config = ModelConfig(architecture=f"{path}:{function}", trust=trust)
    return load_model(config, classes=("a", "b"), input_shape=(1, 8, 8), device="cpu", seed=seed)


@pytest.mark.parametrize("function", ["make", "fixed"])
def test_a_trusted_function_builds_and_its_hash_is_recorded(source: Path, function: str) -> None:
    loaded = load(source, function)
    assert loaded.module(torch.rand(3, 1, 8, 8)).shape == (3, 2)
    assert loaded.trusted == ({"path": "net.py", "sha256": hashlib.sha256(SOURCE.encode()).hexdigest()},)
    assert loaded.origin == f"net.py:{function}"


def test_nothing_runs_without_trust(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    (tmp_path / "net.py").write_text(f"open({str(canary)!r}, 'w')\n{SOURCE}")
    with pytest.raises(UntrustedError, match="--trust"):
        load(tmp_path / "net.py", "make", trusted=False)
    with pytest.raises(UntrustedError, match="has changed"):
        load(tmp_path / "net.py", "make", sha256="0" * 64)
    assert not canary.exists()


def test_a_trusted_file_that_is_not_there_is_named(source: Path) -> None:
    gone = TrustConfig(path=str(source.parent / "nett.py"))
    config = ModelConfig(architecture=f"{source}:make", trust=(gone,))
    with pytest.raises(UntrustedError, match=r"nett\.py', which was vouched for, does not exist\. If you know"):
        load_model(config, classes=("a", "b"), input_shape=(1, 4, 4), device=torch.device("cpu"), seed=0)


def test_weights_come_from_the_seed_alone(source: Path) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = load(source, "make").module.state_dict()["layer.weight"]
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(first, load(source, "make").module.state_dict()["layer.weight"])
    assert not torch.equal(first, load(source, "make", seed=1).module.state_dict()["layer.weight"])


def test_no_module_of_the_users_name_appears_and_the_net_can_be_copied_and_hashed(source: Path) -> None:
    before = set(sys.modules)
    loaded = load(source, "make")
    added = set(sys.modules) - before
    assert "net" not in added and all(name.startswith("_audit_trusted_") for name in added)
    copy.deepcopy(loaded.module)
    wrapped = ModelUnderTest(loaded.module, classes=("a", "b"), input_shape=(1, 8, 8), device="cpu")
    assert len(wrapped.fingerprint()) == 64


def test_the_fingerprint_follows_the_code_of_the_layers(tmp_path: Path) -> None:
    prints = []
    for i, factor in enumerate(("1.0", "2.0")):
        path = tmp_path / f"net{i}.py"
        path.write_text(SOURCE.replace("images.flatten(1)", f"images.flatten(1) * {factor}"))
        loaded = load(path, "fixed")
        with torch.no_grad():
            for parameter in loaded.module.parameters():
                parameter.fill_(0.5)
        prints.append(
            ModelUnderTest(loaded.module, classes=("a", "b"), input_shape=(1, 8, 8), device="cpu").fingerprint()
        )
    assert prints[0] != prints[1]


@pytest.mark.parametrize(
    ("function", "kind", "message"),
    [
        ("mak", UsageError, "Did you mean 'make'"),
        ("number", ModelError, "returned int"),
        ("broken", ModelError, r"no weights here\). It is called"),
        ("leave", ModelError, "SystemExit: 0"),
        ("not a name", ModelError, "FILE.py:FUNCTION"),
    ],
)
def test_a_wrong_function_is_a_sentence(source: Path, function: str, kind: type[AuditError], message: str) -> None:
    with pytest.raises(kind, match=message):
        load(source, function)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def make(:\n", "SyntaxError"),
        ("import sibling\n", "not vouched for"),
        ("1/0\n", "ZeroDivisionError"),
        ("import argparse\nargparse.ArgumentParser().parse_args(['--x'])\n", "below if __name__"),
    ],
)
def test_a_file_that_does_not_run_is_a_sentence(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "sibling.py").write_text("")
    (tmp_path / "net.py").write_text(text)
    before: Any = set(sys.modules)
    with pytest.raises(ModelError, match=message):
        load(tmp_path / "net.py", "make")
    assert set(sys.modules) == before
