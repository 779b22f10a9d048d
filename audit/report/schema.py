"""The audit document: the one product of a run. Every rendering is a pure function of it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from audit.evidence import Status, Verdict

SCHEMA_VERSION = 1


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", protected_namespaces=())


class Share(_Part):
    """A share of examples with its 95% interval (Wilson, unless `method` says otherwise)."""

    estimate: float
    low: float
    high: float
    n: int
    method: str = "Wilson 95%"


class Cost(_Part):
    """Examples forwarded and back-propagated."""

    forwards: int
    backwards: int


class Picture(_Part):
    """A thumbnail: base64 of `media_type` bytes, `height` x `width` pixels; lossless up to 64 pixels a side."""

    media_type: str
    height: int
    width: int
    data: str


class Heatmap(_Part):
    """An attribution as a grey sprite in 32 shades: pixel 0..255 stands for -scale..scale (signed) or 0..scale."""

    picture: Picture
    signed: bool
    scale: float


class Subject(_Part):
    """What was audited, on what."""

    title: str
    data: str
    classes: list[str]
    input_shape: tuple[int, int, int]
    examples: int
    notes: list[str]


class AuditedModel(_Part):
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


class FindingPart(_Part):
    """A check's conclusion (see `audit.evidence.Finding`)."""

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
    values: dict[str, str | float] = Field(default_factory=dict)


class ClassRow(_Part):
    """One class: precision, recall, F1 and the number of its examples."""

    name: str
    precision: float
    recall: float
    f1: float
    support: int


class ReliabilityBin(_Part):
    """Predictions whose confidence lies in (low, high]: how many, how confident, how often right."""

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float


class AccuracyPart(_Part):
    """Clean accuracy, by class, and calibration of one model."""

    role: str
    accuracy: Share
    per_class: list[ClassRow]
    confusion: list[list[int]]
    calibration_error: float
    reliability: list[ReliabilityBin]
    cost: Cost


class CurvePoint(_Part):
    """Robust accuracy at one eps: an upper bound on the truth."""

    eps: float
    robust: Share


class AttackRow(_Part):
    """One attack of the battery: what it was given, what it broke first, its cost; `reason` why it did not run."""

    name: str
    settings: dict[str, Any]
    tried: int
    broke: int
    faults: int
    cost: Cost
    reason: str = ""


class RobustnessPart(_Part):
    """One model under one norm."""

    role: str
    norm: str
    eps: float
    battery: str
    protocol: str = ""
    notes: list[str] = Field(default_factory=list)
    curve: list[CurvePoint]
    attacks: list[AttackRow]
    attack_success_rate: Share | None
    survive_rounding: Share | None
    inconclusive: list[str]
    cost: Cost


class CorruptionRow(_Part):
    """Accuracy of one model under one corruption at one severity, 1 to 5."""

    role: str
    name: str
    severity: int
    accuracy: Share
    cost: Cost


class FaithfulnessRow(_Part):
    """Deletion or insertion of the pixels a method ranks first, beside a random order.

    `advantage` is how much better than random, positive when it is; `low` and `high` its 95% bounds.
    """

    role: str
    method: str
    measure: Literal["deletion", "insertion"]
    area: float
    control: float
    advantage: float
    low: float
    high: float
    n: int
    protocol: str


class ExplanationPart(_Part):
    """One method on one model: what it explains, or why it does not apply."""

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


class GalleryView(_Part):
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


class GalleryItem(_Part):
    """One image with its label, and how each model sees it."""

    id: str
    label: str
    image: Picture
    views: list[GalleryView]


class ComparisonRow(_Part):
    """Standard against hardened on the same examples (paired): what newly broke and what was mended."""

    quantity: str
    before: Share
    after: Share
    difference: float
    low: float
    high: float
    p_value: float
    newly_wrong: int
    newly_right: int


class OutcomeRow(_Part):
    """Yes or no for each example from place `start` of the audit order on, as a text of 1 and 0."""

    role: str
    quantity: str
    start: int
    outcomes: str


class Gap(_Part):
    """What was planned and gives no number: failed, or without meaning here."""

    study: str
    method: str
    role: str
    status: Status
    reason: str


class StudyCost(_Part):
    """What one study of one model cost."""

    study: str
    role: str
    cells: int
    cost: Cost


class Protocol(_Part):
    """How the numbers came about, and the commands that give them again."""

    seed: int
    configuration: dict[str, Any]
    environment: dict[str, Any]
    commands: dict[str, str]
    trusted: list[dict[str, str]]
    costs: list[StudyCost]


class Summary(_Part):
    """The verdict in one sentence."""

    verdict: Verdict
    sentence: str
    complete: bool


class AuditDocument(_Part):
    """Everything a run found."""

    schema_version: int = SCHEMA_VERSION
    tool: dict[str, str]
    summary: Summary
    subject: Subject
    models: list[AuditedModel]
    findings: list[FindingPart]
    accuracy: list[AccuracyPart]
    robustness: list[RobustnessPart]
    corruptions: list[CorruptionRow]
    explanations: list[ExplanationPart]
    faithfulness: list[FaithfulnessRow]
    comparison: list[ComparisonRow]
    gallery: list[GalleryItem]
    gaps: list[Gap] = Field(default_factory=list)
    example_ids: list[str] = Field(default_factory=list)
    outcomes: list[OutcomeRow] = Field(default_factory=list)
    protocol: Protocol


Section = Literal["accuracy", "robustness", "corruptions", "explanations", "comparison", "protocol"]
