"""How a machine becomes a node: tokens, certificates, and who belongs to a region."""
