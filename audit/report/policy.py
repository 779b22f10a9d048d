"""The policy of a gate: the severity of each check in a pipeline, and thresholds on the bounds of its interval."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from audit.config.loading import line_of_key
from audit.core.errors import UsageError, unknown_name
from audit.core.evidence import Verdict
from audit.core.registry import methods
from audit.core.statistics import Interval
from audit.core.topic import current_name
from audit.results.check_result import at_least, at_most

Level = Literal["off", "warn", "error"]
PolicyOutcome = Literal["off", "note", "warn", "error"]


class Rule(BaseModel):
    """What the findings of one check do to a pipeline. `minimum` applies to the lower bound, `maximum` to the upper
    one."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    level: Level = Field("error", description="what a failing finding does")
    inconclusive: Level = Field("warn", description="what a finding that cannot be told does")
    minimum: float | None = Field(None, description="the least the lower bound may be, in place of the run's")
    maximum: float | None = Field(None, description="the most the upper bound may be, in place of the run's")
    roles: tuple[str, ...] = Field((), description="the models it speaks of; all when empty")

    def verdict(self, run_verdict: Verdict, interval: Interval | None, *, weak_evidence: bool) -> Verdict:
        """The verdict under the thresholds of this rule.

        Args:
            run_verdict: The verdict of the run, which stands where the rule has no threshold.
            interval: The interval of the finding; None where it has none.
            weak_evidence: Whether the run doubts its own evidence; the finding then never passes a threshold.
        """
        if interval is None or (self.minimum is None and self.maximum is None):
            return run_verdict
        verdicts = [at_least(interval, self.minimum)] if self.minimum is not None else []
        verdicts += [at_most(interval, self.maximum)] if self.maximum is not None else []
        if "fail" in verdicts:
            return "fail"
        return "inconclusive" if weak_evidence or "inconclusive" in verdicts else "pass"

    def outcome(self, verdict: Verdict, role: str) -> PolicyOutcome:
        """What a finding does to the gate.

        Args:
            verdict: Its verdict under this rule.
            role: Role of the model it is about.
        """
        if self.roles and role not in self.roles:
            return "off"
        if verdict == "fail":
            return self.level
        if verdict in ("inconclusive", "not_run"):
            return self.inconclusive
        if verdict == "warn":
            return "off" if self.level == "off" else "warn"
        return "note"


class Policy(BaseModel):
    """A rule per check, and one for all others.

    Attributes:
        default: The rule of checks without one.
        checks: By check, its rule; former names of checks are replaced by present ones.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    default: Rule = Rule()
    checks: dict[str, Rule] = Field(default_factory=dict)

    @field_validator("checks")
    @classmethod
    def _current_names(cls, checks: dict[str, Rule]) -> dict[str, Rule]:
        former = {current_name(name): rule for name, rule in checks.items()}
        return former | {name: rule for name, rule in checks.items() if name in former}

    def rule(self, check: str) -> Rule:
        """The rule of a check.

        Args:
            check: Present name of the check.
        """
        return self.checks.get(check, self.default)


def load_policy(path: Path) -> tuple[Policy, str]:
    """Read a policy.

    Args:
        path: A TOML file.

    Returns:
        The policy with the text of its file.

    Raises:
        UsageError: The file cannot be read, is no TOML, or names an unknown check or key; the message says which.
    """
    try:
        text = path.read_text(encoding="utf-8")
        policy = Policy.model_validate(tomllib.loads(text))
    except OSError as fault:
        raise UsageError(f"Cannot read the policy {path}: {fault.strerror}. Give a TOML file.") from fault
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as fault:
        raise UsageError(f"The policy {path} is not valid TOML: {fault}.") from None
    except ValidationError as fault:
        raise _explain(path, text, fault) from None
    checks = [method.name for method in methods("check")]
    for name in policy.checks:
        if name not in checks:
            raise UsageError(f"{path}, line {line_of(text, name)}: {unknown_name('check', name, checks)}")
    return policy, text


def line_of(text: str, check: str) -> int:
    """The line of a policy file that holds the rule of a check, under its present or a former name.

    Args:
        text: The policy file's text.
        check: Present name of a check.

    Returns:
        The line, from 1; that of the default rule where the check has none, else 1.
    """
    lines = text.splitlines()
    headers = [re.match(r"\s*\[\s*(?:checks\s*\.\s*[\"']?([\w-]+)[\"']?|default)\s*\]", line) for line in lines]
    for name in (check, None):
        for number, header in enumerate(headers, start=1):
            if header and (current_name(header[1]) if header[1] else None) == name:
                return number
    return 1


def _explain(path: Path, text: str, fault: ValidationError) -> UsageError:
    first = fault.errors()[0]
    location = [str(part) for part in first["loc"]]
    line = line_of_key(text, location)
    at = f"{path}, line {line}" if line else f"The policy {path}"
    if first["type"] == "extra_forbidden":
        known = Rule.model_fields if len(location) > 1 else Policy.model_fields
        return UsageError(f"{at}: {'.'.join(location)}: {unknown_name('key', location[-1], known)}")
    message = str(first["msg"]).rstrip(".")
    return UsageError(f"{at}: {'.'.join(location)}: {message}, but {first['input']!r} was given.")
