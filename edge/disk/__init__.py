"""What a node gives up, and in which order, as its disk fills. Calls go on at every level."""
