"""The log of one role: a line for each event that is recorded, and for what is no event.

```
2026-12-01 16:00:00,000 INFO ray_paxos.demo/m1/proposer member=m1 role=proposer group=1
    kind=MasterStarted ballot=[7,1,2] instance_id=90 text="leads group 1 and serves, ..."
```

Rules:

1. One event is one line, here folded: whatever a field holds, no line break gets through. So
   nobody who gives a machine bad input writes lines of his own.
2. A line is words of the form `key=value`. A value with a space, a quote, an equals sign or
   anything that is not printed is in double quotes, as in JSON; lists and mappings are JSON.
3. Every line has member and role, so that lines of many processes can be put together and still be
   told apart; one of an event has its group (`-` for none) and its kind.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping

from ray_paxos.observability.event_record import EventRecord

ROOT = "ray_paxos"
_LEVELS: Mapping[str, int] = {
    "DEBUG": logging.DEBUG,
    "INFO": logging.INFO,
    "WARNING": logging.WARNING,
    "ERROR": logging.ERROR,
}
_QUOTED = frozenset(' "=\\')


class EventLog:
    """Writes what one role tells to its logger."""

    def __init__(self, cluster: str, member: str, role: str) -> None:
        """Write as `ray_paxos.<cluster>/<member>/<role>`, such as `ray_paxos.demo/m1/learner`.

        Args:
            cluster: Its name; empty where it is not known yet, and then left out.
            member: Whose role it is.
            role: Which.
        """
        known = "/".join(filter(None, (cluster, member, role)))
        self._logger = logging.getLogger(ROOT).getChild(known)
        self._place = {"member": member, "role": role}

    def write(self, record: EventRecord) -> None:
        """Write one event, where its level is wanted."""
        level = _LEVELS.get(record.level, logging.WARNING)
        if self._logger.isEnabledFor(level):
            group = "-" if record.group is None else record.group
            words = {**self._place, "group": group, "kind": record.kind}
            # An event's own fields may have any name, and never hide those of the line.
            own = [
                (f"_{key}" if key in words or key == "text" else key, value)
                for key, value in record.fields.items()
            ]
            self._logger.log(level, "%s", line([*words.items(), *own, ("text", record.text)]))

    def warn(self, text: str) -> None:
        """Write something that is no event of the role."""
        self._logger.warning("%s", line([*self._place.items(), ("text", text)]))


def set_up_logging(level: str) -> None:
    """Write this process's log to standard error, which Ray keeps in the worker's file.

    Args:
        level: From which on lines are written: a name that `logging` knows.
    """
    logger = logging.getLogger(ROOT)
    logger.setLevel(level)
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
        logger.addHandler(handler)
        logger.propagate = False


def line(words: list[tuple[str, object]]) -> str:
    """Words of the form `key=value`, in one line."""
    return " ".join(f"{key}={value_text(value)}" for key, value in words)


def value_text(value: object) -> str:
    """A value as it stands behind its key: bare where nothing in it could be misread."""
    if not isinstance(value, str):
        compact = json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)
        return compact if compact.isprintable() and " " not in compact else json.dumps(compact)
    if value and value.isprintable() and _QUOTED.isdisjoint(value):
        return value
    quoted = json.dumps(value, ensure_ascii=False)
    return quoted if quoted.isprintable() else json.dumps(value)
