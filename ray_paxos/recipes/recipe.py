"""What all recipes share: where one lives, how it is asked, from threads and from coroutines.

A *recipe* is a handle of something that a state machine holds under a name: a lock, a queue, a
ledger. It holds nothing itself. What one is asked for is written once, as *steps*: a generator that
yields what to propose, ask or wait for, and is sent what came of it. `run` sees steps through in
the calling thread, `run_async` in a coroutine.

```
 lock.acquire()       ── run ───────▶ ┌ steps: propose Acquire ─▶ Waiting
 lock.acquire_async() ── run_async ─▶ └        wait for Await  ─▶ Granted ─▶ return Grant
```

Every recipe belongs to one group for ever: the one that was named, or the one that the hash of its
name gives among the groups of the space `recipes` (`core.spaces`), which is made with the first
recipe of a cluster and never changes. So whoever asks for a name gets the same thing.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import Callable, Generator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias, TypeVar

from ray_paxos.actors.client_arguments import deadline_of
from ray_paxos.actors.outcomes import Result
from ray_paxos.client import Client
from ray_paxos.errors import CommandError, ConfigurationError, PaxosError, QueryError
from ray_paxos.group_clients import GroupClients, shared_clients
from ray_paxos.recipes.leases import boot_time_s

T = TypeVar("T")

TIMEOUT_S = 30.0
"""How long one command or read of a recipe may take, unless the caller says otherwise."""
FOREVER_S = 1e9
LEASE_S = 30.0
"""Of a piece of work that somebody is at, where nobody says otherwise."""
SEND_TIMEOUT_S = 1.0
"""How long to wait for room for what nobody waits for."""
NAME_BYTES_MAX = 480
"""Machines take 500 characters, of which some say what kind of recipe it is."""


@dataclass(frozen=True, slots=True)
class Propose:
    """Step: submit a command, and go on with its result.

    Attributes:
        command: For the machine.
        timeout_s: How long to wait for the result.
        undo: What to send once there is a result after all, where the caller was interrupted while
            it waited for it; None for nothing.
    """

    command: bytes
    timeout_s: float = TIMEOUT_S
    undo: Callable[[Result], Send | None] | None = None


@dataclass(frozen=True, slots=True)
class Send:
    """Step: submit a command, and go on without its result: whatever comes of it is as well.

    Attributes:
        command: For the machine.
        undo: What to send after its result; None for nothing.
    """

    command: bytes
    undo: Callable[[Result], Send | None] | None = None


@dataclass(frozen=True, slots=True)
class Ask:
    """Step: read, linearizably."""

    request: bytes
    timeout_s: float = TIMEOUT_S


@dataclass(frozen=True, slots=True)
class WaitFor:
    """Step: read as soon as there is an answer, as of an instance or later.

    Attributes:
        request: For the machine.
        at_least: The instance; None for what this process's client was acknowledged last.
        timeout_s: How long to wait.
    """

    request: bytes
    at_least: int | None
    timeout_s: float


Step: TypeAlias = Propose | Send | Ask | WaitFor
Steps: TypeAlias = Generator[Step, Result, T]


class Recipe:
    """Base of the recipes. May be used by several threads and coroutines; pickles as a handle.

    Attributes:
        machine: Of the group, where it lives; of the kind of the same name.
        name: Its name.
        group: Number of the group that has it.
    """

    machine: ClassVar[str]

    def __init__(self, name: str, group: int, clients: GroupClients) -> None:
        """Made by a cluster; sends nothing.

        Args:
            name: Its name.
            group: Which group has it.
            clients: Of the cluster's groups.

        Raises:
            ConfigurationError: It is no name.
        """
        check_recipe_name(name)
        self.name = name
        self.group = group
        self._clients = clients

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, group={self.group})"

    def _options(self) -> dict[str, Any]:
        """What `__init__` takes beside the name, the group and the clients."""
        return {}

    def __reduce__(self) -> tuple[object, ...]:
        arguments = (type(self), self.name, self.group, self._clients.spec, self._options())
        return (_arrived, arguments)

    @property
    def _client(self) -> Client:
        return self._clients.at(self.group)

    def _run(self, steps: Steps[T]) -> T:
        """See steps through in this thread."""
        try:
            step: Step = next(steps)
            while True:
                try:
                    result = self._do(step)
                except BaseException as error:
                    # Whatever it is, the steps see to what they have begun, and raise it again.
                    step = steps.throw(self._explained(error))
                else:
                    step = steps.send(result)
        except StopIteration as end:
            value: T = end.value
            return value
        except BaseException as error:
            self._see_off(steps, error)
            raise

    async def _run_async(self, steps: Steps[T]) -> T:
        """See steps through in this coroutine."""
        try:
            step: Step = next(steps)
            while True:
                try:
                    result = await self._do_async(step)
                except BaseException as error:
                    # As in `_run`; also where the coroutine is cancelled.
                    step = steps.throw(self._explained(error))
                else:
                    step = steps.send(result)
        except StopIteration as end:
            value: T = end.value
            return value
        except BaseException as error:
            self._see_off(steps, error)
            raise

    def _see_off(self, steps: Steps[T], error: BaseException) -> None:
        """Where an interrupt came between two steps, they see to what they have begun."""
        if inspect.getgeneratorstate(steps) != inspect.GEN_SUSPENDED:
            return
        with contextlib.suppress(BaseException):
            step = steps.throw(error)
            while isinstance(step, Send):
                _send(self._client, step, self.machine)
                step = steps.send(_NOTHING)

    def _do(self, step: Step) -> Result:
        client, machine = self._client, self.machine
        match step:
            case Propose(undo=None):
                return client.propose(step.command, machine, timeout_s=step.timeout_s)
            case Propose():
                future = client.propose_async(step.command, machine, timeout_s=step.timeout_s)
                try:
                    return future.result()
                except BaseException:
                    _undo_later(client, machine, future, step.undo)
                    raise
            case Ask():
                answer = client.query(step.request, machine, timeout_s=step.timeout_s)
                return Result(answer, 0, 0)
            case WaitFor():
                return client.wait_for(
                    step.request, machine, at_least=step.at_least, timeout_s=step.timeout_s
                )
            case Send():
                _send(client, step, machine)
                return _NOTHING

    async def _do_async(self, step: Step) -> Result:
        client, machine = self._client, self.machine
        match step:
            case Propose():
                future = client.propose_async(step.command, machine, timeout_s=step.timeout_s)
                try:
                    return await asyncio.wrap_future(future)
                except BaseException:
                    _undo_later(client, machine, future, step.undo)
                    raise
            case Ask():
                asked = client.query_async(step.request, machine, timeout_s=step.timeout_s)
                answer: bytes = await asyncio.wrap_future(asked)
                return Result(answer, 0, 0)
            case WaitFor():
                waited = client.wait_for_async(
                    step.request, machine, at_least=step.at_least, timeout_s=step.timeout_s
                )
                return await asyncio.wrap_future(waited)
            case Send():
                _send(client, step, machine)
                return _NOTHING

    def _explained(self, error: BaseException) -> BaseException:
        if isinstance(error, CommandError | QueryError) and "has no machine" in str(error):
            return ConfigurationError(
                f"{self!r}: {error}: name it under `machines` where the group is made "
                f"(`{self.machine}: {self.machine}`), or use another group"
            )
        return error


_NOTHING = Result(None, 0, 0)


def _send(client: Client, send: Send, machine: str) -> None:
    # What it would undo ends by itself, somewhat later.
    with contextlib.suppress(PaxosError):
        future = client.propose_async(send.command, machine, timeout_s=SEND_TIMEOUT_S)
        _undo_later(client, machine, future, send.undo)


def _undo_later(
    client: Client,
    machine: str,
    future: Future[Result],
    undo: Callable[[Result], Send | None] | None,
) -> None:
    """Nobody waits for a result any more: once it is there, send what undoes it."""
    if undo is None:
        return

    def on_done(done: Future[Result]) -> None:
        if done.cancelled() or done.exception() is not None:
            return
        send = undo(done.result())
        if send is not None:
            _send(client, send, machine)

    future.add_done_callback(on_done)


def value_of(result: Result) -> bytes:
    """The bytes that a machine's command returned."""
    assert result.value is not None, "machines of recipes return bytes"
    return result.value


def hiding_nothing(error: BaseException | None) -> contextlib.AbstractContextManager[None]:
    """An error that is on its way is not hidden by one of giving up, which happens in time."""
    return contextlib.suppress(PaxosError) if error is not None else contextlib.nullcontext()


def check_recipe_name(name: object) -> None:
    """Refuse what is no name of a recipe.

    Raises:
        ConfigurationError: It says what is.
    """
    _check_text("name", name, 1, NAME_BYTES_MAX)


def check_label(what: str, label: object, bytes_max: int = NAME_BYTES_MAX) -> None:
    """Refuse what is no name for a person; "" is one that is made by default.

    Raises:
        ConfigurationError: It says what is.
    """
    _check_text(what, label, 0, bytes_max)


def _check_text(what: str, text: object, least: int, most: int) -> None:
    # What cannot be encoded is not printable either.
    is_text = isinstance(text, str) and text.isprintable()
    if not is_text or not least <= len(str(text).encode("utf-8", "replace")) <= most:
        raise ConfigurationError(
            f"{what}: found {text!r:.80}; allowed: text without control characters, {least} to "
            f"{most} bytes"
        )


def check_number(what: str, number: object, least: int, most: int) -> None:
    """Refuse what is no whole number within limits.

    Raises:
        ConfigurationError: It says what is.
    """
    if type(number) is not int or not least <= number <= most:
        raise ConfigurationError(
            f"{what}: found {number!r:.80}; allowed: a whole number from {least} to {most}"
        )


def milliseconds_of(what: str, seconds: float, *, least_ms: int = 1) -> int:
    """A time that a user gives, in whole milliseconds, rounded up.

    Raises:
        ConfigurationError: It means nothing.
    """
    limit_s = 1e9
    is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if not is_number or not least_ms / 1_000 <= seconds <= limit_s:
        raise ConfigurationError(
            f"{what}: found {seconds!r}; allowed: seconds from {least_ms / 1_000:g} to {limit_s:g}"
        )
    return max(least_ms, -int(-seconds * 1_000 // 1))


def deadline_of_wait(timeout_s: float | None) -> float:
    """When a wait is over, on the clock of `boot_time_s`; None is for ever.

    Raises:
        ConfigurationError: It is no time to wait.
    """
    check_timeout(timeout_s)
    return boot_time_s() + (FOREVER_S if timeout_s is None else timeout_s)


def check_timeout(timeout_s: float | None) -> None:
    """Refuse what is no time to wait; None is for ever.

    Raises:
        ConfigurationError: It is none.
    """
    if timeout_s is not None:
        deadline_of(timeout_s)


def _arrived(
    kind: type[Recipe], name: str, group: int, spec: bytes, options: dict[str, Any]
) -> Recipe:
    """A handle that was pickled; all of one cluster share their clients in this process."""
    return kind(name, group, shared_clients(spec), **options)
