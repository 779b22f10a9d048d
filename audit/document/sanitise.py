"""Making text from outside safe to read: invisible characters become visible, absolute paths are cut."""

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
    """A text with each absolute path cut to its last part, so that a report does not show the folders of a machine.

    Args:
        text: Any text.
    """
    return _ABSOLUTE.sub(lambda match: match[1], text)


def visible(text: str) -> str:
    """A text with control, bidirectional and other invisible characters written as <U+202E>.

    Args:
        text: Any text.
    """
    return "".join(f"<U+{ord(c):04X}>" if _unseen(c) else c for c in text)


def _unseen(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")
