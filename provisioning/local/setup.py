"""Everything a machine needs before its first call: models in the store, the Asterisk image built."""

import time

from rich.console import Console

from provisioning.asterisk.image import ensure_image
from provisioning.local.layout import StateLayout
from provisioning.local.node import sip_is_possible
from provisioning.models.fetching import fetch
from provisioning.models.registry import load_registry
from provisioning.models.store import ModelStore


def prepare_machine(layout: StateLayout, console: Console) -> dict[str, float]:
    """Fetch every default model and build the image; returns the seconds of each step.

    What is there already is verified and kept. Raises ModelError or AsteriskImageError.
    """
    seconds: dict[str, float] = {}
    store = ModelStore(root=layout.models)
    layout.models.mkdir(parents=True, exist_ok=True)
    for entry in load_registry().values():
        if entry.is_default:
            started = time.monotonic()
            with console.status(f"model {entry.name}"):
                fetch(store, entry.name, console.log)
            seconds[entry.name] = round(time.monotonic() - started, 1)
            console.print(f"model {entry.name}  {seconds[entry.name]} s")
    started = time.monotonic()
    if sip_is_possible():
        with console.status("Asterisk image"):
            ensure_image(state_directory=layout.images)
        seconds["asterisk"] = round(time.monotonic() - started, 1)
        console.print(f"Asterisk image  {seconds['asterisk']} s")
    else:
        console.print("Asterisk cannot be installed here: calls come over WebRTC only.")
    return seconds
