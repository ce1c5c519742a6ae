"""Fixtures: each kind of store, and one client of it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.stores import KINDS, Client, Stores


@pytest.fixture(params=KINDS)
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stores]:
    made = Stores(request.param, tmp_path)
    yield made
    made.close()


@pytest.fixture
def store(stores: Stores) -> Client:
    return stores.client()
