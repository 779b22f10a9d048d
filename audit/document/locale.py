"""The texts of a rendering in one language; English stands in where another language has no text."""

from __future__ import annotations

import logging
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from audit.core.errors import unknown_name
from audit.core.note import Note, NoteValue
from audit.core.resources import resource_dir
from audit.core.topic import topics
from audit.core.wording import agree
from audit.document.display_names import display_name

log = logging.getLogger("audit")


@dataclass(frozen=True)
class Locale:
    """The texts of one language: `locale("accuracy.title")` is the text at that key.

    Attributes:
        language: Code of the language, such as "zh".
        texts: By dotted key, its texts.
        english: By dotted key, the English texts, which are complete.
    """

    language: str
    texts: Mapping[str, str]
    english: Mapping[str, str]

    def __call__(self, key: str, /, **values: Any) -> str:
        """The text at a key, filled in with values.

        Args:
            key: A dotted key.
            values: The values that the text names.

        Raises:
            KeyError: English has no text at the key, or a value is missing.
        """
        template = self.texts.get(key) or self.english[key]
        return agree(template.format(**values)) if values else template

    def optional(self, key: str) -> str:
        """The text at a key; empty where there is none.

        Args:
            key: A dotted key.
        """
        return self.texts.get(key) or self.english.get(key) or ""

    def title(self, section: str) -> str:
        """The heading of a section; made from its name where there is no text.

        Args:
            section: Name of the section.
        """
        return self.optional(f"{section}.title") or section.replace("-", " ").replace("_", " ").capitalize()

    def name(self, group: str, word: str) -> str:
        """The word for an identifier, such as a role or a study; the identifier with spaces where there is none.

        Args:
            group: The table of the words, such as "role".
            word: The identifier.
        """
        key = f"{group}.{word}"
        return self.texts.get(key) or self.english.get(key) or word.replace("-", " ").replace("_", " ")

    def method(self, identifier: str) -> str:
        """The display name of a method; proper names are the same in every language.

        Args:
            identifier: Name of an attack, attribution, metric or corruption.
        """
        return self.texts.get(f"method.{identifier}") or display_name(identifier)

    def translate_default(self, key: str, text: str) -> str:
        """The translation of a text that is the English default of a setting; any other text as it is.

        Args:
            key: Key of the default.
            text: The text.
        """
        return self(key) if text == self.english[key] else text

    def note(self, note: Note | str) -> str:
        """A note in this language; its English text where the language has none for its key.

        Args:
            note: The note; a plain text stays as it is.
        """
        if isinstance(note, str):
            return note
        template = self.texts.get(f"note.{note.key}")
        if template is None:
            return note.text
        try:
            return template.format(**{name: self._value(value) for name, value in note.values.items()})
        except KeyError:  # written by another version, with other values
            return note.text

    def word(self, text: Note | str) -> str:
        """The translation of a word, such as a baseline or an output.

        Args:
            text: The word, looked up below `word`; a note is translated as `note` does.
        """
        return self.texts.get(f"word.{text}", text) if isinstance(text, str) else self.note(text)

    def _value(self, value: NoteValue) -> str | int | float:
        """A value of a note: notes are translated; words of a list are translated and joined by "and"."""
        if isinstance(value, list):
            return self("gallery.and").join(self.word(word) for word in value)
        return self.note(value) if isinstance(value, Note) else value

    def has(self, key: str) -> bool:
        """Whether this language itself has a text at a key.

        Args:
            key: A dotted key.
        """
        return key in self.texts


def languages() -> tuple[str, ...]:
    """Codes of the languages that ship."""
    return tuple(sorted(path.stem for path in (resource_dir("templates") / "locales").glob("*.toml")))


@cache
def load_locale(language: str = "en") -> Locale:
    """The texts of a language.

    Args:
        language: Its code.

    Raises:
        UsageError: There is no such language; the message lists those there are.
    """
    if language not in languages():
        raise unknown_name("language", language, languages())
    return Locale(language, _read(language), _read("en"))


@cache
def _read(language: str) -> dict[str, str]:
    """Every text of a language: those of the report, then those of each topic."""
    files = [resource_dir("templates") / "locales" / f"{language}.toml"]
    files += [topic.folder / f"strings.{language}.toml" for topic in topics()]
    texts: dict[str, str] = {}
    for file in files:
        try:
            texts |= _flatten(tomllib.loads(file.read_text("utf-8"))) if file.is_file() else {}
        except (OSError, ValueError) as fault:
            log.error("The texts of %s cannot be read and are left out: %s.", file, fault)
    return texts


def _flatten(table: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in table.items():
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = str(value)
    return flat
