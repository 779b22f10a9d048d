"""Settings of the study of attribution quality, and what it measures besides its values."""

from __future__ import annotations

from audit.core.cell import StudySettings
from audit.core.evidence import Facts


class AttributionQualitySettings(StudySettings):
    """Settings besides those of the explanation.

    Attributes:
        infidelity_samples: Noises that infidelity averages.
        sensitivity_samples: Small moves of which the worst counts.
        stages: Stages in which the weights are randomised.
        seeds: Further seeds that the maps are compared under.
    """

    infidelity_samples: int = 64
    sensitivity_samples: int = 4
    stages: int = 3
    seeds: int = 2


class AttributionQualityFacts(Facts):
    """How it was measured.

    Attributes:
        protocol: The protocol in words.
        infidelity_samples: Noises that infidelity averaged.
        sensitivity_samples: Small moves of which the worst counted.
        stages: Stages in which the weights were randomised.
        seeds: Further seeds that the maps were compared under.
    """

    protocol: str = ""
    infidelity_samples: int = 0
    sensitivity_samples: int = 0
    stages: int = 0
    seeds: int = 0
