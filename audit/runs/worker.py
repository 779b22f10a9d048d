"""What a worker is: it sets up the run's data and model by itself, makes sure they are the driver's, computes cells."""

from __future__ import annotations

import hashlib
import os
import platform
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

import audit
from audit.config import RunConfig, TrustConfig, run_config_type
from audit.core.errors import SetupError
from audit.core.evidence import Evidence
from audit.execution.local import LocalExecutor
from audit.execution.runner import RunCallback
from audit.execution.workers import EvidenceSource, Job
from audit.models.autotune import hand_over_layouts
from audit.models.files import sha256_of
from audit.models.precision import device_facts, processor_kind
from audit.planning.plan import Task
from audit.planning.run_identity import RunIdentity
from audit.runs.run_setup import RunSetup
from audit.runs.setup import set_up
from audit.storage.cache import cache_folder
from audit.training.distributed import WorkerGroup
from audit.training.meeting import meeting_at


@dataclass(frozen=True)
class WorkerOrder:
    """What a worker is started with; it pickles, and holds nothing of the data and the model but their identities.

    Attributes:
        config: The configuration as it was given, as JSON values, with the hashes of the code that may run.
        identity: Identities and sizes of data and model as the driver read them.
        machine: What must be the same where the worker runs, so that it gives the same bytes; see `machine_facts`.
        threads: CPU threads.
        folder: The working folder, which relative paths start from.
        cache: The cache folder of the driver.
        store: The store of the run folder; workers write unfinished cells there, where they see it, and nothing else.
        owner: What the run folder's owner file holds, by which a worker of another machine knows that it sees it.
        tensorboard: The folder for TensorBoard's event files; None where none are wanted.
    """

    config: Mapping[str, Any]
    identity: RunIdentity
    machine: Mapping[str, Any]
    threads: int
    folder: str
    cache: str
    store: Path
    owner: str
    tensorboard: Path | None = None

    @classmethod
    def of(cls, setup: RunSetup, store: Path, tensorboard: Path | None) -> WorkerOrder:
        """The order of a run that was set up here.

        Args:
            setup: The driver's.
            store: Root of the run's store.
            tensorboard: The folder for TensorBoard's event files.
        """
        config = setup.requested or setup.config
        trust = tuple(_as_vouched_for(entry, setup.trusted) for entry in config.model.trust)
        config = config.model_copy(update={"model": config.model.model_copy(update={"trust": trust})})
        return cls(
            config=config.model_dump(mode="json", exclude_unset=True),  # what was left alone is part of an identity
            identity=setup.subject,
            machine=machine_facts(setup.device),
            threads=torch.get_num_threads(),
            folder=os.getcwd(),
            cache=str(cache_folder().resolve()),
            store=store.resolve(),
            owner=str(os.getpid()),
            tensorboard=tensorboard.resolve() if tensorboard else None,
        )


class Worker:
    """Computes cells for a driver, one at a time.

    Raises:
        SetupError: Data, model, versions or machine are not those of the driver.
    """

    def __init__(self, order: WorkerOrder, evidence: EvidenceSource, progress: Callable[[int, int], None]) -> None:
        """Read data and model.

        Args:
            order: What to read, and what it must be.
            evidence: Where the evidence of inputs is.
            progress: Called with the steps done of a cell, and the steps in all.
        """
        os.environ["AUDIT_CACHE_DIR"] = order.cache
        torch.set_num_threads(order.threads)
        enter(order.folder)
        self._stop, self._threads = threading.Event(), order.threads
        config: RunConfig = run_config_type().model_validate(order.config)
        setup = set_up(config)
        require_same(order, setup)
        self._executor = LocalExecutor(
            dataset=setup.dataset,
            store=evidence,
            seed=setup.config.seed,
            device=setup.device,
            fresh=setup.new_module,
            loaded=setup.model_factory(),
            callback=_Progress(progress),
            stopping=self._stop.is_set,
            tensorboard=order.tensorboard,
        )

    def compute(self, job: Job) -> Evidence | None:
        """Compute a cell, alone or with others.

        Args:
            job: The cell.

        Returns:
            Its evidence; None where the first of several has it.

        Raises:
            Interrupted: `stop` was called; the work so far is in the cell's scratch folder.
            ExchangeFailed: One of the others is gone.
        """
        torch.set_num_threads(self._threads)  # OpenMP keeps the number by thread, and Ray's methods have their own
        hand_over_layouts(job.layouts)
        member = job.membership
        if member is None:
            return self._executor.compute_cell(job.task)
        with meeting_at(member.meeting, WorkerGroup(member.rank, member.size)) as world:
            if member.rank:
                world.serve()
                return None
            return self._executor.compute_cell(job.task)

    def stop(self) -> None:
        """Have the cell under way saved and ended after the present batch; callable from another thread."""
        self._stop.set()


class _Progress(RunCallback):
    """Passes on how far the one cell of this worker is."""

    def __init__(self, report: Callable[[int, int], None]) -> None:
        self.report = report

    def progress(self, task: Task, done: int, total: int) -> None:
        self.report(done, total)


def _as_vouched_for(entry: TrustConfig, trusted: Sequence[Mapping[str, str]]) -> TrustConfig:
    """A trusted file with the hash that the driver ran, so that a worker runs no other."""
    vouched = [row["sha256"] for row in trusted if row["path"] == Path(entry.path).name]
    present = sha256_of(Path(entry.path).expanduser()) if len(vouched) > 1 else ""
    return entry.model_copy(update={"sha256": present if present in vouched else (*vouched, entry.sha256)[0]})


def enter(folder: str) -> None:
    """Change to the driver's working folder, so that relative paths mean the same.

    Args:
        folder: An absolute path.

    Raises:
        SetupError: There is none here.
    """
    try:
        os.chdir(folder)
    except OSError:
        raise SetupError(
            f"The worker on {socket.gethostname()} has no folder {folder}. Start the command in a folder that all "
            "machines see under the same path, with the data and the model in it or elsewhere on a shared disk."
        ) from None


def machine_facts(device: torch.device) -> dict[str, Any]:
    """What must be equal for two machines to give the same bytes.

    Args:
        device: Where models run.
    """
    return {
        "Python": ".".join(platform.python_version_tuple()[:2]),
        "audit": f"{version('audit')} ({code_fingerprint()[:12]})",
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "kind of CPU": processor_kind(),
        **{name: value for name, value in device_facts(device).items() if name != "device"},
        "device": device.type,
    }


@cache
def code_fingerprint() -> str:
    """SHA-256 of the package's own code: two checkouts of one version may differ."""
    root, digest = Path(str(audit.__file__)).parent, hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()


def require_same(order: WorkerOrder, setup: RunSetup) -> None:
    """Refuse to compute what could not be joined with the cells of the other workers.

    Args:
        order: What the driver has.
        setup: What the worker has.

    Raises:
        SetupError: They differ; the sentence says in what.
    """
    here, expected = machine_facts(setup.device), order.machine
    pairs = [(name, expected.get(name), here.get(name)) for name in (*expected, *here)]
    pairs += [(name, getattr(order.identity, key), getattr(setup.subject, key)) for key, name in _IDENTITY.items()]
    for name, theirs, ours in pairs:
        if theirs != ours:
            raise SetupError(
                f"The worker on {socket.gethostname()} is refused: its {name} is {_short(ours)}, and {_short(theirs)} "
                "where the command was started. Cells of both would not be one audit. Make the two the same."
            )
    if setup.subject != order.identity:
        raise SetupError(
            f"The worker on {socket.gethostname()} is refused: it reads the data otherwise than where the command was "
            "started. Make the files the same."
        )


_IDENTITY = {
    "test": "fingerprint of the test images",
    "train": "fingerprint of the training images",
    "loaded": "model",
    "architecture": "architecture",
    "pretrained": "file of pretrained weights",
}


def _short(value: object) -> str:
    text = str(value) if value not in (None, "") else "none"
    return text if len(text) <= 40 else f"{text[:40]}…"
