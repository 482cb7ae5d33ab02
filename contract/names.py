"""Names that cross a process border, and what they may look like. Nothing else is allowed as a string going up."""

import re

# Regions and nodes: they are tokens of NATS subjects and DNS labels.
REGION_PATTERN = r"[a-z][a-z0-9-]{0,30}[a-z0-9]"
NODE_PATTERN = r"[a-z][a-z0-9-]{0,30}[a-z0-9]"
# Tenants, agents, intents, flows, policies, reasons: as in documents.
NAME_PATTERN = r"[a-z][a-z0-9_-]{0,59}"
# Versions of this product, as packages number them.
RELEASE_PATTERN = r"[0-9]{1,4}(\.[0-9]{1,4}){0,3}((a|b|rc|\.dev|\.post)[0-9]{1,3})?"
BUNDLE_VERSION_PATTERN = r"[0-9]{1,6}"

_NAME = re.compile(NAME_PATTERN)
_REGION = re.compile(REGION_PATTERN)


def is_name(text: str) -> bool:
    """Whether the text may name a tenant, agent, intent, document or reason."""
    return _NAME.fullmatch(text) is not None


def is_region(text: str) -> bool:
    """Whether the text may name a region or a node."""
    return _REGION.fullmatch(text) is not None
