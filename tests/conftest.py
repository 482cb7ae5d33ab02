"""For all tests: hypothesis draws the same examples in every run, so that a failure is no matter of dice; nor of how
busy the machine is."""

from hypothesis import settings

settings.register_profile("same-every-run", derandomize=True, deadline=None)
settings.load_profile("same-every-run")
