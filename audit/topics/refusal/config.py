"""The configuration of refusal."""

from __future__ import annotations

from pydantic import Field

from audit.config import ConfigTable


class RefusalConfig(ConfigTable):
    """Refusing the least sure predictions, sets of classes, and foreign images."""

    examples: int = Field(500, ge=0, description="images whose features are compared with foreign ones; 0 for none")
    shifted: int = Field(200, ge=1, description="images corrupted by each of corruptions.names, at severities 1, 3, 5")
    reference: int = Field(1000, ge=50, description="training images whose features say what is usual")
    foreign: str | None = Field(
        None, description="a folder or data source of images the model is not made for, beside those that are drawn"
    )
    risk: float = Field(0.05, gt=0, lt=1, description="the share of errors to keep among accepted predictions")
    coverage: float = Field(0.5, ge=0, le=1, description="the least share of predictions to accept at that risk")
    error: float = Field(0.1, gt=0, lt=1, description="the share of conformal sets that may miss the right class")
    auroc: float = Field(0.8, ge=0.5, le=1, description="the least AUROC at which foreign images are told apart")
