"""Fixtures of the tests of encoders of others."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No weights on this machine but those that a test puts there."""
    from foreign_parts import stay_offline

    stay_offline(monkeypatch, tmp_path)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks of the published shapes, but small."""
    from foreign_parts import small_networks

    small_networks(monkeypatch)
