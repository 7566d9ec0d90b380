"""Where data lies on a node; apart from the configuration, which role processes need not import.

`ray_paxos.config` stands on pydantic, which takes 0.1 s of processor time to import: with twelve
roles that start at once, that is time without a quorum.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ray_paxos.errors import ConfigurationError

DATA_DIR_VARIABLE = "RAY_PAXOS_HOME"
DATA_DIR_DEFAULT = "~/.ray_paxos"


def resolve_data_dir(configured: str | None, environment: Mapping[str, str]) -> Path:
    """The folder for all data on this node. Call it on the member's node, not on the driver's.

    Args:
        configured: `data_dir` of the configuration.
        environment: Of a process on that node (`os.environ`).

    Returns:
        An absolute path; the folder need not exist.

    Raises:
        ConfigurationError: $RAY_PAXOS_HOME is relative, or `~` means nothing here.
    """
    chosen = configured or environment.get(DATA_DIR_VARIABLE) or DATA_DIR_DEFAULT
    try:
        path = Path(chosen).expanduser()
    except RuntimeError as error:
        raise ConfigurationError(f"data_dir {chosen!r}: {error}") from error
    if not path.is_absolute():
        raise ConfigurationError(
            f"${DATA_DIR_VARIABLE}: found {chosen!r}; allowed: an absolute path, or one that "
            "begins with ~"
        )
    return path
