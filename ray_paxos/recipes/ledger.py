"""Ledgers: what jobs came to, by key, so that what was done is not done again.

```python
jobs = cluster.ledger("nightly", lease_s=30)
total = jobs.run_once("2024-05-01", summed, path)   # runs it, or gives what it came to before
found = jobs.begin("2024-05-02")                    # Claim, or Done, or Running: somebody is at it
if isinstance(found, Claim):
    with found as claim:                            # renewed by itself; given up on an exception
        claim.commit(summed(path))
```

What is promised (`machines.ledgers` has the rules, `recipes.leases` those of the holder's clock):

- A key has one outcome, from its first commit until it is forgotten (`forget`, or `keep_s` of
  `commit`). Whoever asks later, from wherever, is told that one.
- At one time one owner is at a key, while its lease runs. A process that stands still for longer
  than `lease_s`, or dies, loses it, and another may begin: so *the work may be done more than once,
  where a lease ended*, and in part; its outcome is committed once. Of those who did it the later
  one has the higher token: a store that refuses lower ones takes nothing from the earlier one.
- A claim whose lease has ended can be committed as long as nobody else has begun.
- Outcomes are pickled with cloudpickle, unless `encode` and `decode` are given: whoever can write
  to the ledger can have code run by whoever reads it, as in Ray itself. They are small: what is
  large is stored elsewhere, and its place is the outcome.
"""

from __future__ import annotations

import contextlib
import pickle
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import Future
from typing import Any, ClassVar, Generic, ParamSpec, TypeVar

from ray_paxos.actors.outcomes import Result
from ray_paxos.errors import ConfigurationError, NotYetError, WaitTimeoutError
from ray_paxos.group_clients import GroupClients
from ray_paxos.key_mapping import pickled
from ray_paxos.machines import ledger_messages as messages
from ray_paxos.machines.ledger_messages import (
    PAGE_KEYS_MAX,
    Forgotten,
    KeyState,
    Lost,
    Page,
    Running,
    Unknown,
    Won,
)
from ray_paxos.machines.ledgers import LENGTH_MAX, OUTCOME_BYTES_MAX
from ray_paxos.recipes.leases import KeptLease, boot_time_s
from ray_paxos.recipes.ledger_claims import Claim, Done
from ray_paxos.recipes.permit_recipe import own_label
from ray_paxos.recipes.recipe import (
    FOREVER_S,
    LEASE_S,
    TIMEOUT_S,
    Ask,
    Propose,
    Recipe,
    Send,
    Steps,
    WaitFor,
    check_label,
    check_number,
    deadline_of_wait,
    milliseconds_of,
    value_of,
)

__all__ = ["Claim", "Done", "Ledger", "Running", "Unknown"]

V = TypeVar("V")
P = ParamSpec("P")


class Ledger(Recipe, Generic[V]):
    """Outcomes by key. Made by `Cluster.ledger`.

    Attributes:
        lease_s: After so long an owner that says nothing is at its key no more.
    """

    machine: ClassVar[str] = "ledgers"

    def __init__(
        self,
        name: str,
        group: int,
        clients: GroupClients,
        *,
        lease_s: float = LEASE_S,
        encode: Callable[[V], bytes] = pickled,
        decode: Callable[[bytes], V] = pickle.loads,
    ) -> None:
        """Made by a cluster; sends nothing.

        Args:
            name: Its name.
            group: Which group has it.
            clients: Of the cluster's groups.
            lease_s: Of a claim, in seconds.
            encode: Makes bytes of an outcome.
            decode: Makes an outcome of them.

        Raises:
            ConfigurationError: An argument means nothing.
        """
        super().__init__(name, group, clients)
        milliseconds_of("lease_s", lease_s)
        self.lease_s = lease_s
        self._encode = encode
        self._decode = decode

    def _options(self) -> dict[str, Any]:
        return {"lease_s": self.lease_s, "encode": self._encode, "decode": self._decode}

    # To do the work of a key.

    def begin(
        self,
        key: str,
        *,
        lease_s: float | None = None,
        owner: str = "",
        on_lost: Callable[[], object] | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> Claim[V] | Done[V] | Running:
        """Claim the work of a key, if it is not done and nobody is at it.

        Args:
            key: Which.
            lease_s: Of the claim; by default the ledger's.
            owner: As whom: one name for one attempt, since two who share it share the claim. By
                default a name that nobody else has.
            on_lost: Called once, from another thread, if the lease is lost before the claim is
                committed or given up.
            timeout_s: How long to wait for an answer.

        Returns:
            The claim; or what the key came to; or who is at it.

        Raises:
            CommandError: There is no room for another key.
            RequestError: As `Client.propose`; what may be claimed ends with its lease.
            ConfigurationError: An argument means nothing; nothing was sent.
        """
        begun, _ = self._run(self._begin(key, lease_s, owner, on_lost, timeout_s))
        return begun

    async def begin_async(
        self,
        key: str,
        *,
        lease_s: float | None = None,
        owner: str = "",
        on_lost: Callable[[], object] | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> Claim[V] | Done[V] | Running:
        """As `begin`, in a coroutine; cancelled, it gives the claim up."""
        begun, _ = await self._run_async(self._begin(key, lease_s, owner, on_lost, timeout_s))
        return begun

    def _begin(
        self,
        key: str,
        lease_s: float | None,
        owner: str,
        on_lost: Callable[[], object] | None,
        timeout_s: float,
    ) -> Steps[tuple[Claim[V] | Done[V] | Running, int]]:
        """Begin; with the instance that says so."""
        _check_key("key", key, 1)
        check_label("owner", owner)
        lease_s = self.lease_s if lease_s is None else lease_s
        lease_ms = milliseconds_of("lease_s", lease_s)
        owner = owner or f"{own_label()}/{secrets.token_hex(8)}"
        sent_s = boot_time_s()
        command = messages.encode_begin(self.name, key, owner, lease_ms)
        asked = yield Propose(command, timeout_s, lambda answer: self._undo_begin(key, answer))
        answer = messages.decode_result(value_of(asked))
        if isinstance(answer, Won):
            lease = self._kept(key, answer.token, lease_s, sent_s, on_lost)
            return Claim(self, key, owner, answer.attempt, lease), asked.instance_id
        if isinstance(answer, Running):
            return answer, asked.instance_id
        assert isinstance(answer, messages.Done), "the result of a begin"
        return self._done(answer), asked.instance_id

    def _undo_begin(self, key: str, answer: Result) -> Send | None:
        """Who was interrupted while it began has no claim."""
        won = messages.decode_result(value_of(answer))
        if isinstance(won, Won):
            return Send(messages.encode_abort(self.name, key, won.token))
        return None

    def _kept(
        self,
        key: str,
        token: int,
        lease_s: float,
        sent_s: float,
        on_lost: Callable[[], object] | None,
    ) -> KeptLease:
        client = self._client
        renewal = messages.encode_renew(self.name, key, token, milliseconds_of("lease_s", lease_s))

        def renew() -> Future[Result]:
            return client.propose_async(renewal, self.machine, timeout_s=lease_s)

        def is_renewed(result: Result) -> bool:
            answer = messages.decode_result(value_of(result))
            if isinstance(answer, Lost) and isinstance(answer.now, messages.Done):
                # It was committed, and whoever did so has not heard of that yet.
                return answer.now.token == token
            return isinstance(answer, Won)

        return KeptLease(
            f"the claim of {key!r} in {self!r}",
            token,
            lease_s,
            renew,
            is_renewed,
            known_from_s=sent_s,
            on_lost=on_lost,
        )

    def run_once(
        self, key: str, function: Callable[P, V], /, *args: P.args, **kwargs: P.kwargs
    ) -> V:
        """Do the work of a key, or wait for whoever is at it; there is one outcome for ever.

        Whoever calls this for the key gets the same outcome, until it is forgotten. The function
        may run more than once, and in two places at a time, only where a lease ended: its process
        stood still for longer than `lease_s`, or died, or could not reach the group. If it raises,
        nothing is committed, and whoever waits runs it in its turn.

        Args:
            key: Which.
            function: Does the work.
            *args: For it.
            **kwargs: For it.

        Returns:
            The outcome: what the function returned, here or elsewhere.

        Raises:
            CommandError: There is no room for another key, or the outcome.
            RequestError: As `Client.propose`: calling it again tells what became of it.
            ConfigurationError: The key means nothing, and the function was not called; or its
                outcome cannot be encoded or is too large, and is not committed.
        """
        while True:
            found = self._run(self._begin_or_wait(key))
            if isinstance(found, Done):
                return found.outcome
            with found as claim:
                settled = self._run(claim._commit(function(*args, **kwargs), None, TIMEOUT_S))
            if isinstance(settled, Done):
                return settled.outcome
            # Another has begun meanwhile: its outcome is the one.

    async def run_once_async(
        self, key: str, function: Callable[P, Awaitable[V]], /, *args: P.args, **kwargs: P.kwargs
    ) -> V:
        """As `run_once`, of a coroutine function; cancelled, it leaves nothing behind."""
        while True:
            found = await self._run_async(self._begin_or_wait(key))
            if isinstance(found, Done):
                return found.outcome
            async with found as claim:
                outcome = await function(*args, **kwargs)
                settled = await self._run_async(claim._commit(outcome, None, TIMEOUT_S))
            if isinstance(settled, Done):
                return settled.outcome

    def _begin_or_wait(self, key: str) -> Steps[Claim[V] | Done[V]]:
        """Begin as soon as nobody is at the key, unless it is done."""
        while True:
            begun, instance_id = yield from self._begin(key, None, "", None, TIMEOUT_S)
            if not isinstance(begun, Running):
                return begun
            request = messages.encode_await_outcome(self.name, key)
            with contextlib.suppress(NotYetError):
                yield WaitFor(request, instance_id, FOREVER_S)

    # To read.

    def look(self, key: str, *, timeout_s: float = TIMEOUT_S) -> Done[V] | Running | Unknown:
        """What a key has come to, as of now.

        Args:
            key: Which.
            timeout_s: How long to try.

        Returns:
            What was committed; or who is at it; or that nobody is.

        Raises:
            QueryError: As `Client.query`.
            ConfigurationError: The key means nothing.
        """
        return self._run(self._look(key, timeout_s))

    async def look_async(
        self, key: str, *, timeout_s: float = TIMEOUT_S
    ) -> Done[V] | Running | Unknown:
        """As `look`, in a coroutine."""
        return await self._run_async(self._look(key, timeout_s))

    def _look(self, key: str, timeout_s: float) -> Steps[Done[V] | Running | Unknown]:
        _check_key("key", key, 1)
        answer = yield Ask(messages.encode_look(self.name, key), timeout_s)
        return self._decoded(messages.decode_key_state(value_of(answer)))

    def wait_for_outcome(self, key: str, *, timeout_s: float | None = None) -> Done[V] | None:
        """Wait for the outcome of who is at a key. Costs nothing while nothing happens.

        Args:
            key: Which.
            timeout_s: How long to wait; None for ever.

        Returns:
            What it came to; None once nobody is at it: to begin it, use `begin` or `run_once`.

        Raises:
            WaitTimeoutError: Somebody was at it all that time.
            QueryError: No member could be asked.
            ConfigurationError: An argument means nothing.
        """
        return self._run(self._wait_for_outcome(key, timeout_s))

    async def wait_for_outcome_async(
        self, key: str, *, timeout_s: float | None = None
    ) -> Done[V] | None:
        """As `wait_for_outcome`, in a coroutine."""
        return await self._run_async(self._wait_for_outcome(key, timeout_s))

    def _wait_for_outcome(self, key: str, timeout_s: float | None) -> Steps[Done[V] | None]:
        deadline_s = deadline_of_wait(timeout_s)
        at_least = 0
        while True:
            # What a wait gives may be from before the owner began, on a member that lags.
            state = yield from self._look(key, TIMEOUT_S)
            if not isinstance(state, Running):
                return state if isinstance(state, Done) else None
            request = messages.encode_await_outcome(self.name, key)
            try:
                waited = yield WaitFor(request, at_least, max(deadline_s - boot_time_s(), 0.0))
            except NotYetError as error:
                raise WaitTimeoutError(
                    f"{state.owner!r} was at {key!r} of {self!r} all that time"
                ) from error
            at_least = waited.instance_id + 1

    def keys(
        self, prefix: str = "", *, page_keys: int = PAGE_KEYS_MAX, timeout_s: float = TIMEOUT_S
    ) -> Iterator[tuple[str, Done[V] | Running | Unknown]]:
        """The keys that are known, in order, each with what it has come to.

        Each page is read when it is come to, and is as of then.

        Args:
            prefix: Only those that begin with it.
            page_keys: So many are asked for at a time.
            timeout_s: How long to try for each page.

        Returns:
            An iterator over them; raises as `look`.

        Raises:
            ConfigurationError: An argument means nothing.
        """
        _check_key("prefix", prefix, 0)
        check_number("page_keys", page_keys, 1, PAGE_KEYS_MAX)
        return self._keys(prefix, page_keys, timeout_s)

    def _keys(
        self, prefix: str, page_keys: int, timeout_s: float
    ) -> Iterator[tuple[str, Done[V] | Running | Unknown]]:
        after: str | None = ""
        while after is not None:
            page = self._run(self._page(prefix, after, page_keys, timeout_s))
            for key, state in page.keys:
                yield key, self._decoded(state)
            after = page.next_after

    async def keys_async(
        self, prefix: str = "", *, page_keys: int = PAGE_KEYS_MAX, timeout_s: float = TIMEOUT_S
    ) -> AsyncIterator[tuple[str, Done[V] | Running | Unknown]]:
        """As `keys`, in a coroutine."""
        _check_key("prefix", prefix, 0)
        check_number("page_keys", page_keys, 1, PAGE_KEYS_MAX)
        after: str | None = ""
        while after is not None:
            page = await self._run_async(self._page(prefix, after, page_keys, timeout_s))
            for key, state in page.keys:
                yield key, self._decoded(state)
            after = page.next_after

    def _page(self, prefix: str, after: str, page_keys: int, timeout_s: float) -> Steps[Page]:
        request = messages.encode_list_keys(self.name, prefix, after, page_keys)
        return messages.decode_page(value_of((yield Ask(request, timeout_s))))

    # To forget.

    def forget(self, key: str, *, timeout_s: float = TIMEOUT_S) -> bool:
        """Forget the outcome of a key that is done, so that its work can be done again.

        Args:
            key: Which.
            timeout_s: How long to wait.

        Returns:
            Whether it was done; if not, it is as before.

        Raises:
            RequestError: As `Client.propose`.
            ConfigurationError: The key means nothing; nothing was sent.
        """
        return self._run(self._forget(key, timeout_s))

    async def forget_async(self, key: str, *, timeout_s: float = TIMEOUT_S) -> bool:
        """As `forget`, in a coroutine."""
        return await self._run_async(self._forget(key, timeout_s))

    def _forget(self, key: str, timeout_s: float) -> Steps[bool]:
        _check_key("key", key, 1)
        answer = yield Propose(messages.encode_forget(self.name, key), timeout_s)
        forgotten = messages.decode_result(value_of(answer))
        return isinstance(forgotten, Forgotten) and forgotten.was_done

    # What they are made of.

    def _encoded(self, outcome: V) -> bytes:
        encoded = self._encode(outcome)
        if type(encoded) is not bytes or len(encoded) > OUTCOME_BYTES_MAX:
            size = f"{len(encoded)} bytes" if type(encoded) is bytes else type(encoded).__qualname__
            raise ConfigurationError(
                f"outcome: found {size}; allowed: up to {OUTCOME_BYTES_MAX} bytes, once encoded; "
                "store what is larger elsewhere, and let its place be the outcome"
            )
        return encoded

    def _decoded(self, state: KeyState) -> Done[V] | Running | Unknown:
        return self._done(state) if isinstance(state, messages.Done) else state

    def _done(self, state: messages.Done) -> Done[V]:
        return Done(self._decode(state.outcome), state.owner, state.attempt, state.token)


def _check_key(what: str, key: object, least: int) -> None:
    is_text = isinstance(key, str) and least <= len(key) <= LENGTH_MAX
    if not is_text or any("\ud800" <= each <= "\udfff" for each in str(key)):
        raise ConfigurationError(
            f"{what}: found {key!r:.80}; allowed: text of {least} to {LENGTH_MAX} characters"
        )
