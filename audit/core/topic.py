"""Topics: the questions that a run asks about a model, each in a folder of its own, and how they are discovered."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from pkgutil import iter_modules
from types import ModuleType
from typing import Any

from pydantic import BaseModel

from audit.core.errors import SetupError, UsageError

PACKAGE = "audit.topics"
"""The package of the topics that ship, one subpackage each."""
ENTRY_POINTS = "audit.topics"
"""The entry-point group by which another distribution brings a topic: the value names a package that holds `TOPIC`."""


@dataclass(frozen=True)
class Topic:
    """One question of an audit: what it measures, where the report shows it and which configuration it has.

    A topic is a package whose `__init__` defines one value `TOPIC` and imports no torch. Its other files, each
    optional:

    - `plan.py`: `plan(builder, model)` adds the cells of one model, `plan_pair(builder, first, second)` those that
      compare two models, `plan_run(builder)` those without a model; `max_passes(task, identity)` is what a cell costs
      at most.
    - modules whose names end in `study` hold functions under `@study`; in `check`, functions under `@check`.
    - `section.py`: `build(results, context)` gives the rows of each document field.
    - `view.py`: `view(document, locale, findings)` gives what the template needs besides; `is_shown(document)` says
      whether the topic is in the report at all.
    - `section.html.j2` and `lead.html.j2`: its part of the report, below and above the findings. `strings.en.toml`,
      `strings.zh.toml`: its texts.

    Attributes:
        name: Lower-case words joined by underscores, as the package is called.
        section: Anchor of the report section it belongs to, which `--only` takes too.
        order: Position among the topics, in the plan and in the report; lower comes first.
        priority: Position of the findings of its section among those of equal severity; lower comes first.
        studies: By name of a study of this topic, the configuration keys that its cost depends on, for a reader.
        config: Model of its table `[name]` of the configuration; None when it has none.
        presets: By preset, values of that table that differ from its defaults.
        minimum: By dotted key, the least number of examples that still gives a meaningful result; `audit plan --within`
            reduces these keys and no others.
        document: By field of the audit document, the model of its rows.
        former_keys: By dotted configuration key of an earlier version, the key that replaced it.
        former_names: By study, check or document field of an earlier version, the name that replaced it.
        measures: Whether its measurements are also listed in the document's general table of measurements.
        package: Name of the Python package, filled in by `topics`.
    """

    name: str
    section: str
    order: int
    priority: int = 100
    studies: Mapping[str, str] = field(default_factory=dict)
    config: type[BaseModel] | None = None
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    minimum: Mapping[str, int] = field(default_factory=dict)
    document: Mapping[str, type[BaseModel]] = field(default_factory=dict)
    former_keys: Mapping[str, str] = field(default_factory=dict)
    former_names: Mapping[str, str] = field(default_factory=dict)
    measures: bool = False
    package: str = ""

    def module(self, name: str) -> ModuleType | None:
        """The topic's module `name`, imported.

        Args:
            name: Such as "plan" or "section".

        Returns:
            The module, or None when the topic has none of that name.
        """
        return importlib.import_module(f"{self.package}.{name}") if self.has(name) else None

    def has(self, name: str) -> bool:
        """Whether the topic has a module.

        Args:
            name: Such as "plan" or "section".
        """
        return importlib.util.find_spec(f"{self.package}.{name}") is not None

    def function(self, module: str, name: str) -> Callable[..., Any] | None:
        """A function of one of the topic's modules.

        Args:
            module: The module, such as "plan".
            name: The function, such as "plan_pair".

        Returns:
            The function, or None when the module or the function is not there.
        """
        imported = self.module(module)
        return getattr(imported, name, None) if imported else None

    def modules(self, ending: str) -> tuple[ModuleType, ...]:
        """The topic's modules whose names end in a word, imported.

        Args:
            ending: "study" or "check".
        """
        names = (module.name for module in iter_modules([str(self.folder)]))
        return tuple(importlib.import_module(f"{self.package}.{name}") for name in names if name.endswith(ending))

    @property
    def folder(self) -> Path:
        """The folder of the topic's files."""
        return Path(str(importlib.import_module(self.package).__file__)).parent


@cache
def topics() -> tuple[Topic, ...]:
    """Every topic, those that ship and those of other distributions, in order.

    Raises:
        SetupError: An entry point names a package that defines no `TOPIC`.
        UsageError: Two topics share a name or a document field.
    """
    shipped = [module.name for module in iter_modules(importlib.import_module(PACKAGE).__path__) if module.ispkg]
    packages = [f"{PACKAGE}.{name}" for name in shipped]
    declared = [_declared(package) for package in packages]
    for point in entry_points(group=ENTRY_POINTS):
        with naming_the_plugin(point):
            declared.append(_declared(point.value))
    _require_unique([(topic.name, topic.package) for topic in declared], "name")
    _require_unique([(name, topic.package) for topic in declared for name in topic.document], "document field")
    return tuple(sorted(declared, key=lambda topic: (topic.order, topic.name)))


@contextmanager
def naming_the_plugin(point: EntryPoint) -> Iterator[None]:
    """Turn any error of the block into one that names the distribution behind an entry point.

    Args:
        point: The entry point that is being loaded.

    Raises:
        SetupError: What it names cannot be imported, or is not what its group asks for.
    """
    try:
        yield
    except UsageError:
        raise
    except Exception as fault:
        source = point.dist.name if point.dist else "an installed package"
        raise SetupError(
            f"The plug-in {point.name!r} of {source} ({point.group}: {point.value}) cannot be loaded: "
            f"{type(fault).__name__}: {fault}. Mend that package or uninstall it."
        ) from fault


def sections() -> tuple[str, ...]:
    """The sections of the report that topics fill, in the order of the first topic of each."""
    return tuple(dict.fromkeys(topic.section for topic in topics() if topic.section))


def measured_sections() -> tuple[str, ...]:
    """The sections that a run can be restricted to: those whose topics plan something for a model."""
    return tuple(name for name in sections() if any(t.section == name and t.has("plan") for t in topics()))


def current_name(name: str) -> str:
    """What a study, a check or a document field is called now.

    Args:
        name: The name in this version or an earlier one.
    """
    return next((topic.former_names[name] for topic in topics() if name in topic.former_names), name)


def topic_of(study: str) -> Topic | None:
    """The topic that a study belongs to.

    Args:
        study: Name of a study, such as "attack-controls".

    Returns:
        The topic, or None where no topic names the study.
    """
    return next((topic for topic in topics() if study in topic.studies), None)


def _declared(package: str) -> Topic:
    topic = getattr(importlib.import_module(package), "TOPIC", None)
    if not isinstance(topic, Topic):
        raise SetupError(f"{package} is registered as a topic and holds no TOPIC; uninstall it or mend its __init__.")
    return replace(topic, package=package)


def _require_unique(names: list[tuple[str, str]], what: str) -> None:
    first: dict[str, str] = {}
    for name, package in names:
        if name in first:
            raise UsageError(f"Two topics have the {what} {name!r}: {first[name]} and {package}. Rename one.")
        first[name] = package
