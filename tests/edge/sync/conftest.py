"""A file system of a few megabytes that can be filled, and a nats-server."""

from tests.edge.disk.conftest import small_disk
from tests.edge.replication.conftest import client, server

__all__ = ["client", "server", "small_disk"]
