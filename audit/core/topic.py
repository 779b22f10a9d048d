"""Topics: the questions that a run asks about a model, each in a folder of its own, and how they are discovered."""

from __future__ import annotations

import importlib
import importlib.util
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from pkgutil import iter_modules
from types import ModuleType
from typing import Any

from pydantic import BaseModel

from audit.core.errors import AuditError, SetupError, UsageError, fault_line
from audit.core.plugins import naming_the_plugin

log = logging.getLogger("audit")
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
      compare two models, `plan_run(builder)` those without a model; `max_passes(task, identity)` is what an image costs
      at most, `expected_passes(task, identity, experience)` what the whole cell should cost, where that differs;
      `foreseen(task, config, experience)` what a check of a study of `sequential` would read after the cell.
    - `stopping.py`: `readings(results, role, config)` gives what the checks of a study of `sequential` read.
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
        sequential: Studies that take images in growing steps and may stop before the last.
        stopping_reads: By study of `sequential`, the other studies whose evidence its `readings` read. One that is not
            listed is asked only once every other study of its wave has begun and given evidence.
        first_images: By study of another topic, the key of the number of its first images that this topic reads; they
            are then in one cell.
        document: By field of the audit document, the model of its rows.
        also_in: Further sections whose findings rest on it, and which `--only` therefore measures it for.
        averaged: Whether its studies ask a model that answers at random for the mean of several forwards each time.
        former_keys: By dotted configuration key of an earlier version, the key that replaced it.
        former_names: By study, check or document field of an earlier version, the name that replaced it.
        folded: Whether its part of the report is folded where another topic's lead opens the section.
        measures: Whether its measurements are also listed in the document's general table of measurements.
        task: What the models do that it asks about: "classification" or "detection".
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
    sequential: tuple[str, ...] = ()
    stopping_reads: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    first_images: Mapping[str, str] = field(default_factory=dict)
    document: Mapping[str, type[BaseModel]] = field(default_factory=dict)
    also_in: tuple[str, ...] = ()
    averaged: bool = False
    former_keys: Mapping[str, str] = field(default_factory=dict)
    former_names: Mapping[str, str] = field(default_factory=dict)
    folded: bool = False
    measures: bool = False
    task: str = "classification"
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

    def load_checks(self) -> str:
        """Import the topic's checks, so that they are registered.

        Returns:
            Why that failed, which is logged too; empty where it did not.
        """
        try:
            self.modules("check")
        except Exception as fault:
            reason = f"The checks of topic {self.name} ({self.package}) cannot be imported: {fault_line(fault)}."
            log.warning("%s They are left out.", reason)
            return reason
        return ""

    @property
    def folder(self) -> Path:
        """The folder of the topic's files."""
        return Path(str(importlib.import_module(self.package).__file__)).parent


@cache
def topics() -> tuple[Topic, ...]:
    """Every topic, those that ship and those of other distributions, in order.

    A topic of another distribution that cannot be used is left out with a warning, so that it spoils no finished run;
    a new run refuses it (`require_plugins`).
    """
    usable, faults = _discover()
    for fault in faults:
        log.warning("%s Until then its topic is left out.", fault)
    return usable


def require_plugins() -> None:
    """Refuse to go on where a topic of another distribution cannot be used.

    Raises:
        SetupError: An entry point names a package that cannot be imported or defines no `TOPIC`.
        UsageError: Two topics share a name or a document field.
    """
    for fault in _discover()[1]:
        raise fault


def _discover() -> tuple[tuple[Topic, ...], tuple[AuditError, ...]]:
    """The topics that can be used, in order, and why others cannot."""
    shipped = [module.name for module in iter_modules(importlib.import_module(PACKAGE).__path__) if module.ispkg]
    declared = [_declared(f"{PACKAGE}.{name}") for name in shipped]
    faults: list[AuditError] = []
    _require_unique(declared)
    for point in entry_points(group=ENTRY_POINTS):
        try:
            with naming_the_plugin(point):
                topic = _declared(point.value)
                _require_unique([*declared, topic])
                declared.append(topic)
        except AuditError as fault:
            faults.append(fault)
    return tuple(sorted(declared, key=lambda topic: (topic.order, topic.name))), tuple(faults)


def sections() -> tuple[str, ...]:
    """The sections of the report that topics fill, in the order of the first topic of each."""
    return tuple(dict.fromkeys(topic.section for topic in topics() if topic.section))


def measured_sections(task: str = "") -> tuple[str, ...]:
    """The sections that a run can be restricted to: those whose topics plan something for a model.

    Args:
        task: Those of this task alone; "" for all.
    """
    planned = {t.section for t in topics() if t.has("plan") and task in ("", t.task)}
    return tuple(name for name in sections() if name in planned)


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


def _require_unique(declared: Sequence[Topic]) -> None:
    names = [("name", topic.name, topic.package) for topic in declared]
    names += [("document field", name, topic.package) for topic in declared for name in topic.document]
    first: dict[tuple[str, str], str] = {}
    for what, name, package in names:
        if (what, name) in first:
            raise UsageError(f"Two topics have the {what} {name!r}: {first[what, name]} and {package}. Rename one.")
        first[what, name] = package
