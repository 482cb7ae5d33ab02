"""Counts of what happened on a node, for the hub: cut from the records, kept on disk until the hub has them."""
