"""An S3-compatible server on loopback: moto's, in a process that other processes reach too."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

SERVER = """
    import sys
    from moto.server import ThreadedMotoServer
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    print(server.get_host_and_port()[1], flush=True)
    sys.stdin.read()
"""


@contextmanager
def serve_s3() -> Iterator[str]:
    """Yield the server's URL; without its packages, skip the test."""
    pytest.importorskip("moto", reason="moto plays the store")
    pytest.importorskip("s3fs", reason="s3fs speaks to it")
    child = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(SERVER)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert child.stdout is not None
    try:
        port = child.stdout.readline().strip()
        assert port.isdecimal(), "the server did not start"
        yield f"http://127.0.0.1:{port}"
    finally:
        child.kill()
        child.communicate()


def list_settings(endpoint: str) -> dict[str, str]:
    """Return the environment in which the store is found."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
