"""Nothing reaches for the network: shipped data and a local model are planned with sockets refused."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any, NoReturn

import pytest
from safetensors.torch import save_file
from typer.testing import CliRunner

from audit.cli.app import app
from audit.models.architecture import build


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Connections and look-ups that were tried."""
    tried: list[str] = []

    def refuse(*given: Any, **more: Any) -> NoReturn:
        tried.append(repr(given[-1]))
        raise OSError("the network is refused in this test")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "connect_ex", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return tried


def test_the_refusal_is_real(refused: list[str]) -> None:
    with pytest.raises(OSError, match="refused in this test"):
        socket.create_connection(("localhost", 9))
    assert refused


@pytest.mark.usefixtures("roomy_disk")
@pytest.mark.parametrize(
    "command", [["methods"], ["doctor"], ["plan", "--no-probe"], ["plan", "--data", "digits", "--no-probe"]]
)
def test_commands_work_without_a_network(command: list[str], refused: list[str], tmp_path: Path) -> None:
    ended = CliRunner().invoke(app, command)
    assert ended.exit_code == 0, ended.output
    assert refused == []


def test_a_local_model_is_planned_without_a_network(refused: list[str], tmp_path: Path) -> None:
    save_file(build("cnn-28", classes=10, input_shape=(1, 28, 28), seed=0).state_dict(), tmp_path / "n.safetensors")
    ended = CliRunner().invoke(app, ["plan", "--model", str(tmp_path / "n.safetensors")])
    assert ended.exit_code == 0, ended.output
    assert refused == []
