"""Two drills never strike a region together."""

from pathlib import Path

import pytest

from bench.drills.errors import DrillRefusedError
from bench.drills.only_one import only_drill


def test_a_second_drill_of_a_region_is_refused_while_the_first_runs(tmp_path: Path) -> None:
    with only_drill(tmp_path, "in-south"):
        with pytest.raises(DrillRefusedError, match="another drill of in-south runs"), only_drill(tmp_path, "in-south"):
            pass
        with only_drill(tmp_path, "eu-central"):
            pass
    with only_drill(tmp_path, "in-south"):
        pass
