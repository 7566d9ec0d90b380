"""Whether processes hold a member's folder: for tools, which hold it for no longer than a question.

A shared lock is asked for and let go of at once, on a file that is opened for reading: it needs no
permission to write, and two tools do not see each other. A role that opens in that very moment
finds its folder held, and tries again, as it does anyway.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from ray_paxos.core.messages import RoleName
from ray_paxos.storage.identity import LOCK, ROLE_FOLDERS


def running_roles(root: Path) -> tuple[RoleName, ...]:
    """The roles of which a process holds the folder.

    Args:
        root: The member's folder.

    Raises:
        PermissionError: A lock may not be read.
    """
    return tuple(role for role, folder in ROLE_FOLDERS.items() if _is_held(root / folder / LOCK))


def _is_held(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
