"""English words that agree in number with the figure before them."""

from __future__ import annotations

import re

_BETWEEN = "class|clean|equal|held-out|mask|more|new|other|random|run|stored|test|training|whole|wrong"
_COUNTED = (
    "attacks attributions axes batches bins boxes bytes cells channels checks classes columns controls corruptions "
    "degrees dimensions entries epochs errors examples files findings folders forwards functions gradients groups "
    "ids images inputs items keys labels layers lines masks methods models moves names numbers orders outputs pairs "
    "parameters passes patches pictures pixels points predictions problems queries quantities reasons restarts rows "
    "runs samples seconds segments signs stages steps studies suspects targets tensors tokens values weights words "
    "workers"
).split()
_ONE = re.compile(
    rf"(?<![\w.,:/+-])(1 (?:(?:{_BETWEEN}) )*)({'|'.join(_COUNTED)})\b(?! 1)"
    r"(?: (are|were|have|do|behave|differ|stand)\b)?"
)
_VERBS = {
    "are": "is",
    "were": "was",
    "have": "has",
    "do": "does",
    "behave": "behaves",
    "differ": "differs",
    "stand": "stands",
}


def agree(text: str) -> str:
    """The text with "1 images are" written "1 image is".

    Sentences are filled from templates that expect several; where the figure is 1, noun and verb follow it. Other
    figures, and texts in other languages, stay as they are.

    Args:
        text: A sentence or several.
    """
    return _ONE.sub(lambda match: _singular(*match.groups()), text) if "1 " in text else text


def _singular(count: str, noun: str, verb: str | None) -> str:
    if noun.endswith("ies"):
        single = f"{noun[:-3]}y"
    elif noun == "axes":
        single = "axis"
    elif noun.endswith(("sses", "ches", "oxes")):
        single = noun[:-2]
    else:
        single = noun[:-1]
    return f"{count}{single}" + (f" {_VERBS[verb]}" if verb else "")
