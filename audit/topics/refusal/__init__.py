"""When it should refuse to answer: risk against coverage, sets of classes, and images that it was not made for."""

from audit.core.topic import Topic
from audit.topics.refusal.config import RefusalConfig
from audit.topics.refusal.section import CalibrationRow, ConformalRow, OutsideRow, RiskRow

TOPIC = Topic(
    name="refusal",
    section="refusal",
    order=330,
    priority=50,
    studies={"refusal": "refusal.examples, refusal.shifted"},
    config=RefusalConfig,
    presets={
        "standard": {"examples": 2000, "shifted": 500, "reference": 5000},
        "full": {"examples": 5000, "shifted": 1000, "reference": 10_000},
    },
    minimum={"refusal.examples": 100, "refusal.shifted": 50},
    document={
        "risk_coverage": RiskRow,
        "conformal_sets": ConformalRow,
        "calibration_shifted": CalibrationRow,
        "out_of_distribution": OutsideRow,
    },
)
