"""Studies that stop when they know: the runner, the agenda and the findings, over evidence made up by rule."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from audit.config import RunConfig, load_config
from audit.core.errors import Interrupted
from audit.core.evidence import Evidence, Finding, Measurement
from audit.execution.agenda import CellOrder
from audit.execution.runner import RunCallback, run_plan
from audit.planning.build import build_plan
from audit.planning.plan import Task
from audit.planning.run_identity import RunIdentity
from audit.planning.steps import study_steps
from audit.results.run_checks import run_checks
from audit.results.run_results import RunResults
from audit.results.stopping import ending, look_at
from audit.storage.store import Store
from audit.topics.robustness.facts import RobustnessFacts, RobustnessSettings

SUBJECT = RunIdentity(("a", "b"), (1, 28, 28), "test-pixels", 2000, "cnn-28", "train-pixels", 300, loaded="file:abc")
ATTACKED, CORRUPTED = ("robustness", "standard"), ("corruption", "standard")


def truth(role: str, share: float) -> np.ndarray:
    """Whether each image of the audit order is robust; the share holds from the first few images on."""
    turn = np.floor(np.arange(1, 2001) * share) - np.floor(np.arange(2000) * share)
    return turn.astype(np.float64)


class MadeExecutor:
    """Answers attacks, corruptions and accuracy by rule, all else as not applicable; stops where it is told to."""

    def __init__(self, robust: Mapping[str, float], cells: float = float("inf"), fall: float = 0.05) -> None:
        self.robust, self.fall, self.cells = robust, fall, cells
        self.computed: list[Task] = []

    def compute(self, next_task: Callable[[], Task | None]) -> Generator[tuple[Task, Evidence], None, None]:
        while task := next_task():
            if len(self.computed) >= self.cells:
                raise Interrupted("Stopped.")
            self.computed.append(task)
            yield task, self.evidence(task)

    def evidence(self, task: Task) -> Evidence:
        part, cell = slice(task.examples.start, task.examples.stop), task.cell
        if cell.study == "robustness":
            robust = truth(task.role, self.robust[task.role])[part]
            eps = RobustnessSettings.of(cell).eps
            return Evidence(
                cell,
                "measured",
                (Measurement("robust", "share", "higher", robust),),
                arrays={"robust": np.tile(robust, (len(eps), 1)).astype(np.uint8), "minimal_eps": robust},
                facts=RobustnessFacts(norm="linf", eps=eps, headline=cell.threat["eps"]).dump(),
            )
        if cell.study in ("accuracy", "corruption"):
            right = 1.0 if cell.study == "accuracy" else 1 - self.fall
            return Evidence(cell, "measured", (Measurement("correct", "share", "higher", truth("", right)[part]),))
        return Evidence(cell, "not_applicable", reason="Made up.")


def configured(**changes: Any) -> RunConfig:
    return load_config(overrides={"hardening": {"enabled": False}, **changes})


def ran(config: RunConfig, folder: Path, executor: MadeExecutor, **options: Any) -> RunResults:
    return run_plan(build_plan(config, SUBJECT), Store(folder), executor, RunCallback(), config, **options)


def taken(results: RunResults, study: tuple[str, str]) -> int:
    return sum(len(e.task.examples) for e in results.entries(study[0], role=study[1], method=None)) // (
        1 if study[0] == "robustness" else 20
    )


def ended(results: RunResults, config: RunConfig) -> dict[tuple[str, str], str]:
    return {(s.study, s.role): ending(results, s, config) for s in study_steps(results.plan)}


def robust_finding(results: RunResults, config: RunConfig) -> Finding:
    (finding,) = [f for f in run_checks(results, config) if f.check == "robust-accuracy"]
    return finding


@pytest.mark.parametrize(
    ("share", "images", "verdict", "end"),
    [
        (0.1, 64, "fail", "decided"),
        (0.9, 64, "pass", "decided"),
        (0.56, 144, "pass", "decided"),
        (0.47, 500, "pass", "all"),
        (0.42, 500, "inconclusive", "all"),
    ],
)
def test_a_study_stops_at_the_look_that_decides_its_check(
    share: float, images: int, verdict: str, end: str, tmp_path: Path
) -> None:
    config = configured()
    results = ran(config, tmp_path, MadeExecutor({"standard": share}))
    assert taken(results, ATTACKED) == images
    assert ended(results, config)[ATTACKED] == end
    finding = robust_finding(results, config)
    assert (finding.verdict, finding.n) == (verdict, images)
    assert str(images) in str(finding.stopping)
    assert results.complete and not results.unfinished
    assert look_at(results, *ATTACKED) == ("last" if end == "all" else "early")


def test_a_precision_is_reached_before_the_study_stops(tmp_path: Path) -> None:
    for precision, images in ((0.2, 64), (0.1, 216), (0.01, 500)):
        config = configured(stop=precision)
        results = ran(config, tmp_path / str(precision), MadeExecutor({"standard": 0.1}))
        assert taken(results, ATTACKED) == images
        finding = robust_finding(results, config)
        assert finding.interval is not None and finding.estimate is not None
        reach = finding.interval[1] - finding.estimate
        assert reach <= precision if ended(results, config)[ATTACKED] == "precise" else images == 500


def test_a_precision_does_not_stop_what_is_undecided(tmp_path: Path) -> None:
    results = ran(configured(stop=0.3), tmp_path, MadeExecutor({"standard": 0.47}))
    assert taken(results, ATTACKED) == 500


def test_all_takes_all_and_keeps_the_interval_of_fixed_n(tmp_path: Path) -> None:
    config = configured(stop="all", robustness={"examples": 1100})
    results = ran(config, tmp_path, MadeExecutor({"standard": 0.1}))
    assert taken(results, ATTACKED) == 1100 and look_at(results, *ATTACKED) == "only"
    assert not robust_finding(results, config).stopping


def test_corruptions_stop_when_the_fall_is_decided(tmp_path: Path) -> None:
    config = configured()
    for fall, images in ((0.0, 64), (0.1, 216), (0.19, 500)):
        results = ran(config, tmp_path / str(fall), MadeExecutor({"standard": 0.1}, fall=fall))
        assert taken(results, CORRUPTED) == images, fall


def test_what_the_store_holds_besides_changes_nothing(tmp_path: Path) -> None:
    """A run that stops early is the same after one that took more images into the same store."""
    once = ran(configured(), tmp_path / "fresh", MadeExecutor({"standard": 0.1}))
    ran(configured(stop=0.01), tmp_path / "used", MadeExecutor({"standard": 0.1}))
    again = MadeExecutor({"standard": 0.1})
    assert ran(configured(), tmp_path / "used", again).evidence.keys() == once.evidence.keys()
    assert not again.computed


def size(task: Task) -> float:
    return float(len(task.examples))


@pytest.mark.parametrize("order", get_args(CellOrder))
def test_a_run_cut_ten_times_ends_as_one_that_ran_through(order: CellOrder, tmp_path: Path) -> None:
    config = configured(hardening={"enabled": True})
    robust = {"standard": 0.1, "hardened": 0.5}
    through = MadeExecutor(robust)
    through.evidence = with_model(through.evidence)  # type: ignore[method-assign]
    whole = ran(config, tmp_path / "through", through)
    pieces = []
    for _ in range(10):
        executor = MadeExecutor(robust, cells=len(through.computed) / 11)
        executor.evidence = with_model(executor.evidence)  # type: ignore[method-assign]
        results = ran(config, tmp_path / "cut", executor, order=order, cost=size, cut_by=lambda: "time")
        assert results.cut_by == "time" and not results.complete and results.unfinished
        pieces += executor.computed
    last = MadeExecutor(robust)
    last.evidence = with_model(last.evidence)  # type: ignore[method-assign]
    results = ran(config, tmp_path / "cut", last, order=order, cost=size)
    pieces += last.computed
    assert results.evidence.keys() == whole.evidence.keys() and results.unneeded == whole.unneeded
    assert sorted(t.cell.key for t in pieces) == sorted(t.cell.key for t in through.computed), "nothing twice"
    assert run_checks(results, config) == run_checks(whole, config)


def with_model(evidence: Callable[[Task], Evidence]) -> Callable[[Task], Evidence]:
    """The training of a model is measured too."""
    return lambda task: Evidence(task.cell, "measured") if task.cell.study == "training" else evidence(task)


def test_a_run_whose_time_may_end_begins_with_the_least_of_everything(tmp_path: Path) -> None:
    config, executor = configured(), MadeExecutor({"standard": 0.5})
    ran(config, tmp_path, executor, order="least first", cost=lambda task: float(task.cell.method == "lime"))
    studies = [(task.cell.study, task.examples.start > 0) for task in executor.computed]
    first_later = next(i for i, (study, later) in enumerate(studies) if later and study in ("robustness", "corruption"))
    assert not any(study in ("robustness", "corruption") and not later for study, later in studies[first_later:])
    assert all(study in ("robustness", "corruption") for study, _ in studies[first_later:])
    explained = [i for i, (study, _) in enumerate(studies) if study == "explanation"]
    assert explained[0] > max(i for i, (study, later) in enumerate(studies) if study == "corruption" and not later)
    methods = [executor.computed[i].cell.method for i in explained]
    assert methods[-1] == "lime"


@pytest.mark.parametrize("stop", ["decides", 0.02, "all"])
def test_a_run_that_was_cut_passes_nothing_and_says_so(stop: object, tmp_path: Path) -> None:
    """At every cell that it may be cut at, its findings are those of the whole run, or inconclusive."""
    config = configured(stop=stop, robustness={"examples": 1100})
    robust = {"standard": 0.55}
    whole = MadeExecutor(robust)
    final = robust_finding(ran(config, tmp_path / "whole", whole), config)
    assert final.verdict == "pass"
    attacks = [i + 1 for i, task in enumerate(whole.computed) if task.cell.study == "robustness"]
    verdicts = []
    for cells in attacks:
        executor = MadeExecutor(robust, cells=cells)
        results = ran(config, tmp_path / str(cells), executor, cut_by=lambda: "user")
        finding = robust_finding(results, config)
        verdicts.append(finding.verdict)
        if finding.verdict == "inconclusive":
            assert "nothing passes on them yet" in str(finding.stopping)
            assert "robustness" in {task.cell.study for task in results.unfinished}
            assert ended(results, config)[ATTACKED] == "unfinished"
        assert not results.complete
    assert verdicts == ["inconclusive"] * (len(attacks) - 1) + ["pass"]
