"""Sentences that a study, a loader or a check writes, as a key with values: a report shows them in its language."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)
from pydantic_core import CoreSchema

from audit.core.wording import agree

NoteValue: TypeAlias = "str | int | float | Note | list[str]"
"""A text or a number as it stands in the sentence; a note within the note; or words, which each language joins with its
own "and" and translates one by one."""


class Note(BaseModel):
    """A sentence, or a part of one.

    A plain text is accepted wherever a note is; it has no key, is shown as it is, and is a plain text in JSON.

    Attributes:
        key: What languages know it by: the text at `note.<key>` of a locale.
        text: The English, filled.
        values: What the text is filled with, in every language.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    key: str
    text: str
    values: dict[str, NoteValue] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        if isinstance(value, dict) and value.get("values") == {}:  # as `note` leaves them: unset, where there are none
            return {name: part for name, part in value.items() if name != "values"}
        return {"key": "", "text": value} if isinstance(value, str) else value

    @model_serializer(mode="wrap")
    def _as_json(self, default: SerializerFunctionWrapHandler) -> Any:
        # pydantic before 2.9 asks every member of a union, so this may be no note: then the default one refuses it.
        return self.text if getattr(self, "key", None) == "" else default(self)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Either of the two."""
        return {"anyOf": [{"type": "string"}, handler.resolve_ref_schema(handler(schema))]}

    def __str__(self) -> str:
        return self.text

    def __bool__(self) -> bool:
        return bool(self.text)

    def __hash__(self) -> int:
        return hash((self.key, self.text))

    def filled(self, **values: NoteValue) -> Note:
        """The note with the placeholders of its text filled, for a note that waits in a table.

        Args:
            values: One for each placeholder.
        """
        return _filled(self.key, self.text, values)


def note(key: str, text: str, /, **values: NoteValue) -> Note:
    """Write a note. Tests collect the keys from the calls, so key and text stand there as literals.

    Args:
        key: Lower case with underscores, one for each template.
        text: The English template, a placeholder {name} for each value; as it is where there are no values.
        values: What fills the template; numbers that need a format, such as shares, are given as formatted texts.
    """
    return _filled(key, text, values) if values else Note(key=key, text=text)


def listed_with_more(names: Sequence[str], most: int) -> Note | str:
    """Names with commas between them; of more than `most`, the first and how many more there are.

    Args:
        names: The names.
        most: How many are written out.
    """
    listed, more = ", ".join(names[:most]), len(names) - most
    return note("and_more", "{listed} and {more} more", listed=listed, more=more) if more > 0 else listed


NO_NOTE = Note(key="", text="")
"""Where there is nothing to say."""


def _filled(key: str, template: str, values: dict[str, NoteValue]) -> Note:
    text = template.format(**{name: _english(value) for name, value in values.items()})
    return Note(key=key, text=agree(text), values=values)


def _english(value: NoteValue) -> str | int | float | Note:
    return " and ".join(value) if isinstance(value, list) else value
