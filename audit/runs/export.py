"""Write the models a run trained as safetensors, with what loading them needs in the header, and their history."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from audit.config import DataConfig
from audit.core.evidence import Array
from audit.models.formats.safetensors_file import CUT, with_metadata
from audit.planning.settings import ModelSettings
from audit.results.facts import ModelFacts
from audit.results.run_results import RunResults
from audit.runs.checkpoint_metadata import prepared_header
from audit.runs.folder import RunFolder
from audit.storage.store import write_atomically

WEIGHTS, PACKED = "weights/", "packed/"


def export_models(folder: RunFolder, dossier: RunResults, data: DataConfig, *, cut: bool) -> None:
    """`models/ROLE.safetensors` and `models/ROLE.history.jsonl`, one row an epoch, for each model made
    here; weights that were packed to int8 as they were packed. `data` says how its pictures were
    prepared. `cut` when the run's own model has fewer channels than its architecture."""
    for entry in dossier.made():
        arrays = entry.evidence.arrays
        weights = _below(PACKED, arrays) or _below(WEIGHTS, arrays)
        settings, facts = ModelSettings.of(entry.task.cell), entry.evidence.facts_as(ModelFacts)
        header = {
            "architecture": settings.architecture,
            "classes": json.dumps(settings.classes),
            "input_shape": json.dumps(settings.input_shape),
            "mean": json.dumps(facts.mean),
            "std": json.dumps(facts.std),
            **prepared_header(data),
        }
        if facts.cut or (cut and not settings.student):
            header[CUT] = "channels"
        rows = "".join(json.dumps(row) + "\n" for row in facts.history)
        _refresh(folder.model(entry.task.role), with_metadata(save(weights), header))
        if rows:
            _refresh(folder.history(entry.task.role), rows.encode())


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
        write_atomically(path, body)
