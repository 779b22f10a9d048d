"""Where workers that train together meet: a file on one machine, or a port of the first one's."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from torch import distributed

from audit.training.distributed import WorkerGroup
from audit.training.world import EXCHANGE_TIMEOUT, World, exchanges, joined_world

_CONNECTING = timedelta(seconds=30)
_ADDRESS_OF_INTERFACE = 0x8915
"""Linux's SIOCGIFADDR (netdevice(7))."""
_c10d: Any = distributed  # torch exports its stores without naming them


def open_meeting(host: str) -> tuple[Any, str]:
    """Let the processes of a training meet at a free port of this machine.

    Args:
        host: The address of this machine that the others reach it at; it listens on no other.

    Returns:
        What listens for as long as it is kept, and its address as tcp://HOST:PORT.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, 0), family=family)
    port = int(listener.getsockname()[1])
    store = _c10d.TCPStore(
        host, port, is_master=True, wait_for_workers=False, master_listen_fd=listener.detach(), timeout=_CONNECTING
    )
    return store, f"tcp://{f'[{host}]' if ':' in host else host}:{port}"


@contextmanager
def meeting_at(address: str, workers: WorkerGroup) -> Iterator[World]:
    """Inside the block, trainings with `nproc` are shared by the processes that meet at an address.

    Args:
        address: tcp://HOST:PORT of `open_meeting`, or file:///PATH of a file that does not exist yet.
        workers: This process among them.

    Yields:
        The processes; those of another rank than 0 are to `serve`.

    Raises:
        ExchangeFailed: When nobody answers there.
    """
    with _over_the_interface_towards(address):
        with exchanges():
            store = _store_at(address, workers.world_size)
        with joined_world(store, workers) as world:
            yield world


def _store_at(address: str, world_size: int) -> Any:
    parts = urlsplit(address)
    if not parts.scheme:
        raise RuntimeError("the first of them does not listen")
    if parts.scheme == "file":
        return _c10d.FileStore(url2pathname(parts.path), world_size)
    store = _c10d.TCPStore(parts.hostname, parts.port, is_master=False, timeout=_CONNECTING)
    store.set_timeout(EXCHANGE_TIMEOUT)
    return store


@contextmanager
def _over_the_interface_towards(address: str) -> Iterator[None]:
    """Gloo takes what the machine's name resolves to, which many machines say is themselves; the environment wins."""
    name, before = "GLOO_SOCKET_IFNAME", dict(os.environ)
    interface = loopback() if address.startswith("file:") else _interface_towards(address)
    if interface:
        os.environ.setdefault(name, interface)
    try:
        yield
    finally:
        if name not in before:
            os.environ.pop(name, None)


def loopback() -> str | None:
    """The name of the loopback interface, where the system has one: what goes over it goes on no network."""
    return next((name for _, name in socket.if_nameindex() if name in ("lo", "lo0")), None)


def _interface_towards(address: str) -> str | None:
    """The name of the interface whose address this machine has towards another; None where it cannot be told."""
    parts = urlsplit(address)
    if not parts.hostname:
        return None
    family = socket.AF_INET6 if ":" in parts.hostname else socket.AF_INET
    with suppress(OSError, ImportError), socket.socket(family, socket.SOCK_DGRAM) as towards:
        import fcntl  # not on Windows

        towards.connect((parts.hostname, parts.port))  # sends nothing, but chooses the way
        own = towards.getsockname()[0]
        for _, name in socket.if_nameindex():
            with suppress(OSError):  # an interface without an address
                request = struct.pack("256s", name.encode()[:15])
                if socket.inet_ntoa(fcntl.ioctl(towards, _ADDRESS_OF_INTERFACE, request)[20:24]) == own:
                    return name
    return None
