"""Pictures and folders of pictures, made on the spot."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

Paint = Callable[..., np.ndarray]


@pytest.fixture
def paint() -> Paint:
    """`paint(seed, height, width)`: smooth colour waves, uint8 (H, W, 3), which JPEG hardly changes."""

    def painted(seed: int, height: int = 12, width: int = 16) -> np.ndarray:
        phases = np.random.default_rng(seed).uniform(0, 3, 3)
        y, x = np.mgrid[0:height, 0:width]
        waves = [np.sin(x / 9 + p) + np.cos(y / 7 - p) for p in phases]
        return np.rint((np.stack(waves, -1) + 2) * 63).astype(np.uint8)

    return painted


@pytest.fixture
def pets(tmp_path: Path, paint: Paint) -> Callable[..., Path]:
    """`pets(layout)`: a folder with cats and dogs, four of each a part, as PNG."""

    def made(parts: tuple[str, ...] = ("train", "test"), root: str = "pets", **sizes: Any) -> Path:
        base = tmp_path / root
        for p, part in enumerate(parts):
            for c, animal in enumerate(("cat", "dog")):
                folder = base / part / animal
                folder.mkdir(parents=True)
                for i in range(4):
                    Image.fromarray(paint(100 * p + 10 * c + i, **sizes)).save(folder / f"{i}.png")
        return base

    return made
