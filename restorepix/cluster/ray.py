"""Ray itself: loaded when it is asked for, told to be quiet, and reached in bounded time."""

from __future__ import annotations

import importlib
import logging
import os
import socket
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Final

from restorepix.errors import ClusterError, UsageError

CONTACT_S: Final = 10.0
"""Seconds for the first word with a cluster. A guess."""


def load_ray() -> Any:
    """Return the package.

    Raises:
        UsageError: it is not installed.
    """
    # Ray reports its use over the network unless told otherwise.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise UsageError(
            "--engine ray needs the package ray: pip install 'restorepix[ray]' on every node."
        ) from error


@contextmanager
def connect(address: str | None) -> Generator[Any]:
    """Yield Ray, connected to a cluster; disconnect at the end.

    Args:
        address: ``HOST:PORT`` of the cluster's head, ``auto`` for the cluster of this machine, or
            None for that of ``RAY_ADDRESS``, else one of this machine alone, which ends with the
            run.

    Raises:
        ClusterError: it does not answer.
        UsageError: Ray is not installed, or the address is of another kind.
    """
    ray = load_ray()
    wanted = address or os.environ.get("RAY_ADDRESS") or "local"
    if wanted not in ("auto", "local"):
        _knock(wanted)
    logging.getLogger("ray").setLevel(logging.ERROR)
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if wanted == "local":
        options["include_dashboard"] = False
    is_ours = not ray.is_initialized()
    try:
        if is_ours:
            ray.init(address=wanted, **options)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ClusterError(
            f"--address {wanted}: no Ray cluster answers ({_first_line(error)}). See ray status on "
            "a machine of the cluster, or leave --address out to use this machine alone."
        ) from error
    try:
        yield ray
    finally:
        if is_ours:
            ray.shutdown()


def _knock(address: str) -> None:
    host, colon, port = address.rpartition(":")
    if not colon or "//" in address or not port.isdecimal() or not 0 < int(port) < 65536:
        raise UsageError(
            f"--address: expected HOST:PORT of the cluster's head, such as 10.0.0.1:6379, or auto, "
            f"found {address!r}. Start the command on a machine of the cluster (ray:// is not "
            "supported)."
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONTACT_S).close()
    except OSError as error:
        raise ClusterError(
            f"--address {address}: no Ray cluster answers ({error}). See ray status on a machine "
            "of the cluster, or leave --address out to use this machine alone."
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
