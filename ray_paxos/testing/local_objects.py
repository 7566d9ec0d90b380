"""Replicated objects in one process, without any log: for tests of one's own classes.

```python
stock = LocalObjects().replicated(Inventory, "stock", {"bolt": 10})
assert stock.take("bolt", 3) == 7
```

The machine is the real one, and so are the handles: a class is shipped and loaded, arguments and
results are encoded, as on members. Each command is one instance, applied at once.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from threading import RLock
from typing import ParamSpec, TypeVar

from ray_paxos.machines.base import ApplyContext
from ray_paxos.machines.objects import ObjectsMachine
from ray_paxos.replicated_handle import open_replicated

P = ParamSpec("P")
T = TypeVar("T")


class LocalObjects:
    """An objects machine in this process, without any log: for tests of one's own classes.

    Attributes:
        machine: The machine itself.
        now_ns: Log time of the next command; set it as the test needs it.
    """

    def __init__(self, machine: ObjectsMachine | None = None) -> None:
        """Start with no objects, or with a machine's."""
        self.machine = machine if machine is not None else ObjectsMachine()
        self.now_ns = 0
        self._instance_id = 0
        self._lock = RLock()

    def replicated(self, cls: Callable[P, T], name: str, /, *args: P.args, **kwargs: P.kwargs) -> T:
        """As `open_replicated`."""
        return open_replicated(self, cls, name, *args, **kwargs)

    def propose(self, command: bytes) -> bytes | None:
        """Apply it as the next instance."""
        with self._lock:
            self._instance_id += 1
            return self.machine.apply(command, ApplyContext(self._instance_id, 0, self.now_ns))

    def query(self, request: bytes) -> bytes:
        """Ask the machine."""
        with self._lock:
            return self.machine.query(request)

    def propose_async(self, command: bytes) -> Future[bytes | None]:
        """Applied when this returns."""
        return _done(self.propose, command)

    def query_async(self, request: bytes) -> Future[bytes]:
        """Answered when this returns."""
        return _done(self.query, request)


def _done(function: Callable[[bytes], T], argument: bytes) -> Future[T]:
    future: Future[T] = Future()
    try:
        future.set_result(function(argument))
    except Exception as error:
        future.set_exception(error)
    return future
