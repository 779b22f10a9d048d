"""A rendering's words in one language. English is complete and stands in wherever another language is silent."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from audit.assets import folder
from audit.errors import unknown_name


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

    def name(self, group: str, word: str) -> str:
        """The word for an identifier such as a role or a study; itself with spaces where nobody named it."""
        key = f"{group}.{word}"
        return self.texts.get(key) or self.english.get(key) or word.replace("-", " ").replace("_", " ")

    def known(self, key: str, text: str) -> str:
        """The text at `key` where `text` is what English says there, as a default a document holds; else `text`."""
        return self(key) if text == self.english[key] else text

    def has(self, key: str) -> bool:
        """Whether this language itself has a text at `key`."""
        return key in self.texts


def languages() -> tuple[str, ...]:
    """The languages that ship."""
    return tuple(sorted(path.stem for path in (folder("templates") / "locales").glob("*.toml")))


@cache
def load_locale(language: str = "en") -> Locale:
    """The locale of `language`. Raises UsageError that lists those there are."""
    if language not in languages():
        raise unknown_name("language", language, languages())
    return Locale(language, _read(language), _read("en"))


def _read(language: str) -> dict[str, str]:
    return _flatten(tomllib.loads((folder("templates") / "locales" / f"{language}.toml").read_text("utf-8")))


def _flatten(table: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in table.items():
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = str(value)
    return flat
