"""Every way that is tried."""

from tests.leaks.border import BORDER_WAYS
from tests.leaks.link import FORGED_WAYS
from tests.leaks.region import REGION_WAYS
from tests.leaks.strangers import STRANGER_WAYS, VISITOR_WAYS
from tests.leaks.uplink import UPLINK_WAYS

ALL_WAYS = BORDER_WAYS + UPLINK_WAYS + REGION_WAYS + FORGED_WAYS + STRANGER_WAYS + VISITOR_WAYS
