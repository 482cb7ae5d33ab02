"""The bundles of all regions, inside a transaction of the caller: compiled from documents and rosters, and kept where
they differ from the newest."""

from collections.abc import Callable, Mapping

import apsw

from contract.downlink_pb2 import Roster
from controlplane.bundles.compiling import Compiled, compile_regions
from controlplane.bundles.outbox import BundleVersion, changed_regions, store_bundle
from controlplane.documents.backing import PackBacking
from controlplane.documents.estate import Estate
from controlplane.signing import Signer

ReadRosters = Callable[[apsw.Connection], Mapping[str, Roster]]


def no_rosters(connection: apsw.Connection) -> Mapping[str, Roster]:
    """Of a hub that enrols nobody."""
    del connection
    return {}


class RegionBundles:
    """Compiles, and stores what is new in the outbox. `backing` judges which region may take whose calls."""

    def __init__(self, signer: Signer, rosters: ReadRosters = no_rosters) -> None:
        self._signer = signer
        self._rosters = rosters
        self.backing = PackBacking.of_release()

    def changed(self, connection: apsw.Connection, estate: Estate) -> list[tuple[Compiled, int]]:
        """Regions whose newest bundle is another, with the version each would get. Raises BundleTooLargeError."""
        return changed_regions(connection, compile_regions(estate, self._rosters(connection), self.backing))

    def store_changed(self, connection: apsw.Connection, estate: Estate) -> list[BundleVersion]:
        """Put a new version into the outbox for each of them. Raises BundleTooLargeError."""
        return [
            store_bundle(connection, compiled, version, self._signer)
            for compiled, version in self.changed(connection, estate)
        ]

    def reissue(self, connection: apsw.Connection, estate: Estate, region: str, version: int) -> None:
        """Put a region's bundle into the outbox as this version, whether it changed or not."""
        for compiled in compile_regions(estate, self._rosters(connection), self.backing):
            if compiled.region == region:
                store_bundle(connection, compiled, version, self._signer)
