"""Data health: whether the test set can be trusted, and what of the data is to be mended, before any model."""

from pydantic import Field

from audit.config import ConfigTable
from audit.core.topic import Topic
from audit.topics.data_health.section import DataIssueRow, DataPartRow, FileKindRow, LeakRow, ShiftRow


class DataHealthConfig(ConfigTable):
    """Copies, mistaken labels, blank images, shift; and how much of each passes."""

    enabled: bool = Field(True, description="look for copies, mistaken labels and blank images")
    leaked: float = Field(0.01, ge=0, le=1, description="the largest share of test images that are trained on too")
    label_errors: float = Field(0.03, ge=0, le=1, description="the largest share of labels that are wrong")
    blank: float = Field(0.001, ge=0, le=1, description="the largest share of blank images")
    guessed: float = Field(
        0.05, ge=0, le=1, description="the most that the size or colour of an image helps to guess its class"
    )
    shift: float = Field(
        0.6, ge=0.5, le=1, description="how well test images may be told from training images, as an AUC"
    )


TOPIC = Topic(
    name="data_health",
    section="data_health",
    order=90,
    priority=15,
    studies={"data-health": "data_health.enabled", "label-errors": "data_health.enabled"},
    config=DataHealthConfig,
    document={
        "data_parts": DataPartRow,
        "data_issues": DataIssueRow,
        "data_leaks": LeakRow,
        "data_kinds": FileKindRow,
        "data_shift": ShiftRow,
    },
)
