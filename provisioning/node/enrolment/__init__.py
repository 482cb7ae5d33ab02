"""How a machine gets its identity from the hub, and a new one before the old one ends."""
