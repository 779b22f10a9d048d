"""What an attack on a detector can want. Imports no torch."""

from __future__ import annotations

from typing import Literal, get_args

DetectionAim = Literal["vanish", "fabricate", "mislabel", "untargeted"]
DETECTION_AIMS: tuple[DetectionAim, ...] = get_args(DetectionAim)
