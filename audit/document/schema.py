"""The audit document, the product of a run, from which every rendering is made."""

from __future__ import annotations

from functools import cache
from typing import Any, TypeVar

from pydantic import ConfigDict, Field, create_model

from audit.core.errors import SetupError
from audit.core.evidence import Finding, Status, Verdict
from audit.core.looks import Look
from audit.core.note import Note
from audit.core.topic import topics
from audit.document.measures import MeasuredRow
from audit.document.model import Cost, DocumentModel, Heatmap, Picture
from audit.document.stops import StopRow, UnfinishedRow
from audit.results.run_results import Cut

T = TypeVar("T", bound=DocumentModel)
SCHEMA_VERSION = 2


class AuditSubject(DocumentModel):
    """What was audited, on which data.

    Attributes:
        title: Title of the report.
        data: Description of the data set.
        classes: Names of the classes, in the model's order.
        input_shape: Channels, height and width of an image.
        examples: Number of test images that were classified.
        notes: What the reader should know of the data.
    """

    title: str
    data: Note
    classes: list[str]
    input_shape: tuple[int, int, int]
    examples: int
    notes: list[Note]


class AuditedModel(DocumentModel):
    """One model of the run.

    Attributes:
        role: Its role, such as "standard".
        architecture: Name of its architecture.
        origin: Where it comes from: a file, a package, or training in this run.
        identity: Fingerprint of its weights and preprocessing.
        parameters: Number of weights.
        recipe: The recipe it was trained by here; None where it was not.
        history: One row per epoch where it was trained here: losses, accuracies as shares, learning rate.
        settings: Settings of the cell that made it; empty where it was loaded.
        notes: What the reader should know of it.
    """

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
    """One image as one model classifies and explains it.

    Attributes:
        role: Role of the model.
        prediction: The predicted class.
        confidence: Its probability, in [0, 1].
        broken_by: The attack that broke the image first; "clean" where it was wrong before; None where none did.
        adversarial: The adversarial image; None where there is none.
        perturbation: The adversarial image minus the clean one, mean over channels.
        adversarial_prediction: The class predicted on the adversarial image.
        adversarial_confidence: Its probability.
        maps: By method, the attribution of the clean image.
        adversarial_maps: By method, the attribution of the adversarial image.
    """

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
    """One image with its label, and how each model classifies it.

    Attributes:
        id: Name of the image.
        label: Its class.
        image: A thumbnail.
        views: One per model.
    """

    id: str
    label: str
    image: Picture
    views: list[GalleryView]


class OutcomeRow(DocumentModel):
    """Yes or no for consecutive examples of the audit order.

    Attributes:
        role: Role of the model.
        quantity: "clean", or "robust" with the threat model: "robust linf 8/255".
        start: Position of the first example in the audit order.
        outcomes: "1" or "0" for each example.
        look: Whether their number was set beforehand ("only"), or the run looked at them before and stopped ("early")
            or went on to the last planned ("last").
    """

    role: str
    quantity: str
    start: int
    outcomes: str
    look: Look = "only"


class Gap(DocumentModel):
    """A planned measurement that gives no number.

    Attributes:
        study: Name of the study.
        method: Name of the method.
        role: Role of the model.
        status: "failed" or "not_applicable".
        reason: Why.
    """

    study: str
    method: str
    role: str
    status: Status
    reason: Note


class StudyCost(DocumentModel):
    """What one study of one model cost.

    Attributes:
        study: Name of the study.
        role: Role of the model.
        cells: Number of cells.
        cost: Their cost together.
    """

    study: str
    role: str
    cells: int
    cost: Cost


class Protocol(DocumentModel):
    """How the numbers were made, and the commands that reproduce them.

    Attributes:
        seed: The seed of the run.
        configuration: The configuration of the run.
        environment: Versions, device and platform.
        commands: By section or "run", the command that reproduces its numbers.
        trusted: Files of code that the user trusted, as {"path", "sha256"}.
        costs: What each study of each model cost.
    """

    seed: int
    configuration: dict[str, Any]
    environment: dict[str, Any]
    commands: dict[str, str]
    trusted: list[dict[str, str]]
    costs: list[StudyCost]


class Summary(DocumentModel):
    """The verdict in words.

    Attributes:
        verdict: The overall verdict.
        sentence: One sentence per model, joined.
        complete: Whether every task that was wanted was run and none failed.
        cut_by: What ended the run before that: "time", or "user" who stopped it; empty where nothing did.
    """

    verdict: Verdict
    sentence: str
    complete: bool
    cut_by: Cut = ""


class AuditDocument(DocumentModel):
    """Everything a run measured and concluded.

    The rows of a topic are in the field that the topic declares; `document_type` is the model with all of them. Rows of
    a topic that is not installed here are kept as they are.

    Attributes:
        schema_version: Version of this model.
        tool: Name and version of the program.
        summary: The verdict in words.
        subject: What was audited.
        models: The models of the run, the one under test first.
        findings: What the checks concluded, the most severe first.
        gallery: The first images of the audit order.
        measures: Measurements beside their controls.
        gaps: Planned measurements that give no number.
        stops: Where the studies that take images in steps ended.
        unfinished: What a run that was cut has not computed.
        example_ids: Name of each evaluation image, in the audit order.
        outcomes: Yes or no for each example, by model and quantity.
        protocol: How the numbers were made.
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
    stops: list[StopRow] = Field(default_factory=list)
    unfinished: list[UnfinishedRow] = Field(default_factory=list)
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
    """The model of a whole document: `AuditDocument` with a field for each kind of row that a topic declares.

    Raises:
        SetupError: A topic declares a field that every document has.
    """
    for topic in topics():
        if taken := sorted(topic.document.keys() & AuditDocument.model_fields.keys()):
            raise SetupError(
                f"Topic {topic.name} of {topic.package} declares the document field {taken[0]!r}, which every document "
                "has: give it another name."
            )
    fields: dict[str, Any] = {
        name: (list[model], Field(default_factory=list))  # type: ignore[valid-type]
        for topic in topics()
        for name, model in topic.document.items()
    }
    return create_model("AuditDocument", __base__=AuditDocument, **fields)
