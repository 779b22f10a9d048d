"""Types of values that the tables of a configuration share, and the base of those tables."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)

from audit.core.errors import UsageError
from audit.core.image_options import PixelRange
from audit.core.threat_format import parse_eps

Preset = Literal["quick", "standard", "full"]
Optimizer = Literal["muon", "adam", "adamw", "sgd", "rmsprop", "adagrad"]
Schedule = Literal["one-cycle", "cosine", "step", "constant"]
Precision = Literal["auto", "float32", "bfloat16"]
Compression = Literal["magnitude", "structured", "clip", "int8", "distill"]
IMAGE_SIZES = range(8, 1025)
"""Heights and widths in pixels that images may be resized to."""
GALLERY_SIZES: Mapping[str, int] = {"normal": 16, "high": 200}
"""Images in the gallery of a report by level of detail, each with the attributions of every method."""


def _eps(value: Any) -> Any:
    """8/255 as a number; anything else is left to the type check."""
    try:
        return parse_eps(value) if isinstance(value, str) else value
    except UsageError:
        return value


def _numbers(value: Any) -> Any:
    """Numbers with commas between them as a tuple; what is no text is left to the type check."""
    if not isinstance(value, str):
        return value
    try:
        return tuple(float(number) for number in value.split(","))
    except ValueError:
        raise ValueError("a number or numbers with commas were expected, as in 0.5,0.5,0.5") from None


def _range(value: Any) -> Any:
    """LOW,HIGH as a tuple of both, in this order; what is neither text nor two numbers is left to the type check."""
    if isinstance(value, str):
        try:
            low, high = (float(number) for number in value.split(","))
        except ValueError:
            raise ValueError("two numbers with a comma were expected, as in 0,4095") from None
        value = (low, high)
    if isinstance(value, (tuple, list)) and all(isinstance(number, (int, float)) for number in value):
        if len(value) != 2 or not -math.inf < value[0] < value[1] < math.inf:
            raise ValueError("two numbers, black and above it white, were expected, as in 0,4095")
    return value


def seconds(value: Any) -> Any:
    """A duration written as 90, 90s, 12m or 1.5h, in seconds.

    Args:
        value: A text; anything else is left to the type check.

    Raises:
        ValueError: The text is no duration, or none at all.
    """
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smh]?)\s*", value)
    if not match or float(match[1]) == 0:
        raise ValueError("a duration was expected: 90s, 12m or 1.5h")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]


def _stop(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
    """One sentence for all that the rule can be: each member of a union would say what it alone expects."""
    try:
        return validate(value)
    except ValidationError:
        raise ValueError("decides, all, or a number above 0 and below 0.5 was expected") from None


HalfWidth = Annotated[float, Field(gt=0, lt=0.5)]
"""How far the interval of a share reaches either way, in (0, 0.5)."""
StopRule = Annotated[Literal["decides", "all"] | HalfWidth, WrapValidator(_stop)]
"""When a study takes no further images: once its checks are decided, once its interval reaches no further either way
too, or once it has all that were asked for."""
Eps = Annotated[float, BeforeValidator(_eps), Field(gt=0)]
Seconds = Annotated[float, BeforeValidator(seconds)]
Range = Annotated[PixelRange | None, BeforeValidator(_range)]
Normalisation = Annotated[float | tuple[float, ...] | None, BeforeValidator(_numbers)]


class ConfigTable(BaseModel):
    """One table of the configuration: unknown keys are refused, values are fixed."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False)
