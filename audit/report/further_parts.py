"""The parts of the document that `audit.report.further` fills."""

from __future__ import annotations

from pydantic import AliasChoices, Field

from audit.core.evidence import Better
from audit.results.document_model import DocumentModel, Proportion


class MeasuredRow(DocumentModel):
    """The mean of one measurement with its 95% bounds, beside the means of its controls.

    `n` counts the examples that have a value; `condition` says under what, where a study has several.
    """

    study: str
    role: str
    method: str
    condition: str
    name: str
    unit: str
    better: Better
    mean: float
    low: float
    high: float
    n: int
    controls: dict[str, float] = Field(default_factory=dict)


class ShortcutRow(DocumentModel):
    """A place that decides a class: its share of the attribution, and how many predictions turn with it.

    `removed` and `transplanted` are shares of images, `left_anyway` and `joined_anyway` those under the control, an
    exchange with donors of the other kind; `box` is top, left, bottom, right in pixels.
    """

    role: str
    method: str
    label: str
    share: float
    removed: float
    left_anyway: float | None = None
    transplanted: float
    joined_anyway: float = Field(validation_alias=AliasChoices("joined_anyway", "control"))
    images: int
    box: list[int]


class AgreementPart(DocumentModel):
    """How far every two methods rank the same pixels first: mean Spearman correlations, None where one is constant.

    `matrix` follows the order of `methods`; `left_out` are those without maps.
    """

    role: str
    methods: list[str]
    matrix: list[list[float | None]]
    left_out: list[str] = Field(default_factory=list)
    n: int


class OracleRow(DocumentModel):
    """One problem with a known answer: how far the tool was from it, and how far it may be."""

    problem: str
    method: str
    error: float
    bound: float
    holds: bool


class CurvePoint(DocumentModel):
    """Robust accuracy at one eps: an upper bound on the truth from attacks, a lower one from certificates."""

    eps: float
    robust: Proportion


class CertificatePart(DocumentModel):
    """What is proven of one model: the share certified at each eps. `certifies` says of which classifier."""

    role: str
    method: str
    norm: str
    certifies: str
    curve: list[CurvePoint]
    median_radius: float
    abstained: int
    n: int
