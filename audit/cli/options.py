"""The parameters of commands: flags read from the configuration's fields, and the few that stand for no key."""

from __future__ import annotations

import inspect
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import BaseModel
from rich.markup import escape
from typer.models import OptionInfo

from audit.cli.faults import require_current_folder
from audit.cli.terminal import command_context, document_alone
from audit.config import PRESETS, RunConfig
from audit.config.flags import KeyFlag, flags_of
from audit.config.values import seconds
from audit.core.errors import UsageError, unknown_name

AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.", rich_help_panel="Output")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Errors only.", rich_help_panel="Output")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="More detail; tracebacks.", rich_help_panel="Output")]
NoColor = Annotated[bool, typer.Option("--no-color", help="Plain text.", rich_help_panel="Output")]
OUTPUT: Mapping[str, Any] = {"as_json": AsJson, "quiet": Quiet, "verbose": Verbose, "no_color": NoColor}
"""Parameters of every command, by the argument of `command_context` that each is."""

ConfigFile = Annotated[
    Path | None, typer.Argument(help="An audit.toml; flags go over it, a preset under it.", show_default=False)
]
Run = Annotated[Path, typer.Argument(help="A run folder, or its audit.json.")]
Runs = Annotated[Path, typer.Argument(help="A folder that holds run folders, at most four levels down.")]
Out = Annotated[Path, typer.Option("--out", help="The run folder: document, report, models, store.")]
Within = Annotated[
    str | None,
    typer.Option(
        "--within",
        help="End after this long with a whole report: 90s, 10m, 2h. The same command goes on from it.",
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="Any configuration key: --set explanations.examples=8. Repeatable."),
]

Command = Callable[..., None]


def command(
    *keys: str, without: Sequence[str] = (), any_key: bool = False, model: type[BaseModel] = RunConfig
) -> Callable[[Command], Command]:
    """A decorator that makes a command of a function: it adds flags, and opens a terminal to print to.

    The function has a parameter `terminal` (a `Terminal`) and, with `keys`, a parameter `overrides`: the keys that the
    flags set, as the nested mapping that `load_config` takes. Its other parameters are the command's as they stand.
    Errors of the package that it raises end the command with a sentence and their exit code.

    Args:
        *keys: Keys and tables of the configuration whose flags the command takes, as "data" or "robustness.norm".
        without: Keys among them whose flags it does not take.
        any_key: Whether it also takes `--set KEY=VALUE`.
        model: The configuration.
    """
    flags = [item for item in flags_of(model, keys) if item.key not in without] if keys else []
    by_parameter: dict[str, KeyFlag] = {}
    for item in flags:
        if item.parameter not in by_parameter or (item.flag.help and not by_parameter[item.parameter].flag.help):
            by_parameter[item.parameter] = item
    added = [_parameter(item) for item in by_parameter.values()]
    added += [_optional("settings", Set)] if any_key else []
    output = [inspect.Parameter(name, _KEYWORD, default=False, annotation=kind) for name, kind in OUTPUT.items()]

    def decorate(function: Command) -> Command:
        signature = inspect.signature(function, eval_str=True)
        stated = [item for item in signature.parameters.values() if item.name not in ("terminal", "overrides")]
        arguments = [item.replace(kind=_KEYWORD) for item in stated if not _is_option(item)]
        options = [item.replace(kind=_KEYWORD) for item in stated if _is_option(item)]

        def run_command(**values: Any) -> None:
            output = {name: values[name] for name in OUTPUT}
            with command_context(**output) as terminal, document_alone(terminal):
                require_current_folder()
                passed = {item.name: values[item.name] for item in stated}
                if keys:
                    passed["overrides"] = overrides(flags, values, values.get("settings"))
                function(terminal=terminal, **passed)

        signature = inspect.Signature([*arguments, *added, *options, *output])
        run_command.__name__, run_command.__doc__ = function.__name__, function.__doc__
        run_command.__module__, run_command.__annotations__ = function.__module__, {}
        run_command.__signature__ = signature  # type: ignore[attr-defined]
        return run_command

    return decorate


def overrides(
    flags: Iterable[KeyFlag], values: Mapping[str, Any], settings: Sequence[str] | None = None
) -> dict[str, Any]:
    """The configuration keys that a command line sets.

    Args:
        flags: The flags that the command takes.
        values: What the command line holds for each, by name of parameter; None or nothing where it was not given.
        settings: The texts after `--set`, each KEY=VALUE with the value in TOML. They go over the flags.

    Returns:
        A nested mapping.

    Raises:
        UsageError: A value is refused, two flags set one key, or a text after `--set` is not KEY=VALUE.
    """
    nested: dict[str, Any] = {}
    setters: dict[str, KeyFlag] = {}
    present = [item for item in flags if values.get(item.parameter) not in (None, [], ())]
    for item in present:
        value = values[item.parameter]
        words = {word for other in present if other.parameter == item.parameter for word in other.flag.words or ()}
        if words and value not in words:
            raise unknown_name(item.parameter, value, words)
        if words and value not in (item.flag.words or ()):
            continue
        if item.key in setters:
            both = f"{setters[item.key].names[0]} and {item.names[0]}"
            raise UsageError(f"{both} set the same key, {item.key}: give one of the two.")
        setters[item.key] = item
        _put(nested, item.key, item.parse(value))
    for setting in settings or ():
        key, equals, text = setting.partition("=")
        if not equals:
            raise UsageError(f"--set {setting!r} is not KEY=VALUE, as in --set explanations.examples=8.")
        _put(nested, key.strip(), _toml_value(text.strip()))
    return nested


def parse_duration(text: str | None, flag: str) -> float | None:
    """The seconds of a duration written as 90, 90s, 12m or 1.5h.

    Args:
        text: The duration; None where the flag was not given.
        flag: The flag, for the error.

    Raises:
        UsageError: The text is no duration.
    """
    try:
        return None if text is None else float(seconds(text))
    except ValueError as fault:
        raise UsageError(f"{flag} {text!r}: {fault}.") from None


_KEYWORD = inspect.Parameter.KEYWORD_ONLY


def _is_option(parameter: inspect.Parameter) -> bool:
    return any(isinstance(item, OptionInfo) for item in getattr(parameter.annotation, "__metadata__", ()))


def _optional(name: str, annotation: Any) -> inspect.Parameter:
    return inspect.Parameter(name, _KEYWORD, default=None, annotation=annotation)


def _parameter(item: KeyFlag) -> inspect.Parameter:
    """The parameter of a command that a flag is: its value stays text, which the field of its key validates."""
    table = item.key.rpartition(".")[0]
    option = typer.Option(
        item.flag.name,
        help=escape(_help(item)),
        metavar=item.metavar,
        show_default=_default(item) or False,
        rich_help_panel=table.capitalize() if table else "Run",
    )
    kind = bool if item.is_switch else list[str] if item.is_repeatable else str
    return _optional(item.parameter, Annotated[kind | None, option])


def _help(item: KeyFlag) -> str:
    """The sentence of the flag, with the bounds of its field."""
    text = item.flag.help or item.field.description or ""
    if not item.flag.help and text.split(",")[0] not in (str(item.field.default), item.flag.default):
        text = text[:1].upper() + text[1:]
    return f"{text.rstrip('.')}{'; ' if item.bounds else ''}{', '.join(item.bounds)}."


def _default(item: KeyFlag) -> str:
    """The default for `--help`; "" where a preset changes it, or where there is none to speak of."""
    if item.flag.default is not None:
        return item.flag.default
    value = item.field.default
    table, _, name = item.key.rpartition(".")
    if any(name in preset.get(table, {}) for preset in PRESETS.values()):
        return ""
    if isinstance(value, bool):
        return item.names[0 if value else -1].strip("-") if len(item.names) > 1 else ""
    return str(value) if isinstance(value, str | int | float) else ""


def _put(nested: dict[str, Any], key: str, value: Any) -> None:
    *sections, last = key.split(".")
    for section in sections:
        nested = nested.setdefault(section, {})
        if not isinstance(nested, dict):
            raise UsageError(f"--set {key}: {section!r} is a value, not a table.")
    nested[last] = value


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
