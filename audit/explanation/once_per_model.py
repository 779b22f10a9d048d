"""What is found out about a model's build: asked once, however often its images are explained."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar, cast
from weakref import WeakKeyDictionary

from audit.core.errors import NotApplicable
from audit.models.under_test import ModelUnderTest

P = ParamSpec("P")
T = TypeVar("T")


def once_per_model(
    function: Callable[Concatenate[ModelUnderTest, P], T],
) -> Callable[Concatenate[ModelUnderTest, P], T]:
    """The function, its answers (and the reasons why there are none) remembered as long as the model lives.

    Args:
        function: Takes a model, and arguments that can be keys by position.
    """
    known: WeakKeyDictionary[ModelUnderTest, dict[Any, Any]] = WeakKeyDictionary()

    @wraps(function)
    def remembered(model: ModelUnderTest, *args: P.args, **kwargs: P.kwargs) -> T:
        answers, key = known.setdefault(model, {}), (args, tuple(sorted(kwargs.items())))
        if key not in answers:
            try:
                answers[key] = function(model, *args, **kwargs), None
            except NotApplicable as fault:
                answers[key] = None, fault.reason
        answer, reason = answers[key]
        if reason is not None:
            raise NotApplicable(reason)
        return answer  # type: ignore[no-any-return]

    return cast("Callable[Concatenate[ModelUnderTest, P], T]", remembered)
