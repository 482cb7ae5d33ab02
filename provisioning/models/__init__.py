"""Models of a node: which there are, fetching, converting, verifying and importing them into a store."""
