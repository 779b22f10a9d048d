"""The audit document: the one product of a run. Every rendering is a pure function of it."""

from __future__ import annotations

from functools import cache
from typing import Any, TypeVar

from pydantic import ConfigDict, Field, create_model

from audit.core.evidence import Finding, Status, Verdict
from audit.core.note import Note
from audit.core.topic import topics
from audit.document.measures import MeasuredRow
from audit.document.model import Cost, DocumentModel, Heatmap, Picture

T = TypeVar("T", bound=DocumentModel)
SCHEMA_VERSION = 2


class AuditSubject(DocumentModel):
    """What was audited, on what."""

    title: str
    data: Note
    classes: list[str]
    input_shape: tuple[int, int, int]
    examples: int
    notes: list[Note]


class AuditedModel(DocumentModel):
    """One model of the run. `history` is one row an epoch where it was trained here."""

    role: str
    architecture: str
    origin: Note
    identity: str
    parameters: int
    recipe: str | None = None
    history: list[dict[str, float]] = Field(default_factory=list)
    settings: dict[str, Any] = Field(default_factory=dict)
    notes: list[Note] = Field(default_factory=list)


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
    reason: Note


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
    """Everything a run measured and concluded: what every rendering is made of.

    The rows of a topic stand in the field that the topic declares; `document_type` is the model with all of them.
    Rows of a topic that is not installed here are kept as they are.

    Attributes:
        schema_version: Version of this model.
        tool: Name and version of the program.
        summary: The verdict in one sentence.
        subject: What was audited.
        models: The models of the run, the one under test first.
        findings: What the checks concluded, the gravest first.
        gallery: The first images of the audit order.
        measures: Measurements beside their controls.
        gaps: What was planned and gives no number.
        example_ids: Name of each evaluation image, in the audit order.
        outcomes: What became of each example.
        protocol: How the numbers came about.
    """

    model_config = ConfigDict(extra="allow", protected_namespaces=())
    __pydantic_extra__: dict[str, list[dict[str, Any]]]

    schema_version: int = SCHEMA_VERSION
    tool: dict[str, str]
    summary: Summary
    subject: AuditSubject
    models: list[AuditedModel]
    findings: list[Finding]
    gallery: list[GalleryItem]
    measures: list[MeasuredRow] = Field(default_factory=list)
    gaps: list[Gap] = Field(default_factory=list)
    example_ids: list[str] = Field(default_factory=list)
    outcomes: list[OutcomeRow] = Field(default_factory=list)
    protocol: Protocol

    def rows(self, kind: type[T]) -> list[T]:
        """The rows of one model, such as `document.rows(TriggerRow)`.

        Args:
            kind: The model that a topic declares for one of its document fields.
        """
        field = next((name for topic in topics() for name, model in topic.document.items() if model is kind), "")
        return list(getattr(self, field, ()))


@cache
def document_type() -> type[AuditDocument]:
    """The model of a whole document: `AuditDocument` with a field for each kind of row that a topic declares."""
    fields: dict[str, Any] = {
        name: (list[model], Field(default_factory=list))  # type: ignore[valid-type]
        for topic in topics()
        for name, model in topic.document.items()
    }
    return create_model("AuditDocument", __base__=AuditDocument, **fields)
