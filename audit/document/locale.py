"""A rendering's words in one language. English is complete and stands in wherever another language is silent."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from audit.core.errors import unknown_name
from audit.core.resources import resource_dir
from audit.core.topic import topics
from audit.document.display_names import display_name

_SENTENCE = r"\. [A-Z]"
"""The end of one sentence and the beginning of another: no value goes over it."""


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

    def phrase(self, text: str) -> str:
        """What a study wrote in English, whole or sentence by sentence, by the texts at `phrase.*`, whose values may be
        words or ranges themselves; what none of them fits stays as it was written."""
        if self.language == "en" or not text:
            return text
        whole = self._phrase(text)
        if whole is not None:
            return whole
        parts = re.split(r"(?<=\.) (?=[A-Z])", text)
        return " ".join(self._phrase(part) or part for part in parts)

    def word(self, text: str) -> str:
        """The word at `word.*` for `text`, as a baseline or an output; else what `phrase` makes of it."""
        return self.texts.get(f"word.{text}") or self.phrase(text)

    def _phrase(self, text: str) -> str | None:
        for key, pattern in _patterns():
            found = pattern.fullmatch(text)
            if found and key in self.texts:
                return self.texts[key].format(**{name: self._value(value) for name, value in found.groupdict().items()})
        return None

    def _value(self, value: str) -> str:
        """A number as it is, a range or words joined by "and" in this language."""
        span = re.fullmatch(r"(\d+) to (\d+)", value)
        if span:
            return self("explanations.range", low=span[1], high=span[2])
        return self("gallery.and").join(self.word(one) for one in value.split(" and "))

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
def _patterns() -> tuple[tuple[str, re.Pattern[str]], ...]:
    """English at `phrase.*` by key, as patterns that give back the values; the most particular first."""
    phrases = [(key, text) for key, text in _read("en").items() if key.startswith("phrase.")]
    phrases.sort(key=lambda one: -len(re.sub(r"\{\w+\}", "", one[1])))
    return tuple((key, re.compile(_as_pattern(text), re.DOTALL)) for key, text in phrases)


def _as_pattern(text: str) -> str:
    return "".join(
        f"(?P<{part[1:-1]}>(?:(?!{_SENTENCE}).)+?)" if part.startswith("{") else re.escape(part)
        for part in re.split(r"(\{\w+\})", text)
    )


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
