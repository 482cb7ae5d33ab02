"""Which node runs what, as the nodes themselves say."""
