"""Fixtures of the tracing tests."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(autouse=True, name="otel")
def _otel(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Remove the OTEL_ variables of the caller; a test sets its own with this."""
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)
    return monkeypatch
