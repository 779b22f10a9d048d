"""A connection to Ray: on this machine alone, or to a cluster."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from audit.core.errors import SetupError, UsageError, one_line

_CONNECT_SECONDS = 5.0
ON_LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""Ray takes the loopback address for the machine's own and listens on every interface, but where it takes the machine
for a laptop."""
QUIET = {"RAY_USAGE_STATS_ENABLED": "0"}


def connect(address: str) -> tuple[Any, bool]:
    """Connect to Ray; an application that uses Ray itself stays connected.

    Args:
        address: Of the cluster, as HOST:PORT or auto; empty for Ray on this machine alone.

    Returns:
        Ray, and whether it was connected here.

    Raises:
        SetupError: Ray is not installed, or does not answer.
        UsageError: That is no address.
    """
    nearby = not address or address.rpartition(":")[0] in ("127.0.0.1", "localhost", "::1")
    for name, value in (QUIET | (ON_LOOPBACK if nearby else {})).items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError:
        raise SetupError("--engine ray needs Ray: pip install 'audit[ray]'.") from None
    if ray.is_initialized():
        return ray, False
    logging.getLogger("ray").setLevel(logging.ERROR)
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if not address:
        options |= {"include_dashboard": False, "_node_ip_address": "127.0.0.1", "num_cpus": _processors()}
    elif address != "auto":
        _require_somebody(address)
    try:
        with _signals_kept():
            ray.init(address=address or "local", **options)
    except Exception as fault:
        raise SetupError(_refused(address, fault)) from None
    return ray, True


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Ray makes SIGTERM end the process at once, where the command line writes the report first."""
    kept = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread() and kept is not None:
            signal.signal(signal.SIGTERM, kept)


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _require_somebody(address: str) -> None:
    """Ray itself looks for a minute for a cluster that is not there."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or "/" in host:
        raise UsageError(f"--engine ray:{address}: HOST:PORT or auto was expected, as in ray:10.0.0.1:6379.")
    try:
        socket.create_connection((host, int(port)), _CONNECT_SECONDS).close()
    except OSError as fault:
        raise SetupError(
            f"No Ray cluster answers at {address} ({fault.strerror or one_line(fault)}). Start Ray there, or compute "
            "on this machine with --engine ray."
        ) from None


def _refused(address: str, fault: Exception) -> str:
    place = f"the Ray cluster at {address}" if address else "Ray on this machine"
    lines = [line.strip() for line in str(fault).splitlines() if line.strip()]
    if lines and "ersion mismatch" in lines[0]:
        return (
            f"{place[0].upper()}{place[1:]} has other versions of Python or Ray than this machine: "
            f"{' '.join(lines[1:]).rstrip('.')}. Use the same on all machines."
        )
    hint = " Where it asks for a token, set RAY_AUTH_MODE=token." if address else ""
    return f"Cannot connect to {place}: {one_line(fault)}.{hint}"
