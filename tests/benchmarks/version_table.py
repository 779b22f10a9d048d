"""The table of what differs between environments: read from the answers that `versions.py` kept."""

from __future__ import annotations

import tomllib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from tests.benchmarks.version_rows import BASE, ROWS

CAUSES = Path(__file__).with_name("version_causes.toml")
"""Why a probe differs in a row, each run down by hand: {probe pattern: text} by row."""
ROUNDING = 2e-5
"""Largest difference, relative to the largest number, that float32 sums in another order make in these probes."""
_HEAD = """# The same audit under other versions

Made by `python tests/benchmarks/versions.py FOLDER` and `... FOLDER --table samples/versions.md`: the same stored
weights and images (a `cnn-28`, and a twin that clamps its input; 48 images of the Fashion-MNIST sample), asked in an
environment a row. Each row differs from the base, `{base}`, in what its name says. *Equal* means the same bits,
*rounding* a difference of at most {rounding:g} of the largest number and no other verdict. captum 0.8 needs numpy
below 2, so its row has numpy 1.26 and the newest shap for it; shap 0.46.0 does not import beside numpy 2.4. Every net
is asked 64 images at a time: left to itself audit takes the batch that is fastest there, by the clock, and another
batch moves the distances that DDN, FMN and Square find by up to 0.6%, though no verdict.

## The environments

| row | {packages} |
|---|{rule}
"""
_PACKAGES = ("torch", "torchvision", "captum", "shap", "transformers", "timm", "onnx", "onnxruntime", "numpy", "scipy")
_PACKAGES += ("scikit-image", "pillow")


@dataclass(frozen=True)
class Difference:
    """One array of one probe in a row beside the base's.

    Attributes:
        kind: equal, rounding or differs.
        text: By how much; empty where equal.
    """

    kind: str
    text: str


def render(folder: Path) -> str:
    """The whole page."""
    answers = {name: dict(np.load(folder / f"{name}.npz")) for name in ROWS if (folder / f"{name}.npz").exists()}
    head = _HEAD.format(base=BASE, rounding=ROUNDING, packages=" | ".join(_PACKAGES), rule="---|" * len(_PACKAGES))
    lines = [head.rstrip("\n")]
    lines += [
        f"| {row} | {' | '.join(str(mine.get(f'version/{package}', '')) for package in _PACKAGES)} |"
        for row, mine in answers.items()
    ]
    groups = sorted({key.split("/")[0] for key in answers[BASE]} - {"version"})
    lines += [
        "",
        "## Equal, rounding, different",
        "",
        f"| row | {' | '.join(groups)} |",
        f"|---|{'---|' * len(groups)}",
    ]
    differing: dict[str, dict[str, dict[str, Difference]]] = {}
    for row, mine in answers.items():
        if row != BASE:
            groups_here = {key.split("/")[0] for key in mine}
            base = {key: value for key, value in answers[BASE].items() if key.split("/")[0] in groups_here}
            differing[row] = probes_of(base, mine)
            lines.append(f"| {row} | {' | '.join(_counts(differing[row], group) for group in groups)} |")
    lines += [
        "",
        "Each cell counts probes: equal, rounding, different; - where the row's packages cannot reach the group.",
        "",
        "## What differs",
        "",
    ]
    lines += ["| row | probe | by how much | why |", "|---|---|---|---|"]
    causes = tomllib.loads(CAUSES.read_text())
    for row, probes in differing.items():
        lines += _rows(row, probes, causes.get(row, {}))
    return "\n".join(lines) + "\n"


def probes_of(base: Mapping[str, NDArray[Any]], other: Mapping[str, NDArray[Any]]) -> dict[str, dict[str, Difference]]:
    """By probe, by array, how a row differs from the base."""
    probes: dict[str, dict[str, Difference]] = defaultdict(dict)
    for key in sorted({*base, *other}):
        probe, array = key.rsplit("/", 1)
        if not key.startswith("version/"):
            probes[probe][array] = _difference(array, base.get(key), other.get(key))
    return probes


def _difference(name: str, base: NDArray[Any] | None, other: NDArray[Any] | None) -> Difference:
    if base is None or other is None:
        there = base if other is None else other
        said = f": {str(there)[:110]}" if there is not None and there.dtype.kind == "U" else ""
        return Difference("differs", f"{name} only {'in the base' if other is None else 'here'}{said}")
    if base.shape == other.shape and base.dtype == other.dtype and base.tobytes() == other.tobytes():
        return Difference("equal", "")
    if base.dtype.kind == "U" or other.dtype.kind == "U":
        return Difference("equal", "") if str(base) == str(other) else Difference("differs", _words(base, other))
    if base.shape != other.shape:
        return Difference("differs", f"{name}: shape {base.shape} became {other.shape}")
    if base.dtype == bool:
        flips = int((base != other).sum())
        return Difference("differs", f"{flips} of {base.size} verdicts") if flips else Difference("equal", "")
    first, second = base.astype(float), other.astype(float)
    if not np.array_equal(np.isfinite(first), np.isfinite(second)):
        return Difference("differs", f"{name}: {int((np.isfinite(first) != np.isfinite(second)).sum())} not finite")
    finite = np.isfinite(first)
    gap = np.abs(first[finite] - second[finite]).max(initial=0)
    largest = max(np.abs(first[finite]).max(initial=0), 1e-12)
    if gap == 0:
        return Difference("equal", "")
    rank = "" if first.size < 8 or first.ndim < 2 else f", rank correlation {_rank(first, second):.3f}"
    if gap / largest <= ROUNDING:
        return Difference("rounding", f"{name} {gap / largest:.0e} of the largest")
    return Difference("differs", f"{name} {gap / largest:.1g} of the largest{rank if name == 'map' else ''}")


def _words(base: NDArray[Any], other: NDArray[Any]) -> str:
    before, after = str(base).split("\n"), str(other).split("\n")
    if len(before) > 1 or len(after) > 1:
        gone, new = sorted(set(before) - set(after)), sorted(set(after) - set(before))
        return f"{len(gone)} of {len(before)} keys have other names, such as `{(gone or new)[0]}`"
    return f'"{str(base)[:80]}" became "{str(other)[:80]}"'


def _rank(first: NDArray[Any], second: NDArray[Any]) -> float:
    return float(spearmanr(first.ravel(), second.ravel()).statistic)


def _counts(probes: Mapping[str, Mapping[str, Difference]], group: str) -> str:
    kinds = [_worst(arrays) for probe, arrays in probes.items() if probe.startswith(f"{group}/")]
    return ", ".join(str(kinds.count(kind)) for kind in ("equal", "rounding", "differs")) if kinds else "-"


def _worst(arrays: Mapping[str, Difference]) -> str:
    kinds = {difference.kind for difference in arrays.values()}
    return next(kind for kind in ("differs", "rounding", "equal") if kind in kinds)


def _rows(row: str, probes: Mapping[str, Mapping[str, Difference]], causes: Mapping[str, str]) -> Iterator[str]:
    for probe, arrays in probes.items():
        texts = [difference.text for difference in arrays.values() if difference.kind == "differs"]
        if texts:
            why = next((text for pattern, text in causes.items() if probe.startswith(pattern)), "not run down yet")
            yield f"| {row} | {probe} | {'; '.join(texts).replace('|', '/')} | {why} |"
