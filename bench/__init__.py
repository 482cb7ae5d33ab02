"""The caller's side: a carrier that places real calls and judges them by their recordings."""
