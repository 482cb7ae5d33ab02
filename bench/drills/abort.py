"""The abort switch: Ctrl-C, SIGTERM, or the file `abort` beside the reports (`borough drill abort`).

It counts between rounds and within them: what was taken away is put back first.
"""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

FILE = "abort"
LOOK_EVERY_S = 0.5


@dataclass(slots=True)
class AbortSwitch:
    """One for each run. `why` is set once it was thrown."""

    directory: Path
    why: str = ""
    thrown: asyncio.Event = field(default_factory=asyncio.Event)

    def throw(self, why: str) -> None:
        """Stop the drill."""
        self.why = self.why or why
        self.thrown.set()

    async def watch(self) -> None:
        """Look for the file; runs until cancelled."""
        while not (self.directory / FILE).exists():
            await asyncio.sleep(LOOK_EVERY_S)
        self.throw("somebody ran `borough drill abort`")

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Thrown by SIGINT and SIGTERM inside the block."""
        (self.directory / FILE).unlink(missing_ok=True)
        loop = asyncio.get_running_loop()
        numbers = (signal.SIGINT, signal.SIGTERM)
        for number in numbers:
            loop.add_signal_handler(number, self.throw, f"{number.name} came")
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)
            (self.directory / FILE).unlink(missing_ok=True)


def ask_to_abort(directory: Path) -> None:
    """Have the drill that writes its reports here stop."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / FILE).touch()
