"""The flags of the command line, declared on the fields of the configuration whose keys they set."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from audit.core.errors import UsageError, unknown_name

SUBJECT_FLAGS = ("seed", "task", "device", "data", "model")
"""Keys and tables whose flags say which model is audited on which data."""
EVALUATION_FLAGS = ("only", "hardening.enabled", "robustness", "corruptions", "explanations", "report")
"""Keys and tables whose flags say what is measured."""
AUDIT_FLAGS = ("preset", "stop", "engine", "jobs", *SUBJECT_FLAGS, *EVALUATION_FLAGS)
"""Keys and tables whose flags `audit run` takes."""

SHARED_TRAININGS = tuple(f"{table}.{key}" for table in ("training", "hardening") for key in ("nproc", "shares"))
"""Keys whose flags say in how many processes models are trained."""

_NUMBERS: Mapping[Any, str] = {int: "INTEGER", float: "NUMBER"}
_BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}


@dataclass(frozen=True)
class Flag:
    """A flag of the command line, as metadata of a field: `Annotated[int, Flag("--epochs")] = Field(8, ge=1)`.

    Attributes:
        name: The flag; a switch with its opposite as "--images/--no-images".
        help: What `--help` says; the description of the field when empty.
        default: The default that `--help` shows; None for that of the field, "" for none.
        words: The words that the flag takes, with the value of the key for each; None when it takes the value itself.
            Where several keys share the flag, a word that this key lacks leaves the key alone.
        kind: The type of what the flag takes, where that is less than the key does; None where it is the same.
    """

    name: str
    help: str = ""
    default: str | None = None
    words: Mapping[str, Any] | None = None
    kind: Any = None


@dataclass(frozen=True)
class KeyFlag:
    """A flag with the key that it sets.

    Attributes:
        key: The key with its tables, as "data.source".
        flag: The flag as it was declared.
        field: The field of the key.
    """

    key: str
    flag: Flag
    field: FieldInfo

    @property
    def names(self) -> list[str]:
        """The flag, and after it its opposite where it has one."""
        return self.flag.name.split("/")

    @property
    def parameter(self) -> str:
        """The flag as the name of a Python parameter."""
        return self.names[0].strip("-").replace("-", "_")

    @property
    def is_switch(self) -> bool:
        """Whether the flag stands without a value."""
        return self.field.annotation is bool

    @property
    def is_repeatable(self) -> bool:
        """Whether the flag may be given several times, an item of the key's value each."""
        return get_origin(self.field.annotation) is tuple

    @property
    def choices(self) -> list[str]:
        """The values that the flag can take, where they are few; none where they are not."""
        if self.flag.words is not None:
            return list(self.flag.words)
        return [str(choice) for kind in self._kinds if get_origin(kind) is Literal for choice in get_args(kind)]

    @property
    def metavar(self) -> str | None:
        """What `--help` writes for the flag's value; None for a switch."""
        if self.is_switch:
            return None
        numbers = [_NUMBERS[kind] for kind in self._kinds if kind in _NUMBERS and self.flag.words is None]
        if self.choices:
            return "|".join(self.choices + numbers)
        return numbers[0] if len(self._kinds) == len(numbers) == 1 else "TEXT"

    @property
    def bounds(self) -> list[str]:
        """Between what a number lies that the flag takes, as "at least 0"; nothing where it takes words."""
        if self.flag.words is not None:
            return []
        metadata = FieldInfo.from_annotation(self.flag.kind).metadata if self.flag.kind else self.field.metadata
        named = [(word, getattr(part, name, None)) for part in metadata for name, word in _BOUNDS.items()]
        return [f"{word} {bound}" for word, bound in named if bound is not None]

    @property
    def _kinds(self) -> list[Any]:
        whole = self.flag.kind or self.field.annotation
        return _kinds(get_args(whole)[0] if self.is_repeatable else whole)

    def parse(self, value: str | bool | Sequence[str]) -> Any:
        """The value of the key, validated by its field.

        Args:
            value: What stands on the command line: a text, True or False for a switch, texts for a repeatable flag.

        Returns:
            A value that the configuration accepts.

        Raises:
            UsageError: The field refuses it, in a sentence that names the flag and the text.
        """
        if self.flag.words is not None and isinstance(value, str):
            if value not in self.flag.words:
                raise unknown_name(self.parameter, value, self.flag.words)
            return self.flag.words[value]
        constraints = [item for item in self.field.metadata if not isinstance(item, Flag)]
        kind: Any = Annotated[(self.field.annotation, *constraints)] if constraints else self.field.annotation
        try:
            return TypeAdapter(self.flag.kind or kind).validate_python(value)
        except ValidationError as fault:
            error = fault.errors()[0]
        if isinstance(value, str | bool):
            text: str | bool = value
        else:  # of one of the texts, or of all together
            text = value[int(error["loc"][0])] if error["loc"] else ", ".join(value)
        flag = f"{self.names[0]} ({self.key})" if "." in self.key else self.names[0]
        message = str(error["msg"]).rstrip(".")
        if error["type"] == "literal_error":
            raise unknown_name(f"value of {flag}", str(text), self.choices)
        if message.startswith("Input should"):
            raise UsageError(f"{flag} {text!r}{message.removeprefix('Input')}.")
        raise UsageError(f"{flag} {text!r}: {message.removeprefix('Value error, ')}.")

    def spell(self, value: Any) -> list[str] | None:
        """The words of a command line that set the key.

        Args:
            value: The value as JSON has it.

        Returns:
            The words, None when the flag cannot say the value.
        """
        if self.flag.words is not None:
            return None
        if self.is_switch:
            return self.names[:1] if value else self.names[1:] or None
        if self.is_repeatable:
            items = [item["path"] if isinstance(item, Mapping) else str(item) for item in value]
            return [word for item in items for word in (self.names[0], item)]
        if isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
            return None
        if isinstance(value, list):
            return [self.names[0], ",".join(json.dumps(number) for number in value)]
        return [self.names[0], value if isinstance(value, str) else json.dumps(value)]


def flags_of(model: type[BaseModel], keys: Sequence[str] = ("",), *, prefix: str = "") -> list[KeyFlag]:
    """The flags declared in a model of the configuration and in the tables within it.

    Args:
        model: A pydantic model whose fields may carry `Flag`s.
        keys: Dotted keys and tables to choose from them; "" stands for all.
        prefix: The tables that the model itself lies in, as "topics.backdoor".

    Returns:
        The flags, in the order of `keys` and within a table in the order of its fields.

    Raises:
        ValueError: A key of `keys` has no flag, nor has a key below it.
    """
    declared = list(_declared(model, f"{prefix}." if prefix else ""))
    selected: list[KeyFlag] = []
    for key in keys:
        below = [item for item in declared if not key or item.key == key or item.key.startswith(f"{key}.")]
        if not below:
            raise ValueError(f"No key of {model.__name__} at {key!r} has a flag.")
        selected += [item for item in below if item not in selected]
    return selected


def _declared(model: type[BaseModel], prefix: str) -> Iterator[KeyFlag]:
    for name, field in model.model_fields.items():
        yield from (KeyFlag(prefix + name, item, field) for item in field.metadata if isinstance(item, Flag))
        for kind in _kinds(field.annotation):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from _declared(kind, f"{prefix}{name}.")


def _kinds(annotation: Any) -> list[Any]:
    """The members of a union that are not None, without the `Annotated` around them; the annotation when it is none."""
    if get_origin(annotation) is Annotated:
        return _kinds(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [kind for member in get_args(annotation) if member is not type(None) for kind in _kinds(member)]
    return [annotation]
