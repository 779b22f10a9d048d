"""A rendering's words in one language. English is complete and stands in wherever another language is silent."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from audit.core.errors import unknown_name
from audit.core.note import Note, NoteValue
from audit.core.resources import resource_dir
from audit.core.topic import topics
from audit.document.display_names import display_name


@dataclass(frozen=True)
class Locale:
    """`locale("accuracy.title")` is the text at that key, filled with the values given."""

    language: str
    texts: Mapping[str, str]
    english: Mapping[str, str]

    def __call__(self, key: str, /, **values: Any) -> str:
        """The text at `key`. Raises KeyError for a key that English lacks too: a template names a wrong one."""
        template = self.texts.get(key) or self.english[key]
        return template.format(**values) if values else template

    def optional(self, key: str) -> str:
        """The text at `key`, empty where there is none."""
        return self.texts.get(key) or self.english.get(key) or ""

    def title(self, section: str) -> str:
        """The heading of a section; its name where nobody gave one."""
        return self.optional(f"{section}.title") or section.replace("-", " ").replace("_", " ").capitalize()

    def name(self, group: str, word: str) -> str:
        """The word for an identifier such as a role or a study; itself with spaces where nobody named it."""
        key = f"{group}.{word}"
        return self.texts.get(key) or self.english.get(key) or word.replace("-", " ").replace("_", " ")

    def method(self, identifier: str) -> str:
        """What a reader calls a method, an attack or a corruption: proper names are the same in every language."""
        return self.texts.get(f"method.{identifier}") or display_name(identifier)

    def known(self, key: str, text: str) -> str:
        """The text at `key` where `text` is what English says there, as a default a document holds; else `text`."""
        return self(key) if text == self.english[key] else text

    def note(self, note: Note | str) -> str:
        """A note in this language; its English where the language has no text for its key. A plain text stays."""
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
        """The word at `word.*` for `text`, such as a baseline or an output; a note as `note` says it."""
        return self.texts.get(f"word.{text}", text) if isinstance(text, str) else self.note(text)

    def _value(self, value: NoteValue) -> str | int | float:
        """A value of a note: a note within it in this language, words translated and joined by its "and"."""
        if isinstance(value, list):
            return self("gallery.and").join(self.word(word) for word in value)
        return self.note(value) if isinstance(value, Note) else value

    def has(self, key: str) -> bool:
        """Whether this language itself has a text at `key`."""
        return key in self.texts


def languages() -> tuple[str, ...]:
    """The languages that ship."""
    return tuple(sorted(path.stem for path in (resource_dir("templates") / "locales").glob("*.toml")))


@cache
def load_locale(language: str = "en") -> Locale:
    """The locale of `language`. Raises UsageError that lists those there are."""
    if language not in languages():
        raise unknown_name("language", language, languages())
    return Locale(language, _read(language), _read("en"))


@cache
def _read(language: str) -> dict[str, str]:
    """Every text of a language: those of the report itself, then those each topic brings."""
    files = [resource_dir("templates") / "locales" / f"{language}.toml"]
    files += [topic.folder / f"strings.{language}.toml" for topic in topics()]
    texts: dict[str, str] = {}
    for file in files:
        if file.is_file():
            texts |= _flatten(tomllib.loads(file.read_text("utf-8")))
    return texts


def _flatten(table: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in table.items():
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = str(value)
    return flat
