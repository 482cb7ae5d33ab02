"""Settings as the text of a TOML file. Pure."""

import json
from collections.abc import Mapping
from pathlib import Path

TomlValue = str | int | float | Path | list[str]
# A section within another has a dotted name, one of an array of tables a name in brackets, keys outside of sections the
# empty one.
TomlSections = dict[str, dict[str, TomlValue]]


def toml_text(sections: Mapping[str, Mapping[str, TomlValue]]) -> str:
    """The sections in their order."""
    lines = []
    for section, values in sections.items():
        lines += [f"[{section}]"] if section else []
        for key, value in values.items():
            # A JSON string, number or list of strings is a TOML one too.
            lines.append(f"{key} = {json.dumps(str(value) if isinstance(value, Path) else value)}")
        lines.append("")
    return "\n".join(lines)
