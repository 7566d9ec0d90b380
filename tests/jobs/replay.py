"""What a file of commands comes to when it is simply read from top to bottom."""

from __future__ import annotations

import json
from pathlib import Path


def replay(path: Path) -> list[dict[str, object]]:
    """The live keys with value and version, sorted; for files without cas commands."""
    entries: dict[str, tuple[str | None, int]] = {}
    for line in path.read_text().splitlines():
        command = json.loads(line)
        if command["op"] != "get":
            version = entries.get(command["key"], (None, 0))[1] + 1
            entries[command["key"]] = (command.get("value"), version)
    return [
        {"key": key, "value": value, "version": version}
        for key, (value, version) in sorted(entries.items())
        if value is not None
    ]
