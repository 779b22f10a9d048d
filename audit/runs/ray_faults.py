"""What Ray says of an actor that died, in a line."""

from __future__ import annotations

import re

from audit.core.errors import for_a_sentence, one_line, said_lines

_BEFORE_THE_CAUSE = re.compile(r'Traceback \(|  File "|\t|(.*\W)?ray::\S+ \(pid=')
"""Lines above what a traceback ends with, or above what Ray says of a process: headers, frames, names of the actor."""
_MODULE = re.compile(r"^(\w+\.)+(?=\w+: )")


def cause_of(fault: BaseException) -> str:
    """The last cause in an exception of Ray, short enough for a sentence and without a full stop.

    Ray begins with what happened to the actor, and ends with why: with the text of a traceback where its start raised,
    with what became of the process where that died.

    Args:
        fault: An exception of Ray.
    """
    lines = said_lines(fault)
    above = [number for number, line in enumerate(lines) if _BEFORE_THE_CAUSE.match(line)]
    below = lines[above[-1] + 1 :] if above else []
    causes = [line for line in below if not line[0].isspace()]
    return for_a_sentence(_MODULE.sub("", causes[0])) if causes else one_line(fault)
