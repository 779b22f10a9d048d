"""The configuration of a run."""

from audit.config.loading import PRESETS, load_config, merge, run_config_type
from audit.config.sections import (
    AttackRowConfig,
    CorruptionConfig,
    CriteriaConfig,
    ExplanationConfig,
    ReportConfig,
    RobustnessConfig,
    RunConfig,
)
from audit.config.subject import DataConfig, ModelConfig, TrustConfig
from audit.config.training import (
    AUGMENTATIONS,
    AugmentationConfig,
    CompressionConfig,
    HardeningConfig,
    TrainingConfig,
)
from audit.config.values import (
    GALLERY_SIZES,
    IMAGE_SIZES,
    Compression,
    ConfigTable,
    Optimizer,
    Precision,
    Preset,
    Schedule,
    StopRule,
)

__all__ = [
    "AUGMENTATIONS",
    "GALLERY_SIZES",
    "IMAGE_SIZES",
    "PRESETS",
    "AttackRowConfig",
    "AugmentationConfig",
    "Compression",
    "CompressionConfig",
    "ConfigTable",
    "CorruptionConfig",
    "CriteriaConfig",
    "DataConfig",
    "ExplanationConfig",
    "HardeningConfig",
    "ModelConfig",
    "Optimizer",
    "Precision",
    "Preset",
    "ReportConfig",
    "RobustnessConfig",
    "RunConfig",
    "Schedule",
    "StopRule",
    "TrainingConfig",
    "TrustConfig",
    "load_config",
    "merge",
    "run_config_type",
]
