"""The runs below a folder, from an index that is updated by reading only the documents that changed."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from audit.core.errors import SetupError, UsageError
from audit.core.threat_format import format_threat
from audit.storage.store import write_atomically

if TYPE_CHECKING:
    from audit.document.model import CurvePoint, Proportion
    from audit.document.schema import AuditDocument
    from audit.topics.detection_robustness.section import DetectionAttackPart, DetectionCurvePoint
    from audit.topics.robustness.section import RobustnessPart

log = logging.getLogger("audit")
INDEX = ".audit-index.json"
DEPTH = 4
"""How many levels below the root a run may be."""
_FORMAT = 2


@dataclass(frozen=True)
class HistoryScore:
    """The share of images that one model of a run classified right, or the mAP of a detector.

    Attributes:
        role: Role of the model.
        quantity: "clean" or "robust".
        threat: The threat model in words, such as "linf 8/255"; empty for clean images.
        estimate: The share or the mAP over overlaps .50 to .95, in [0, 1].
        low: Lower bound of its 95% interval.
        high: Upper bound.
        n: Number of images.
        measure: "accuracy" of a classifier, "map" of a detector.
    """

    role: str
    quantity: str
    threat: str
    estimate: float
    low: float
    high: float
    n: int
    measure: str = "accuracy"


@dataclass(frozen=True)
class RunRow:
    """One run in the history.

    Attributes:
        path: The run's folder, relative to the root of the history.
        begun: When it began, ISO 8601 in UTC.
        verdict: Its overall verdict.
        sentence: Its verdict in words.
        title: Title of its report.
        data: Description of its data.
        architecture: Architecture of the model under test.
        preset: Name of its preset.
        seed: Its seed.
        complete: Whether every planned task was run and none failed.
        failed: Number of findings that failed.
        inconclusive: Number of inconclusive findings.
        findings: Number of findings.
        levels: Accuracy, or mAP of a detector, of its models on clean images and under attack.
        problem: Why its document could not be read; empty where it could.
    """

    path: str
    begun: str
    verdict: str = ""
    sentence: str = ""
    title: str = ""
    data: str = ""
    architecture: str = ""
    preset: str = ""
    seed: int = 0
    complete: bool = False
    failed: int = 0
    inconclusive: int = 0
    findings: int = 0
    levels: tuple[HistoryScore, ...] = ()
    problem: str = ""


@dataclass(frozen=True)
class History:
    """The runs below a folder.

    Attributes:
        rows: The runs, the oldest first.
        read: Number of documents that had to be read.
    """

    rows: tuple[RunRow, ...]
    read: int


def history(root: Path) -> History:
    """Every run at most `DEPTH` folders below a root; updates the index in `root/.audit-index.json`.

    A document is read again when its size or time, or the time of its timing.json, changed.

    Args:
        root: The folder.

    Raises:
        UsageError: It is not a folder.
    """
    if not root.is_dir():
        raise UsageError(f"{root} is not a folder. Give one that holds run folders.")
    indexed, entries, read = _read_index(root / INDEX), {}, 0
    for path, stamp in _run_folders(root):
        entry = indexed.get(path)
        if entry is None or entry[0] != stamp:
            entry = (stamp, _row(root, path))
            read += 1
        entries[path] = entry
    if entries != indexed:
        _write_index(root / INDEX, entries)
    rows = sorted((row for _, row in entries.values()), key=lambda row: (row.begun, row.path))
    return History(tuple(rows), read)


def run_files(document: Path) -> list[tuple[str, int]]:
    """The files of a run with their sizes, those of the store in one line.

    Args:
        document: The run's audit.json; outside a run folder it is listed alone.

    Returns:
        Paths relative to the run folder with their bytes.
    """
    folder = document.parent
    if not (folder / "run.json").is_file():
        return [(document.name, document.stat().st_size)]
    paths = sorted(p for p in folder.rglob("*") if p.is_file())
    sizes = [(p.relative_to(folder).as_posix(), p.stat().st_size) for p in paths]
    stored = [size for name, size in sizes if name.startswith("store/")]
    others = [(name, size) for name, size in sizes if not name.startswith(("store/", "."))]
    return [*others, (f"store ({len(stored)} files)", sum(stored))] if stored else others


def report_links(root: Path, rows: Sequence[RunRow], page: Path) -> dict[str, str]:
    """Links to the reports of runs, relative to a page.

    Args:
        root: The folder of the history.
        rows: The runs.
        page: The folder of the page.

    Returns:
        By path of a run, the link; runs without a report are left out.
    """
    reports = ((row.path, root / row.path / "report.html") for row in rows)
    return {path: quote(Path(os.path.relpath(to, page)).as_posix()) for path, to in reports if to.is_file()}


def _run_folders(root: Path) -> Iterator[tuple[str, list[int]]]:
    """Each run folder below `root` as a relative path, with the stamp that changes when its document does."""
    pending = [("", 0)]
    while pending:
        path, depth = pending.pop()
        stamp = _stamp(root, path)
        if stamp:
            yield path or ".", stamp
        elif depth < DEPTH:
            pending += [(os.path.join(path, name), depth + 1) for name in _folders(root / path)]


def _folders(parent: Path) -> list[str]:
    try:
        with os.scandir(parent) as entries:
            return [e.name for e in entries if not e.name.startswith(".") and e.is_dir(follow_symlinks=False)]
    except OSError as fault:
        log.warning("Cannot look into %s (%s); runs in it are not listed.", parent, fault.strerror)
        return []


def _stamp(root: Path, path: str) -> list[int]:
    folder = os.path.join(root, path)
    try:
        document = os.stat(os.path.join(folder, "audit.json"))
    except OSError:
        return []
    try:
        timed = os.stat(os.path.join(folder, "timing.json")).st_mtime_ns
    except OSError:
        timed = 0
    return [document.st_mtime_ns, document.st_size, timed]


def _row(root: Path, path: str) -> RunRow:
    from audit.report.document import read_document

    document = root / path / "audit.json"
    begun = _started_at(document)
    try:
        return _summarise(read_document(document), path, begun)
    except UsageError as fault:
        return RunRow(path=path, begun=begun, problem=str(fault))


def _started_at(document: Path) -> str:
    """When the run began; when its document was written, where no timing.json says."""
    try:
        return str(json.loads(document.with_name("timing.json").read_text("utf-8"))["begun"])
    except (OSError, ValueError, KeyError, TypeError):
        return datetime.fromtimestamp(document.stat().st_mtime, UTC).isoformat(timespec="seconds")


def _summarise(document: AuditDocument, path: str, begun: str) -> RunRow:
    model = document.models[0] if document.models else None
    verdicts = [finding.verdict for finding in document.findings]
    return RunRow(
        path=path,
        begun=begun,
        verdict=document.summary.verdict,
        sentence=document.summary.sentence,
        title=document.subject.title,
        data=str(document.subject.data),
        architecture=model.architecture if model else "",
        preset=str(document.protocol.configuration.get("preset", "")),
        seed=document.protocol.seed,
        complete=document.summary.complete,
        failed=verdicts.count("fail"),
        inconclusive=verdicts.count("inconclusive"),
        findings=len(verdicts),
        levels=tuple(_levels(document)),
    )


def _levels(document: AuditDocument) -> Iterator[HistoryScore]:
    from audit.topics.accuracy.section import AccuracyPart
    from audit.topics.detection_accuracy.section import DetectionPart
    from audit.topics.detection_robustness.section import DetectionAttackPart
    from audit.topics.robustness.section import RobustnessPart

    for clean in document.rows(AccuracyPart):
        yield _score(clean.role, clean.accuracy)
    for found in document.rows(DetectionPart):
        yield _score(found.role, found.mean_average_precision, measure="map")
    for robust in document.rows(RobustnessPart):
        yield _score_within(robust)
    for attacked in document.rows(DetectionAttackPart):
        yield _score_within(attacked, measure="map")


def _score_within(part: RobustnessPart | DetectionAttackPart, measure: str = "accuracy") -> HistoryScore:
    """What is left at the eps of the verdict."""
    curve: Sequence[CurvePoint | DetectionCurvePoint] = part.curve
    share = min(curve, key=lambda point: abs(point.eps - part.eps)).robust
    return _score(part.role, share, format_threat(part.norm, part.eps), measure)


def _score(role: str, share: Proportion, threat: str = "", measure: str = "accuracy") -> HistoryScore:
    quantity = "robust" if threat else "clean"
    return HistoryScore(role, quantity, threat, share.estimate, share.low, share.high, share.n, measure)


def _restored(row: Mapping[str, Any]) -> RunRow:
    return RunRow(**{**row, "levels": tuple(HistoryScore(**level) for level in row["levels"])})


def _read_index(index: Path) -> dict[str, tuple[list[int], RunRow]]:
    """What the index holds; nothing where there is none, or one of another format."""
    try:
        body = json.loads(index.read_text("utf-8"))
        entries = body["runs"] if body["format"] == _FORMAT else {}
        return {path: (entry["stamp"], _restored(entry["row"])) for path, entry in entries.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as fault:
        log.warning("The index %s cannot be read (%s); it is made again.", index, fault)
        return {}


def _write_index(index: Path, entries: Mapping[str, tuple[list[int], RunRow]]) -> None:
    runs = {path: {"stamp": stamp, "row": asdict(row)} for path, (stamp, row) in entries.items()}
    try:
        write_atomically(index, json.dumps({"format": _FORMAT, "runs": runs}) + "\n")
    except SetupError as fault:
        log.warning("The index is not kept, so every listing reads all documents again: %s", fault)
