"""Elections: one leader at a time, under an epoch that rises with every leader.

```python
election = cluster.election("coordinator")
with election.lead() as leadership:        # waits for its turn; renewed by itself
    run(epoch=leadership.epoch)            # whoever it writes to refuses lower epochs
election.leader()                          # Leader(candidate, epoch), or None
watch = election.watch(print)              # called with each later leader, and None; close it
```

The lead is a lease, as a lock is (`recipes.lock`), and what is said there is true of it: of two who
believe to lead at one time, as they may after one of them stood still, the later one has the higher
epoch, and it is the later one whose writes count. There is one leader an epoch, for ever.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from types import TracebackType
from typing import Any, NamedTuple

from ray_paxos.actors.outcomes import Result
from ray_paxos.errors import (
    ClientClosedError,
    ConfigurationError,
    NotYetError,
    PaxosError,
    WaitTimeoutError,
)
from ray_paxos.group_clients import GroupClients
from ray_paxos.machines import permits
from ray_paxos.machines.permits import Resource
from ray_paxos.recipes.leases import boot_time_s
from ray_paxos.recipes.permit_recipe import Grant, PermitRecipe
from ray_paxos.recipes.recipe import FOREVER_S, TIMEOUT_S, Steps, WaitFor, deadline_of_wait

_logger = logging.getLogger(__name__)

PAUSE_S = 1.0
"""A watch that could not ask waits for so long before it asks again."""


class Leader(NamedTuple):
    """Who leads.

    Attributes:
        candidate: What it called itself.
        epoch: Above those of all leaders before it.
    """

    candidate: str
    epoch: int


class Leadership(Grant):
    """The lead of an election; held until it is given up, or lost. A context manager."""

    def __repr__(self) -> str:
        return f"Leadership(of={self._owner!r}, epoch={self.epoch})"

    @property
    def epoch(self) -> int:
        """The fencing token: above those of all leaders before."""
        return self.token


class Election(PermitRecipe):
    """Made by `Cluster.election`."""

    prefix = "election"

    def __init__(self, name: str, group: int, clients: GroupClients, *, ttl_s: float) -> None:
        """As of `PermitRecipe`, of one unit: the lead."""
        super().__init__(name, group, clients, ttl_s=ttl_s, capacity=1)

    def _options(self) -> dict[str, Any]:
        return {"ttl_s": self.ttl_s}

    def lead(
        self,
        candidate: str = "",
        *,
        timeout_s: float | None = None,
        on_lost: Callable[[], object] | None = None,
    ) -> Leadership:
        """Stand, and wait until it leads; behind those who stood before.

        Args:
            candidate: What others see; by default host and process.
            timeout_s: How long to wait; None for ever.
            on_lost: Called once, from another thread, if the lead is lost before it is given up.

        Returns:
            The lead: use it in a `with` statement, or release it.

        Raises:
            WaitTimeoutError: Others led all that time; it stands no more.
            RequestError: As `Client.propose`; what may be held ends with its lease.
            ConfigurationError: An argument means nothing; nothing was sent.
        """
        return self._run(self._lead(candidate, timeout_s, on_lost))

    async def lead_async(
        self,
        candidate: str = "",
        *,
        timeout_s: float | None = None,
        on_lost: Callable[[], object] | None = None,
    ) -> Leadership:
        """As `lead`, in a coroutine; cancelled, it stands no more."""
        return await self._run_async(self._lead(candidate, timeout_s, on_lost))

    def _lead(
        self, candidate: str, timeout_s: float | None, on_lost: Callable[[], object] | None
    ) -> Steps[Leadership]:
        grant = yield from self._acquire(1, timeout_s, on_lost, candidate)
        if grant is None:
            raise WaitTimeoutError(f"{self!r}: others led all that time; it stands no more")
        return Leadership(self, grant._holder, grant._lease)

    def leader(self, *, timeout_s: float = TIMEOUT_S) -> Leader | None:
        """Who leads, as of now; None where nobody does.

        Args:
            timeout_s: How long to try.

        Raises:
            QueryError: As `Client.query`.
        """
        return _leader_of(self.look(timeout_s=timeout_s))

    async def leader_async(self, *, timeout_s: float = TIMEOUT_S) -> Leader | None:
        """As `leader`, in a coroutine."""
        return _leader_of(await self.look_async(timeout_s=timeout_s))

    def wait_for_change(
        self, known: Leader | None, *, timeout_s: float | None = None
    ) -> Leader | None:
        """Wait until somebody else leads, or nobody.

        Args:
            known: Who leads as far as the caller knows; None for nobody.
            timeout_s: How long to wait; None for ever.

        Returns:
            Who leads then. Leaders that were gone again before are left out.

        Raises:
            WaitTimeoutError: Nothing changed in time.
            QueryError: No member could be asked.
        """
        return self._run(self._wait_for_change(known, timeout_s))

    async def wait_for_change_async(
        self, known: Leader | None, *, timeout_s: float | None = None
    ) -> Leader | None:
        """As `wait_for_change`, in a coroutine."""
        return await self._run_async(self._wait_for_change(known, timeout_s))

    def _wait_for_change(
        self, known: Leader | None, timeout_s: float | None
    ) -> Steps[Leader | None]:
        deadline_s = deadline_of_wait(timeout_s)
        if known is not None and not isinstance(known, Leader):
            raise ConfigurationError(f"known: found {known!r:.80}; allowed: a Leader, or None")
        known_epoch = known.epoch if known else 0
        request = permits.encode_await_change(self._resource, known_epoch)
        at_least = 0
        while True:
            try:
                answer = yield WaitFor(request, at_least, max(deadline_s - boot_time_s(), 0.0))
            except NotYetError as error:
                raise WaitTimeoutError(f"{self!r}: nothing changed in time") from error
            # A member that lags may have told of a leader before the known one.
            found = _leader_of((yield from self._look(TIMEOUT_S)))
            if (found.epoch if found else 0) != known_epoch:
                return found
            at_least = answer.instance_id + 1

    def _change_after(self, known: Leader | None, at_least: int) -> Future[Result]:
        """Who leads as soon as that is somebody else, as of an instance or later."""
        request = permits.encode_await_change(self._resource, known.epoch if known else 0)
        return self._client.wait_for_async(
            request, self.machine, at_least=at_least, timeout_s=FOREVER_S
        )

    def watch(self, callback: Callable[[Leader | None], object]) -> ElectionWatch:
        """Be called back with who leads, and with each change.

        Args:
            callback: Called from a thread of its own, one call at a time, first with who leads now.
                Leaders that are gone again before the call before has returned may be left out.
                What it raises is logged.

        Returns:
            The watch, to be closed.
        """
        return ElectionWatch(self, callback)


class ElectionWatch:
    """Tells of each change of an election until it is closed. A context manager."""

    def __init__(self, election: Election, callback: Callable[[Leader | None], object]) -> None:
        """Begin."""
        self._election = election
        self._callback = callback
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._waiting: Future[Result] | None = None
        self._at_least = 0
        self._thread = threading.Thread(target=self._run, name="ray_paxos-watch", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Call back no more, and wait for nothing; a call that is under way is not waited for."""
        with self._lock:
            self._closing.set()
            waiting = self._waiting
        if waiting is not None:
            waiting.cancel()

    def __enter__(self) -> ElectionWatch:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _run(self) -> None:
        known: Leader | None = None
        is_known = False
        while not self._closing.is_set():
            try:
                if is_known:
                    self._wait_for_change(known)
                found = self._election.leader()
            except (ClientClosedError, CancelledError):
                return
            except NotYetError:
                continue
            except PaxosError as error:
                _logger.warning("%r: %s", self._election, error)
                self._closing.wait(PAUSE_S)
                continue
            if not self._closing.is_set() and not (is_known and found == known):
                known, is_known = found, True
                self._call_back(found)

    def _wait_for_change(self, known: Leader | None) -> None:
        """Return once a member tells of another leader than the known one.

        Raises:
            CancelledError: The watch was closed.
            QueryError: As `Client.wait_for`.
        """
        waiting = self._election._change_after(known, self._at_least)
        with self._lock:
            self._waiting = waiting
            if self._closing.is_set():
                waiting.cancel()
        # A member that lags may tell of a leader before the known one: then of what comes later.
        self._at_least = waiting.result().instance_id + 1

    def _call_back(self, found: Leader | None) -> None:
        try:
            self._callback(found)
        except Exception:
            _logger.exception("%r: a watch's callback raised; it hears of later changes", self)


def _leader_of(resource: Resource) -> Leader | None:
    for holder, holding in resource.holdings.items():
        return Leader(holder.rpartition("/")[0], holding.token)
    return None
