"""Writes what a run leaves beside its report: models with their history, and what to mend in the data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from audit.config import DataConfig
from audit.core.evidence import Array
from audit.models.formats.onnx_header import with_header
from audit.models.formats.safetensors_file import CUT, with_metadata
from audit.planning.settings import ModelSettings
from audit.results.facts import ModelFacts
from audit.results.run_results import RunResults
from audit.runs.checkpoint_metadata import preparation_header
from audit.runs.folder import RunFolder
from audit.storage.store import write_atomically
from audit.topics.data_health.issues import issues_as_csv

_WEIGHTS, _PACKED, _FILE = "weights/", "packed/", "file/model.onnx"


def export_models(folder: RunFolder, results: RunResults, data: DataConfig, *, cut: bool) -> None:
    """Write `models/ROLE.safetensors` and `models/ROLE.history.jsonl`, a row an epoch, for each model of the run.

    Weights that were packed to int8 are written packed, and a model that is an ONNX file as `models/ROLE.onnx`.

    Args:
        folder: The run folder.
        results: The evidence of the run, which holds the weights.
        data: How the images were prepared, for the header.
        cut: Whether the loaded model has fewer channels than its architecture.
    """
    for entry in results.model_results():
        arrays = entry.evidence.arrays
        settings, facts = ModelSettings.of(entry.task.cell), entry.evidence.facts_as(ModelFacts)
        header = {
            "classes": json.dumps(settings.classes),
            "input_shape": json.dumps(settings.input_shape),
            **preparation_header(data),
        }
        whole, plain = (folder.models / f"{entry.task.role}.{kind}" for kind in ("onnx", "safetensors"))
        if _FILE in arrays:
            _refresh(whole, with_header(np.asarray(arrays[_FILE]).tobytes(), header))
            plain.unlink(missing_ok=True)  # of an earlier run of another method
            continue
        whole.unlink(missing_ok=True)
        weights = _below(_PACKED, arrays) or _below(_WEIGHTS, arrays)
        header |= {
            "architecture": settings.architecture,
            "mean": json.dumps(facts.mean),
            "std": json.dumps(facts.std),
        }
        if facts.cut or (cut and not settings.student):
            header[CUT] = "channels"
        rows = "".join(json.dumps(row) + "\n" for row in facts.history)
        _refresh(plain, with_metadata(save(weights), header))
        if rows:
            _refresh(folder.history(entry.task.role), rows.encode())


def export_data_issues(folder: RunFolder, results: RunResults) -> None:
    """Write `data-issues.csv`, a row an image and issue, where the data was measured.

    Args:
        folder: The run folder.
        results: The evidence of the run.
    """
    table = issues_as_csv(results)
    if table is not None:
        _refresh(folder.data_issues, table.encode())


def _below(prefix: str, arrays: Mapping[str, Array]) -> dict[str, Array]:
    # ascontiguousarray alone makes a row of a single number, which no net then fits.
    return {
        k.removeprefix(prefix): np.ascontiguousarray(v).reshape(v.shape)
        for k, v in arrays.items()
        if k.startswith(prefix)
    }


def _refresh(path: Path, body: bytes) -> None:
    """Write `path` only when that changes it."""
    if not path.exists() or path.read_bytes() != body:
        write_atomically(path, body, flag="--out")
