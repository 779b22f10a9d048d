"""Signatures of runs and weights: what they hold together, and who is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from audit.cli.app import app
from audit.storage.signature import sign, signature_of, verify_signature

pytest.importorskip("model_signing", exc_type=ImportError)
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    encodings = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8)
    for name, lock in (
        ("mine", serialization.NoEncryption()),
        ("theirs", serialization.NoEncryption()),
        ("locked", serialization.BestAvailableEncryption(b"secret")),
    ):
        key = ec.generate_private_key(ec.SECP256R1())
        (folder / f"{name}.pem").write_bytes(key.private_bytes(*encodings, lock))
        public = key.public_key().public_bytes(encodings[0], serialization.PublicFormat.SubjectPublicKeyInfo)
        (folder / f"{name}.pub").write_bytes(public)
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    for name in ("audit.json", "report.html", "models/standard.safetensors", "store/ab/evidence.json"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


def invoke(*words: object) -> tuple[int, str]:
    shown = CliRunner().invoke(app, [str(word) for word in words])
    return shown.exit_code, shown.output


def test_a_signed_run_verifies_until_a_file_changes(run: Path, keys: Path) -> None:
    code, output = invoke("sign", run, "--key", keys / "mine.pem")
    assert (code, (run / "audit.sig").is_file()) == (0, True), output
    assert verify_signature(run, run / "audit.sig", public_key=keys / "mine.pub") == [
        "audit.json",
        "models/standard.safetensors",
        "report.html",
    ]
    (run / "store" / "ab" / "more.json").write_text("a run that goes on")
    assert invoke("verify-signature", run, "--key", keys / "mine.pub")[0] == 0
    (run / "models" / "standard.safetensors").write_text("other weights")
    code, output = invoke("verify-signature", run, "--key", keys / "mine.pub")
    assert code == 4 and "Hash mismatch for 'models/standard.safetensors'. Either" in output


@pytest.mark.parametrize("change", ["added", "removed"])
def test_a_file_that_came_or_went_is_found(run: Path, keys: Path, change: str) -> None:
    sign(run, signature_of(run), private_key=keys / "mine.pem")
    if change == "added":
        (run / "models" / "hardened.safetensors").write_text("slipped in")
    else:
        (run / "report.html").unlink()
    code, output = invoke("verify-signature", run, "--key", keys / "mine.pub")
    assert code == 4 and ("hardened.safetensors" if change == "added" else "report.html") in output


def test_a_foreign_signature_is_one_sentence(run: Path, keys: Path) -> None:
    sign(run, signature_of(run), private_key=keys / "theirs.pem")
    code, output = invoke("verify-signature", run, "--key", keys / "mine.pub")
    assert code == 4 and output.count("\n") == 1 and "under the key mine.pub: Key mismatch" in output
    (run / "audit.sig").write_text("nonsense")
    code, output = invoke("verify-signature", run, "--key", keys / "mine.pub")
    assert code == 4 and output.count("\n") == 1


def test_weights_alone_are_signed_beside_them(run: Path, keys: Path) -> None:
    weights = run / "models" / "standard.safetensors"
    assert invoke("sign", weights, "--key", keys / "mine.pem")[0] == 0
    assert invoke("verify-signature", weights, "--key", keys / "mine.pub")[0] == 0
    assert weights.with_name("standard.safetensors.sig").is_file()
    weights.write_text("other weights")
    assert invoke("verify-signature", weights, "--key", keys / "mine.pub")[0] == 4


def test_a_locked_key_opens_with_its_password(run: Path, keys: Path) -> None:
    code, output = invoke("sign", run, "--key", keys / "locked.pem")
    assert code == 2 and "is encrypted" in output and not (run / "audit.sig").exists()
    assert invoke("sign", run, "--key", keys / "locked.pem", "--key-password", "secret")[0] == 0
    assert invoke("verify-signature", run, "--key", keys / "locked.pub")[0] == 0


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("sign", "{run}", "--key", "{keys}/mine.pub"), "is no private elliptic-curve key"),
        (("sign", "{run}", "--key", "{keys}/none.pem"), "Cannot read the key"),
        (("sign", "{run}/nothing", "--key", "{keys}/mine.pem"), "nothing to sign"),
        (("verify-signature", "{run}", "--key", "{keys}/mine.pub"), "There is no signature"),
    ],
)
def test_a_wrong_argument_is_one_sentence(run: Path, keys: Path, words: tuple[str, ...], sentence: str) -> None:
    code, output = invoke(*(word.format(run=run, keys=keys) for word in words))
    assert code == 2 and sentence in output and output.count("\n") == 1, output


def test_the_program_of_model_signing_verifies_it_too(run: Path, keys: Path) -> None:
    weights = run / "models" / "standard.safetensors"
    sign(weights, signature_of(weights), private_key=keys / "mine.pem")
    words = [
        "verify",
        "key",
        str(weights),
        "--signature",
        str(signature_of(weights)),
        "--public_key",
        str(keys / "mine.pub"),
    ]
    done = subprocess.run(
        [str(Path(sys.executable).with_name("model_signing")), *words], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
