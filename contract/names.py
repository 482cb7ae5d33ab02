"""Names that cross a process border, and what they may look like. Nothing else is allowed as a string going up.

A name with more digits than a telephone number has is refused where it is made, in documents and in topologies: the
border would not let it pass, and a node that has it could tell the hub nothing.
"""

import re

# Regions and nodes: they are tokens of NATS subjects and DNS labels.
REGION_PATTERN = r"[a-z][a-z0-9-]{0,30}[a-z0-9]"
NODE_PATTERN = r"[a-z][a-z0-9-]{0,30}[a-z0-9]"
# Tenants, agents, intents, flows, policies, reasons: as in documents.
NAME_PATTERN = r"[a-z][a-z0-9_-]{0,59}"
# Versions of this product, as packages number them.
RELEASE_PATTERN = r"[0-9]{1,4}(\.[0-9]{1,4}){0,3}((a|b|rc|\.dev|\.post)[0-9]{1,3})?"
BUNDLE_VERSION_PATTERN = r"[0-9]{1,6}"

# A phone number has seven digits or more; a name or version of ours fewer.
MAX_DIGITS = 6
REGION_RULE = f"lower-case letters, hyphens and at most {MAX_DIGITS} digits, 2 to 32 characters, a letter first"

_NAME = re.compile(NAME_PATTERN)
_REGION = re.compile(REGION_PATTERN)
_RELEASE = re.compile(RELEASE_PATTERN)


def is_name(text: str) -> bool:
    """Whether the text may name a tenant, agent, intent, document or reason."""
    return _NAME.fullmatch(text) is not None and has_few_digits(text)


def is_region(text: str) -> bool:
    """Whether the text may name a region or a node."""
    return _REGION.fullmatch(text) is not None and has_few_digits(text)


def is_release(text: str) -> bool:
    """Whether the text may name a release: its public version, without a local part."""
    return _RELEASE.fullmatch(text) is not None and has_few_digits(text)


def inference_host(region: str, node: str) -> str:
    """The DNS name in the certificate of a node's inference. Siblings check it instead of an address: private ones
    exist in every region, and audio must not go to a node of another that happens to have the same."""
    return f"inference.{node}.{region}.borough"


def arbiter_name(first_node: str) -> str:
    """The third nats-server of a region of two nodes, on the machine of its first one."""
    return f"{first_node}-arbiter"


def has_few_digits(text: str) -> bool:
    """Whether the text cannot be a telephone, card or account number."""
    return sum(character.isdigit() for character in text) <= MAX_DIGITS
