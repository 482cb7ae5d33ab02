"""Settings of a call worker's access to the inference of sibling nodes (`[inference.siblings]` of calls.toml)."""

from pathlib import Path

from pydantic import Field

from contract.names import NODE_PATTERN, REGION_PATTERN
from edge.settings_file import Section


class SiblingSection(Section):
    """Absent: only the node's own inference is asked."""

    region: str = Field(pattern=f"^{REGION_PATTERN}$", description="region of this node; no other is ever asked")
    node: str = Field(pattern=f"^{NODE_PATTERN}$", description="name of this node")
    port: int = Field(default=50_051, ge=1, le=65_535, description="port of inference on every node of the region")
    authority: Path = Field(description="certificate that those of siblings are checked with (PEM)")
    certificate: Path = Field(description="this node's certificate in the role calls (PEM)")
    key: Path = Field(description="private key of the certificate (PEM)")
    roster: Path = Field(description="the region's nodes, as the hub sent them; read again when it was replaced")
