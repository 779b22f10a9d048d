"""A minute of coverage-guided fuzzing for each surface that reads a stranger's bytes; needs the extra fuzz."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

TARGETS = Path(__file__).with_name("targets.py")
SECONDS = 60


def seeds(folder: Path, name: str) -> None:
    """A few valid inputs to begin from."""
    pixels = np.random.default_rng(0).integers(0, 256, (9, 11, 3)).astype(np.uint8)
    bodies: list[bytes] = []
    if name == "picture":
        for kind in ("PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP", "PPM"):
            stream = io.BytesIO()
            Image.fromarray(pixels).save(stream, kind)
            bodies.append(stream.getvalue())
    elif name == "safetensors":
        header = {"a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, "__metadata__": {"b": "c"}}
        bodies.append(json.dumps(header).encode())
    else:
        bodies.append(b'seed = 3\n[data]\nsource = "sample"\n[robustness]\neps = "8/255"\n')
    for i, body in enumerate(bodies):
        (folder / f"seed{i}").write_bytes(body)


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + 120)
@pytest.mark.parametrize("name", ["picture", "safetensors", "toml"])
def test_a_minute_of_fuzzing_ends_without_a_crash(name: str, tmp_path: Path) -> None:
    pytest.importorskip("atheris", reason="needs the extra fuzz, which has no wheel for every Python")
    (tmp_path / "corpus").mkdir()
    seeds(tmp_path / "corpus", name)
    options = [f"-max_total_time={SECONDS}", "-max_len=4096", "-rss_limit_mb=4096", f"-artifact_prefix={tmp_path}/"]
    ended = subprocess.run(
        [sys.executable, str(TARGETS), name, str(tmp_path / "corpus"), *options],
        capture_output=True,
        text=True,
        cwd=TARGETS.parents[2],
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert "DONE" in ended.stderr or "Done" in ended.stderr
