"""MNIST-shaped files under Madry's threat model: the commands that harden on anything else."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from audit.cli.app import app
from audit.core.resources import resource_dir
from audit.report.document import read_document


def test_mnist_shaped_data_are_hardened_and_audited_at_madrys_eps(tiny_toml: Path, tmp_path: Path) -> None:
    out, data = tmp_path / "hardened", resource_dir("samples") / "fashion-mnist"  # the same four files as MNIST's
    start = ["harden", str(tiny_toml), "--data", f"mnist:{data}", "--architecture", "cnn-28", "--recipe", "pgd"]
    previous = ["--set", "hardening.recipe_settings.start=previous"]
    ran = CliRunner().invoke(app, [*start, *previous, "--norm", "linf", "--eps", "0.3", "--out", str(out), "-q"])
    assert ran.exit_code in (0, 1), ran.output
    document = read_document(out / "audit.json")
    assert {(part.role, part.norm, part.eps) for part in document.robustness} == {
        ("standard", "linf", 0.3),
        ("hardened", "linf", 0.3),
    }
    assert document.comparison and (out / "model.safetensors").stat().st_size > 0
