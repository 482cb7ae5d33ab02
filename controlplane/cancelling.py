"""Makes a cancellation count that a library has swallowed.

Python 3.11's `asyncio.wait_for` (nats-py uses it for every request) returns its result and forgets the cancellation
when both come at the same time (python/cpython#86296). A loop that then waits for ever would never end.
"""

import asyncio


def raise_if_cancelled() -> None:
    """Raises CancelledError if this task was ever cancelled; called once in every round of an endless loop."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
