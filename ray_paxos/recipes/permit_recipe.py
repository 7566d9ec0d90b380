"""What locks, semaphores and elections are made of: units of one resource, held by leases.

Who finds no room stands in line in the log, and waits for its turn at a learner. Whatever becomes
of it then, an interrupt, a time that is over, an answer that nobody got: it is released, so that
nothing is held and no place in line is left.
"""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Callable
from concurrent.futures import Future
from types import TracebackType
from typing import ClassVar, TypeVar

from ray_paxos.actors.outcomes import Result
from ray_paxos.errors import ConfigurationError, NotYetError, OverloadedError
from ray_paxos.group_clients import GroupClients
from ray_paxos.machines import permits
from ray_paxos.machines.permits import (
    CAPACITY_MAX,
    LINE_MAX,
    Busy,
    Granted,
    Lost,
    PermitResult,
    Resource,
    Waiting,
)
from ray_paxos.recipes.leases import KeptLease, boot_time_s
from ray_paxos.recipes.recipe import (
    TIMEOUT_S,
    Ask,
    Propose,
    Recipe,
    Send,
    Steps,
    WaitFor,
    check_label,
    deadline_of_wait,
    hiding_nothing,
    milliseconds_of,
    value_of,
)

PLACE_S = 600.0
"""For so long a place in line is kept without a word; who waits longer says so halfway."""
G = TypeVar("G", bound="Grant")


class Grant:
    """What was acquired; held until it is released, or lost. A context manager, of both kinds.

    Attributes:
        token: The fencing token: above those of all grants before it in the group.
    """

    def __init__(self, owner: PermitRecipe, holder: str, lease: KeptLease) -> None:
        """Made by `acquire`."""
        self._owner = owner
        self._holder = holder
        self._lease = lease
        self.token = lease.token

    def __repr__(self) -> str:
        return f"Grant(of={self._owner!r}, token={self.token})"

    @property
    def is_held(self) -> bool:
        """Whether it is known to be held now."""
        return self._lease.is_held

    @property
    def remaining_s(self) -> float:
        """For how many seconds it is known to be held, if nothing is renewed any more."""
        return self._lease.remaining_s

    def check(self) -> None:
        """Go on only while it is known to be held.

        Raises:
            LeaseLostError: It is not.
        """
        self._lease.check()

    def release(self, *, timeout_s: float = TIMEOUT_S) -> bool:
        """Give it back; once.

        Args:
            timeout_s: How long to wait.

        Returns:
            Whether it was still held: not where it was lost or released before.

        Raises:
            RequestError: As `Client.propose`; it ends with its lease then, at the latest.
        """
        return self._owner._run(self._release(timeout_s))

    async def release_async(self, *, timeout_s: float = TIMEOUT_S) -> bool:
        """As `release`, in a coroutine."""
        return await self._owner._run_async(self._release(timeout_s))

    def _release(self, timeout_s: float) -> Steps[bool]:
        self._lease.end()
        command = permits.encode_release(self._owner._resource, self._holder)
        released = permits.decode_result((yield Propose(command, timeout_s)).value or b"")
        return isinstance(released, permits.Released) and released.held

    def __enter__(self: G) -> G:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with hiding_nothing(error):
            self.release()

    async def __aenter__(self: G) -> G:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with hiding_nothing(error):
            await self.release_async()


class PermitRecipe(Recipe):
    """Base of what is made of permits: units of one resource, held by leases.

    Attributes:
        ttl_s: After so long a holder that says nothing loses what it holds.
    """

    machine: ClassVar[str] = "permits"
    prefix: ClassVar[str]
    """Of the resource's name: a lock and an election of one name are two things."""

    def __init__(
        self, name: str, group: int, clients: GroupClients, *, ttl_s: float, capacity: int
    ) -> None:
        """Made by a cluster; sends nothing.

        Args:
            name: Of the resource.
            group: Which group has it.
            clients: Of the cluster's groups.
            ttl_s: Of a lease, in seconds.
            capacity: How many units there are.

        Raises:
            ConfigurationError: An argument means nothing.
        """
        super().__init__(name, group, clients)
        self._ttl_ms = milliseconds_of("ttl_s", ttl_s)
        if type(capacity) is not int or not 1 <= capacity <= CAPACITY_MAX:
            raise ConfigurationError(
                f"capacity: found {capacity!r}; allowed: a whole number from 1 to {CAPACITY_MAX}"
            )
        self.ttl_s = ttl_s
        self._capacity = capacity
        self._resource = f"{self.prefix}:{name}"

    def _acquire(
        self,
        units: int,
        timeout_s: float | None,
        on_lost: Callable[[], object] | None,
        label: str,
    ) -> Steps[Grant | None]:
        """Acquire so much; None where it could not be had in time, and nothing is left behind."""
        deadline_s = deadline_of_wait(timeout_s)
        if type(units) is not int or not 1 <= units <= self._capacity:
            raise ConfigurationError(
                f"units: found {units!r}; allowed: a whole number from 1 to {self._capacity}"
            )
        check_label("label", label)
        holder = f"{label or own_label()}/{secrets.token_hex(8)}"
        is_granted = is_asked_again = False
        try:
            while True:
                wait_s = min(max(deadline_s - boot_time_s(), 0.0), PLACE_S)
                sent_s = boot_time_s()
                command = permits.encode_acquire(
                    self._resource,
                    holder,
                    ttl_ms=self._ttl_ms,
                    units=units,
                    capacity=self._capacity,
                    wait_ms=int(wait_s * 1_000),
                )
                asked = yield Propose(command)
                answer: PermitResult = permits.decode_result(value_of(asked))
                # Asked again it may have been granted at any time since.
                known_from_s = None if is_asked_again else sent_s
                is_asked_again = True
                if isinstance(answer, Waiting):
                    known_from_s = None
                    answer = yield from self._wait_in_line(holder, asked, wait_s, deadline_s)
                if isinstance(answer, Granted):
                    is_granted = True
                    return self._granted(holder, answer.token, known_from_s, on_lost)
                # Who had less than a millisecond left did not wait at all.
                if boot_time_s() >= deadline_s or wait_s < 0.001:
                    return None
                if isinstance(answer, Busy):
                    raise OverloadedError(
                        f"{LINE_MAX:,} wait in line for {self!r}; nothing is held", 1.0
                    )
        finally:
            if not is_granted:
                # Whatever became of the last command: nothing is held, and no place in line.
                yield Send(permits.encode_release(self._resource, holder))

    def _wait_in_line(
        self, holder: str, asked: Result, wait_s: float, deadline_s: float
    ) -> Steps[PermitResult]:
        """What became of a place; `Lost` where to go on there is to be said again."""
        # Halfway, so that the place is never given up between.
        patience_s = wait_s if boot_time_s() + wait_s >= deadline_s else wait_s / 2
        request = permits.encode_await(self._resource, holder)
        try:
            waited = yield WaitFor(request, asked.instance_id, patience_s)
        except NotYetError:
            return Lost()
        return permits.decode_result(value_of(waited))

    def _granted(
        self,
        holder: str,
        token: int,
        known_from_s: float | None,
        on_lost: Callable[[], object] | None,
    ) -> Grant:
        client, renewal = (
            self._client,
            permits.encode_renew(self._resource, holder, token, self._ttl_ms),
        )

        def renew() -> Future[Result]:
            return client.propose_async(renewal, self.machine, timeout_s=self.ttl_s)

        lease = KeptLease(
            repr(self),
            token,
            self.ttl_s,
            renew,
            lambda result: isinstance(permits.decode_result(value_of(result)), Granted),
            known_from_s=known_from_s,
            on_lost=on_lost,
        )
        return Grant(self, holder, lease)

    def look(self, *, timeout_s: float = TIMEOUT_S) -> Resource:
        """Who holds it and who waits for it, by name, as of now.

        Args:
            timeout_s: How long to try.

        Raises:
            QueryError: As `Client.query`.
        """
        return self._run(self._look(timeout_s))

    async def look_async(self, *, timeout_s: float = TIMEOUT_S) -> Resource:
        """As `look`, in a coroutine."""
        return await self._run_async(self._look(timeout_s))

    def _look(self, timeout_s: float) -> Steps[Resource]:
        answer = yield Ask(permits.encode_look(self._resource), timeout_s)
        return permits.decode_resource(value_of(answer))


def own_label() -> str:
    """What to call this process, for a person."""
    return f"{socket.gethostname()}:{os.getpid()}"
