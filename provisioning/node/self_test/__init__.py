"""Whether this node can take calls: what `borough node self-test` asks of it.

Each check is bounded in time, changes nothing, and says what to do when it fails. All of them run, so that an operator
sees everything at once.
"""
