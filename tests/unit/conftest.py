"""What the unit tests share."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="module")
def tf():
    return pytest.importorskip("tensorflow")
