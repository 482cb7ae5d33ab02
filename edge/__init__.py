"""The node: answers calls with speech models that run on it."""
