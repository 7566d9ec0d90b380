"""What an actor says about the events of its role: a line in its log for the few that matter."""

from __future__ import annotations

import logging
from typing import Any

import msgspec

from ray_paxos.core.events import (
    ApplyingStopped,
    CaughtUp,
    Event,
    InvariantBroken,
    MasterStarted,
    MasterStopped,
    MessageRefused,
    PrepareStarted,
    StorageFailed,
)

_LEVELS: dict[type[Any], int] = {
    ApplyingStopped: logging.ERROR,
    InvariantBroken: logging.ERROR,
    StorageFailed: logging.ERROR,
    MasterStarted: logging.INFO,
    MasterStopped: logging.INFO,
    PrepareStarted: logging.INFO,
    CaughtUp: logging.DEBUG,
    MessageRefused: logging.DEBUG,
}


class EventLog:
    """Writes events of one role to its logger."""

    def __init__(self, name: str) -> None:
        """Write as `ray_paxos.<name>`, such as `ray_paxos.demo/m1/learner`."""
        self._logger = logging.getLogger("ray_paxos").getChild(name)

    def observe(self, event: Event) -> None:
        """Take one event in; most of them are not written."""
        level = _LEVELS.get(type(event))
        if level is not None and self._logger.isEnabledFor(level):
            fields = " ".join(f"{k}={v}" for k, v in msgspec.structs.asdict(event).items())
            self._logger.log(level, "%s %s", type(event).__name__, fields)

    def warn(self, message: str) -> None:
        """Write something that is no event of the role."""
        self._logger.warning("%s", message)


def set_up_logging(level: str) -> None:
    """Write this process's log to standard error, which Ray keeps in the worker's file."""
    logger = logging.getLogger("ray_paxos")
    logger.setLevel(level)
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
        logger.addHandler(handler)
        logger.propagate = False
