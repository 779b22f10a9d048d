"""Where the cells of a run are computed, and in which order: in this process, in several, or on a Ray cluster."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from audit.config import RunConfig
from audit.core.errors import UsageError
from audit.execution.agenda import CellOrder
from audit.execution.local import LocalExecutor
from audit.execution.parallel import ParallelExecutor
from audit.execution.runner import Executor, RunCallback
from audit.execution.workers import WorkerPool
from audit.models.architecture import ZOO
from audit.planning.expectation import TaskCost, expect_costs
from audit.planning.plan import AuditPlan, Task
from audit.report.warm_up import warm_up
from audit.runs.clock import RunClock, pass_cost
from audit.runs.folder import RunFolder
from audit.runs.forked_worker import can_fork
from audit.runs.probe import learn_costs
from audit.runs.process_pool import ProcessPool
from audit.runs.run_setup import RunSetup
from audit.runs.validation import wants_tensorboard
from audit.runs.worker import WorkerOrder
from audit.training.distributed import launched_by_torchrun

if TYPE_CHECKING:
    from audit.runs.ray_actors import RayActors

WORKERS = 2
"""Workers of a small run: the two trainings follow each other, and more would wait for them."""
_FEW_IMAGES = 10_000


@dataclass(frozen=True)
class Engine:
    """How a plan is computed.

    Attributes:
        executor: Computes the cells.
        order: In which order they begin.
        cost: What a cell costs, in any unit.
    """

    executor: Executor
    order: CellOrder
    cost: Callable[[Task], float]


def suited_jobs(setup: RunSetup) -> int | None:
    """How many workers suit a run of which nothing says it: two on two or three cores where a small net is trained.

    The hardened model is then trained while the other is audited, and no thread waits for another: a net of the zoo
    gains less from a second thread than such a run from a second worker. Where there are many images to learn from,
    training takes most of the time, and gains from threads.

    Args:
        setup: Data, model and device.

    Returns:
        The number; None for this process alone.
    """
    asked, config, train = setup.requested or setup.config, setup.config, setup.dataset.train
    shared = launched_by_torchrun() or max(config.training.nproc, config.hardening.nproc) > 1
    if asked.jobs is not None or asked.engine != "in-process" or shared:
        return asked.jobs
    trains = setup.loaded is None and config.hardening.enabled and config.model.architecture in ZOO
    few = train is not None and train.objects is None and len(train) <= _FEW_IMAGES
    fits = can_fork(torch.get_num_threads() // WORKERS, setup.device.type)
    return WORKERS if trains and few and fits else None


def open_pool(
    setup: RunSetup, plan: AuditPlan, folder: RunFolder, *, actors: RayActors | None = None, forks: bool = False
) -> WorkerPool | None:
    """The workers that the configuration asks for; to be closed.

    Args:
        setup: Data, model and device.
        plan: The plan.
        folder: The run folder, which need not exist.
        actors: Of Ray, where the configuration asks for it.
        forks: Whether workers may begin as copies of this process.

    Returns:
        The pool; None where the run is computed in this process.

    Raises:
        UsageError: A training is to be shared by more workers than there are, or torchrun has started processes
            already.
    """
    pool = _pool(setup, folder, actors, forks=forks)
    if pool is not None:
        try:
            _require_workers(plan, pool)
        except UsageError:
            pool.close()
            raise
    return pool


def _pool(setup: RunSetup, folder: RunFolder, actors: RayActors | None, *, forks: bool) -> WorkerPool | None:
    requested = setup.requested or setup.config
    if launched_by_torchrun() and (requested.engine != "in-process" or requested.jobs not in (None, 1)):
        raise UsageError(
            "torchrun has started the processes that train together, and --jobs or --engine would start workers of "
            "the run: leave them out, or start audit without torchrun and give --nproc."
        )
    order = WorkerOrder.of(setup, folder.store.root, _event_files(setup, folder))
    if actors is not None:
        from audit.runs.ray_pool import RayPool

        return RayPool(order, actors)
    if requested.jobs is None or requested.jobs == 1:
        return None
    return ProcessPool(order, requested.jobs, _cards(requested), forks=forks)


def _require_workers(plan: AuditPlan, pool: WorkerPool) -> None:
    """Refuse a training that wants more workers than there are: it would wait for them for ever."""
    wanted, most = max((task.processes for task in plan.tasks), default=1), pool.most_together
    if wanted > most:
        fewer = 1 << (most.bit_length() - 1)
        each = " with a GPU each" if most < pool.size else ""
        raise UsageError(
            f"{wanted} workers are to train together, and this run has {most}{each}: give --nproc {fewer}, or more "
            "workers."
        )


def choose_engine(
    folder: RunFolder,
    setup: RunSetup,
    plan: AuditPlan,
    callback: RunCallback,
    clock: RunClock,
    pool: WorkerPool | None = None,
) -> Engine:
    """How a plan is computed.

    Args:
        folder: The run folder.
        setup: Data, model and device.
        plan: The plan.
        callback: Called as the run goes on.
        clock: Says when the run ends.
        pool: The workers; None to compute in this process.
    """
    local = LocalExecutor(
        dataset=setup.dataset,
        store=folder.store,
        seed=setup.config.seed,
        device=setup.device,
        fresh=setup.new_module,
        loaded=setup.model_factory(),
        callback=callback,
        stopping=lambda: bool(clock.cut_by()),
        tensorboard=_event_files(setup, folder),
    )
    executor = local if pool is None else ParallelExecutor(pool, local.layouts, callback, clock.cut_by, warm_up)
    if clock.limited:
        return Engine(executor, "least first", pass_cost(setup.subject))
    if pool is None:
        return Engine(executor, "waves", lambda task: 0.0)
    return Engine(executor, "longest first", _expected_seconds(folder, setup, plan))


def _event_files(setup: RunSetup, folder: RunFolder) -> Path | None:
    return folder.models if wants_tensorboard(setup.config) else None


def _cards(config: RunConfig) -> Sequence[str]:
    """The NVIDIA cards that workers of this machine share out, as CUDA_VISIBLE_DEVICES names them."""
    if config.device not in ("auto", "cuda") or not torch.cuda.is_available():
        return ()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return visible.split(",") if visible else [str(card) for card in range(torch.cuda.device_count())]


def _expected_seconds(folder: RunFolder, setup: RunSetup, plan: AuditPlan) -> Callable[[Task], float]:
    """What a cell takes; measured when it is asked first, as a model may be made meanwhile."""

    @cache
    def expected() -> Mapping[str, TaskCost]:
        return expect_costs(plan.tasks, setup.subject, learn_costs(setup, plan, folder.store, probe=False)).by_task

    def seconds(task: Task) -> float:
        cost = expected().get(task.cell.key)
        return float("inf") if cost is None else cost.seconds / task.processes

    return seconds
