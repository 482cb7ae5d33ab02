"""Vectors as they cross the border: int8, each with a scale of its own. Pure."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Vector:
    """A unit vector in int8: `components` times `scale`."""

    components: bytes
    scale: float


def quantised(vectors: NDArray[np.float32]) -> list[Vector]:
    """Return the rows in int8, each with a scale of its own: its largest component is 127."""
    scales = np.abs(vectors).max(axis=1) / 127 if len(vectors) else np.zeros(0, dtype=np.float32)
    divisors = np.where(scales > 0, scales, 1)
    components = np.round(vectors / divisors[:, None]).astype(np.int8)
    return [Vector(components=row.tobytes(), scale=float(scale)) for row, scale in zip(components, scales, strict=True)]
