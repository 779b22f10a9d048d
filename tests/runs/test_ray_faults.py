"""A worker on Ray that cannot start says why, in Ray's own last words. Nothing here starts Ray."""

from __future__ import annotations

import traceback
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from audit.core.errors import one_line
from audit.execution.workers import Lost
from audit.runs.ray_faults import cause_of
from audit.runs.ray_pool import RayPool

ray = pytest.importorskip("ray")
generated = pytest.importorskip("ray.core.generated.common_pb2")


def died_at_start(cause: Exception, *, text: str = "") -> Any:
    """What Ray raises where the constructor of an actor did."""
    task = ray.exceptions.RayTaskError(
        "RayWorker.__init__",
        text or "".join(traceback.format_exception(cause)),
        cause,
        proctitle="ray::RayWorker.__init__",
        pid=7,
        ip="127.0.0.1",
        actor_repr="<RayWorker>",
        actor_id="ab",
    )
    return ray.exceptions.ActorDiedError(task)


def raised(fault: Exception) -> Exception:
    try:
        raise fault
    except Exception as caught:
        return caught


IMPORT_FAILED = (
    "The actor with name RayWorker failed to import on the worker. This may be because needed library dependencies "
    'are not installed in the worker environment:\n\nTraceback (most recent call last):\n  File "ray/loads.py", line '
    "9, in loads\n    return loads(\nModuleNotFoundError: No module named 'audit'"
)


@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        (died_at_start(raised(OSError("disk full.\nSecond line"))), "OSError: disk full"),
        (died_at_start(raised(RuntimeError(IMPORT_FAILED))), "ModuleNotFoundError: No module named 'audit'"),
        (
            died_at_start(
                ValueError("x"),
                text='Traceback (most recent call last):\n  File "a.py", line 1, in f\n    f()\n    ^^^\n'
                "audit.core.errors.SetupError: The GPU is gone: wait.\n  a hint\n",
            ),
            "SetupError: The GPU is gone: wait",
        ),
        (
            ray.exceptions.ActorDiedError(
                generated.ActorDiedErrorContext(
                    class_name="RayWorker", actor_id=bytes(16), pid=7, error_message="The worker's memory ran out."
                )
            ),
            "The worker's memory ran out",
        ),
        (ray.exceptions.ActorDiedError(), "The actor died unexpectedly before finishing this task"),
    ],
    ids=["raised", "not-imported", "own-error", "process-gone", "unknown"],
)
def test_the_last_cause_of_what_ray_says_is_told(fault: Exception, cause: str) -> None:
    assert cause_of(fault) == cause


def test_codes_that_colour_a_terminal_are_left_out() -> None:
    fault = died_at_start(raised(OSError("disk full")))
    assert "\x1b[36m" in str(fault), "Ray colours the name of the actor"
    assert one_line(fault).startswith("The actor died because of an error raised in its creation task, ray::RayWorker.")


def test_a_worker_that_cannot_start_is_lost_with_its_cause(tmp_path: Path) -> None:
    answer: Future[Any] = Future()
    handle = SimpleNamespace(set_up=SimpleNamespace(remote=lambda order: SimpleNamespace(future=lambda: answer)))
    killed: list[object] = []
    actors: Any = SimpleNamespace(
        ray=SimpleNamespace(exceptions=ray.exceptions, kill=killed.append), size=1, take=lambda: handle
    )
    order: Any = SimpleNamespace(store=tmp_path)
    pool = RayPool(order, actors)
    pool.start(0)
    answer.set_exception(died_at_start(raised(OSError("disk full"))))
    assert list(pool.events(5)) == [Lost(0, "OSError: disk full")] and killed == [handle]
