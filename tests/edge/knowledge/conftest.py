"""Fixtures of other packages."""

from tests.edge.disk.conftest import small_disk

__all__ = ["small_disk"]
