"""Text from outside made safe to read: invisible characters shown, absolute paths cut."""

from __future__ import annotations

import re
import unicodedata

_ABSOLUTE = re.compile(
    r"""(?<![\w./\\<])(?!//)        # no part of a word, a relative path, a tag or an address
    (?:[A-Za-z]:[/\\]|/|~/)         # a drive, the root or a home
    (?:[^\s"'=:;,/\\]*[/\\])*       # folders
    ([^\s"'=:;,/\\]+)               # the last part""",
    re.VERBOSE,
)


def without_paths(text: str) -> str:
    """`text` with each absolute path cut to its last part: a report tells nothing of the machine it was made on."""
    return _ABSOLUTE.sub(lambda match: match[1], text)


def visible(text: str) -> str:
    """`text` with control, bidirectional and other unseen characters written as <U+202E>."""
    return "".join(f"<U+{ord(c):04X}>" if _unseen(c) else c for c in text)


def _unseen(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")
