"""The audit document: the one product of a run. Every rendering is a pure function of it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from audit.core.evidence import Status, Verdict
from audit.report.attack_evidence import ControlRow, DistanceRow, TriggerRow
from audit.report.further_parts import AgreementPart, CertificatePart, CurvePoint, MeasuredRow, OracleRow, ShortcutRow
from audit.results.document_model import Cost, DocumentModel, Heatmap, Picture, Proportion
from audit.topics.compression.section import CompressionPart
from audit.topics.other_threats.section import ThreatRow

SCHEMA_VERSION = 1


class AuditSubject(DocumentModel):
    """What was audited, on what."""

    title: str
    data: str
    classes: list[str]
    input_shape: tuple[int, int, int]
    examples: int
    notes: list[str]


class AuditedModel(DocumentModel):
    """One model of the run. `history` is one row an epoch where it was trained here."""

    role: str
    architecture: str
    origin: str
    identity: str
    parameters: int
    recipe: str | None = None
    history: list[dict[str, float]] = Field(default_factory=list)
    settings: dict[str, Any] = Field(default_factory=dict)
    notes: list[str] = Field(default_factory=list)


class FindingPart(DocumentModel):
    """A check's conclusion (see `audit.core.evidence.Finding`)."""

    check: str
    role: str
    verdict: Verdict
    title: str
    explanation: str
    criterion: str
    section: str
    estimate: float | None
    interval: tuple[float, float] | None
    n: int
    unit: str
    evidence: list[str]
    advice: str
    command: str
    examples: list[str]
    values: dict[str, str | int | float] = Field(default_factory=dict)


class ClassRow(DocumentModel):
    """One class: precision, recall, F1, the number of its examples and how often it was predicted.

    The 95% intervals are Wilson's; no precision is measured of a class never predicted, and its interval is None.
    """

    name: str
    precision: float
    recall: float
    f1: float
    support: int
    predicted: int | None = None
    precision_interval: tuple[float, float] | None = None
    recall_interval: tuple[float, float] | None = None


class Mistake(DocumentModel):
    """How many of the images of one class were taken for another."""

    label: str
    prediction: str
    count: int


class ReliabilityBin(DocumentModel):
    """Predictions whose confidence lies in (low, high]: how many, how confident, how often right."""

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float


class AccuracyPart(DocumentModel):
    """Clean accuracy, by class, and calibration of one model: the classes that have images, and the confusion matrix,
    empty for many classes. `mistakes` then lists the commonest, `mistaken` counts the images they stand for."""

    role: str
    accuracy: Proportion
    per_class: list[ClassRow]
    confusion: list[list[int]]
    mistakes: list[Mistake] = Field(default_factory=list)
    mistaken: int = 0
    calibration_error: float
    reliability: list[ReliabilityBin]
    cost: Cost


class AttackRow(DocumentModel):
    """One attack of the battery: what it was given, what it broke first, its cost; `reason` why it did not run."""

    name: str
    settings: dict[str, Any]
    tried: int
    broke: int
    faults: int
    cost: Cost
    reason: str = ""


class RobustnessPart(DocumentModel):
    """One model under one norm."""

    role: str
    norm: str
    eps: float
    battery: str
    protocol: str = ""
    notes: list[str] = Field(default_factory=list)
    curve: list[CurvePoint]
    attacks: list[AttackRow]
    attack_success_rate: Proportion | None
    survive_rounding: Proportion | None
    inconclusive: list[str]
    cost: Cost


class CorruptionRow(DocumentModel):
    """Accuracy of one model under one corruption at one severity, 1 to 5."""

    role: str
    name: str
    severity: int
    accuracy: Proportion
    cost: Cost


class FaithfulnessRow(DocumentModel):
    """Deletion or insertion of the pixels a method ranks first, beside a random order.

    `advantage` is how much better than random, positive when it is; `low` and `high` its 95% bounds. `fill` is what
    stands where pixels are missing; the rows of the first fill come first, and are those that are drawn and judged.
    """

    role: str
    method: str
    measure: Literal["deletion", "insertion"]
    fill: str = ""
    area: float
    control: float
    advantage: float
    low: float
    high: float
    n: int
    protocol: str
    controls: dict[str, float] = Field(default_factory=dict)


class ExplanationPart(DocumentModel):
    """One method on one model: what it explains, or why it does not apply.

    `cost` is what it added; `shared` counts the masks that it needed and another method, named, had asked already.
    """

    role: str
    method: str
    status: Status
    reason: str
    output: str
    baseline: str
    segments: str
    settings: dict[str, Any]
    quality: dict[str, float]
    cost: Cost
    shared: dict[str, int] = Field(default_factory=dict)


class GalleryView(DocumentModel):
    """One image as one model sees it. `maps` and `adversarial_maps` are by method."""

    role: str
    prediction: str
    confidence: float
    broken_by: str | None
    adversarial: Picture | None
    perturbation: Heatmap | None
    adversarial_prediction: str | None
    adversarial_confidence: float | None
    maps: dict[str, Heatmap]
    adversarial_maps: dict[str, Heatmap]


class GalleryItem(DocumentModel):
    """One image with its label, and how each model sees it."""

    id: str
    label: str
    image: Picture
    views: list[GalleryView]


class ComparisonRow(DocumentModel):
    """The first model against the second on the same examples (paired): what newly broke and what was mended."""

    quantity: str
    before: Proportion
    after: Proportion
    difference: float
    low: float
    high: float
    p_value: float
    newly_wrong: int
    newly_right: int


class OutcomeRow(DocumentModel):
    """Yes or no for each example from place `start` of the audit order on, as a text of 1 and 0."""

    role: str
    quantity: str
    start: int
    outcomes: str


class Gap(DocumentModel):
    """What was planned and gives no number: failed, or without meaning here."""

    study: str
    method: str
    role: str
    status: Status
    reason: str


class StudyCost(DocumentModel):
    """What one study of one model cost."""

    study: str
    role: str
    cells: int
    cost: Cost


class Protocol(DocumentModel):
    """How the numbers came about, and the commands that give them again."""

    seed: int
    configuration: dict[str, Any]
    environment: dict[str, Any]
    commands: dict[str, str]
    trusted: list[dict[str, str]]
    costs: list[StudyCost]


class Summary(DocumentModel):
    """The verdict in one sentence."""

    verdict: Verdict
    sentence: str
    complete: bool


class AuditDocument(DocumentModel):
    """Everything a run found."""

    schema_version: int = SCHEMA_VERSION
    tool: dict[str, str]
    summary: Summary
    subject: AuditSubject
    models: list[AuditedModel]
    findings: list[FindingPart]
    accuracy: list[AccuracyPart]
    robustness: list[RobustnessPart]
    corruptions: list[CorruptionRow]
    explanations: list[ExplanationPart]
    faithfulness: list[FaithfulnessRow]
    comparison: list[ComparisonRow]
    compression: list[CompressionPart] = Field(default_factory=list)
    gallery: list[GalleryItem]
    certificates: list[CertificatePart] = Field(default_factory=list)
    attack_controls: list[ControlRow] = Field(default_factory=list)
    distances: list[DistanceRow] = Field(default_factory=list)
    triggers: list[TriggerRow] = Field(default_factory=list)
    further_threats: list[ThreatRow] = Field(default_factory=list)
    measures: list[MeasuredRow] = Field(default_factory=list)
    shortcuts: list[ShortcutRow] = Field(default_factory=list)
    agreements: list[AgreementPart] = Field(default_factory=list)
    oracles: list[OracleRow] = Field(default_factory=list)
    gaps: list[Gap] = Field(default_factory=list)
    example_ids: list[str] = Field(default_factory=list)
    outcomes: list[OutcomeRow] = Field(default_factory=list)
    protocol: Protocol


Section = Literal["accuracy", "robustness", "corruptions", "explanations", "comparison", "protocol"]
