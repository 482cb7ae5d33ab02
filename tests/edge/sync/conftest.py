"""A file system of a few megabytes that can be filled."""

from tests.edge.disk.conftest import small_disk

__all__ = ["small_disk"]
