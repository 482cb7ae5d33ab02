"""Copies of the databases in the region: Litestream started, fed, watched; restore."""
