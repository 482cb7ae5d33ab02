"""Imported first by the service: numpy's BLAS gets one thread.

Its worker threads spin between calls and would take the cores from recognition; nothing here multiplies large matrices.
The only place in this package that touches the environment.
"""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
