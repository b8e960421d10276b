"""An S3-compatible server, and a bucket in it for each test."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from s3_server import list_settings, serve_s3

_numbers = itertools.count()


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    with serve_s3() as endpoint:
        yield endpoint


@pytest.fixture
def s3(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The store's file system, set up as the product finds it: through the environment."""
    from restorepix.stores import store

    for name, value in list_settings(s3_endpoint).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(store, "_systems", {})
    return store.open_store("s3")


@pytest.fixture
def bucket(s3: Any) -> str:
    name = f"bucket-{next(_numbers)}"
    s3.mkdir(name)
    return name
