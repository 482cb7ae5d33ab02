"""For all tests: hypothesis draws the same examples in every run, so that a failure is no matter of dice."""

from hypothesis import settings

settings.register_profile("same-every-run", derandomize=True)
settings.load_profile("same-every-run")
