"""Replicated objects: any class, run on all members.

```python
class Inventory(ray_paxos.Replicated):
    def __init__(self, items: Mapping[str, int] = {}) -> None:
        self._stock = dict(items)

    @ray_paxos.command
    def take(self, item: str, count: int) -> int:
        self._stock[item] -= count
        return self._stock[item]

    @ray_paxos.query
    def count(self, item: str) -> int:
        return self._stock.get(item, 0)
```

Rules for what is written in such a class:

1. A `command` runs on every member, in the order of the log, once. It changes `self` and nothing
   else, and uses its arguments, `self` and `self.context` and nothing else: no clock, no
   randomness, no files or network, no `id`, `hash` or `is` of data, no iteration over sets, nothing
   kept in the class or its module. `self.context` has time, randomness and ids for it.
2. A `query` runs on one member and changes nothing.
3. What a command raises is its result, and is raised again at the caller. What it changed before
   stays changed, unless it is `command(atomic=True)`, which is undone as a whole.
4. The class travels in the log, with all of the caller's own code that it mentions
   (`class_shipping` says how); installed packages are imported on members, and have to be the same
   on all of them. Code that has changed does nothing until `version` is raised and `upgrade`
   called: then all members switch at once.
5. `checks_determinism = True` in the class lets each command run twice, on copies of which one
   holds its sets in another order, and refuses what comes out differently. For tests: it costs two
   copies of the object for each command.
"""

from __future__ import annotations

import functools
import inspect
import random
import threading
import uuid
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from hashlib import blake2b
from types import FunctionType
from typing import Any, ClassVar, Concatenate, NamedTuple, ParamSpec, Protocol, TypeVar, overload

from ray_paxos.errors import ConfigurationError

P = ParamSpec("P")
R = TypeVar("R", covariant=True)
T = TypeVar("T")
N = TypeVar("N", bound="Replicated")

LOG_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
"""`CommandContext.now` at a group's first entry."""
_MARK = "__replicated__"
_RESERVED = ("context", "describe", "drop", "upgrade")
_running = threading.local()


class BoundMethod(Protocol[P, R]):
    """What `stock.take` is for a type checker."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run it, and wait for what it returns."""

    def asynchronously(self, *args: P.args, **kwargs: P.kwargs) -> Awaitable[R]:
        """Run it; to be awaited. Of a handle only."""

    def submit(self, *args: P.args, **kwargs: P.kwargs) -> Future[Any]:
        """Run it; a future for what it returns. Of a handle only."""


class Method(Protocol[P, R]):
    """What `Inventory.take` is for a type checker; at run time it is the function itself."""

    @overload
    def __get__(self, instance: None, owner: type, /) -> Callable[Concatenate[Any, P], R]: ...
    @overload
    def __get__(self, instance: object, owner: type, /) -> BoundMethod[P, R]: ...


class Mark(NamedTuple):
    """What a decorator notes at a function: "command" or "query"."""

    kind: str
    is_atomic: bool = False


@overload
def command(function: Callable[Concatenate[Any, P], R], /) -> Method[P, R]: ...
@overload
def command(
    *, atomic: bool = False
) -> Callable[[Callable[Concatenate[Any, P], T]], Method[P, T]]: ...
def command(function: Callable[..., Any] | None = None, /, *, atomic: bool = False) -> Any:
    """Let a method run through the log, on every member.

    Args:
        function: The method.
        atomic: Undo all that it has changed where it raises. That costs a copy of the object for
            each command: 7 us for a small one, 0.2 ms for one of 1,000 numbers by text.

    Returns:
        The method itself; of a handle, the call.

    Raises:
        ConfigurationError: It is a coroutine function, a generator, no plain method, or its name
            starts with an underscore.
    """
    if function is None:
        return lambda decorated: _marked(decorated, Mark("command", atomic))
    return _marked(function, Mark("command", atomic))


def query(function: Callable[Concatenate[Any, P], R], /) -> Method[P, R]:
    """Let a method run on one member, as a read. It must not change the object.

    Args:
        function: The method.

    Returns:
        As `command`.

    Raises:
        ConfigurationError: As `command`.
    """
    marked: Method[P, R] = _marked(function, Mark("query"))
    return marked


def _marked(function: Any, mark: Mark) -> Any:
    name = getattr(function, "__name__", type(function).__qualname__)
    problem = ""
    if not isinstance(function, FunctionType):
        problem = f"it is a {type(function).__qualname__}; only plain methods can run on members"
    elif inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        problem = "it is a coroutine function; a member waits for nothing, so make it a plain `def`"
    elif inspect.isgeneratorfunction(function):
        problem = "it is a generator; return a list"
    elif name.startswith("_"):
        problem = "its name starts with an underscore; only public methods can be called"
    elif name in _RESERVED:
        problem = "a handle has that name for itself; choose another"
    if problem:
        raise ConfigurationError(f"@{mark.kind} on {name!r}: {problem}")
    setattr(function, _MARK, mark)
    return function


def mark_of(attribute: object) -> Mark | None:
    """What a decorator noted at a class's attribute."""
    mark = getattr(attribute, _MARK, None) if isinstance(attribute, FunctionType) else None
    return mark if isinstance(mark, Mark) else None


def methods_of(cls: type) -> dict[str, tuple[Callable[..., Any], Mark]]:
    """The commands and queries of a class, by name, sorted."""
    found = {}
    for name in sorted(set(dir(cls))):
        attribute = inspect.getattr_static(cls, name)
        mark = mark_of(attribute)
        if mark is not None:
            found[name] = (attribute, mark)
    return found


class CommandContext:
    """Where in the log a command stands, and what may differ from one run to the next.

    The same on all members.

    Attributes:
        instance_id: Of the log, from 1; with `index` unique in the group, and rising.
        index: The command's row in it.
        now_ns: The group's own time: nanoseconds since its first entry. It never falls, and stands
            still while the group has no master. It is not the time of day; pass that as an
            argument where it is needed.
    """

    def __init__(self, name: str, instance_id: int, index: int, log_time_ns: int) -> None:
        """Of one command on the object of that name."""
        self._name = name
        self.instance_id = instance_id
        self.index = index
        self.now_ns = log_time_ns

    @property
    def now(self) -> datetime:
        """`now_ns` as a date, as if the group had begun at `LOG_EPOCH`; for differences."""
        return LOG_EPOCH + timedelta(microseconds=self.now_ns // 1_000)

    @functools.cached_property
    def random(self) -> random.Random:
        """A generator for this command alone; nobody's secret."""
        place = f"{self.instance_id}/{self.index}/{self._name}".encode()
        return random.Random(int.from_bytes(blake2b(place, digest_size=16).digest(), "big"))

    def uuid4(self) -> uuid.UUID:
        """A new id, made with `random`."""
        return uuid.UUID(int=self.random.getrandbits(128), version=4)


@contextmanager
def running(context: CommandContext) -> Iterator[None]:
    """Let a command on this thread have its context."""
    _running.context = context
    try:
        yield
    finally:
        _running.context = None


class Replicated:
    """Base of all replicated objects; see the module's text.

    Attributes:
        version: Of the class: raise it with each change, and call `upgrade`.
        checks_determinism: See rule 5.
        shipped_types: Classes that are sent with it though neither its methods nor their
            annotations mention them, such as those of items of arguments.
    """

    version: ClassVar[int] = 1
    checks_determinism: ClassVar[bool] = False
    shipped_types: ClassVar[tuple[type, ...]] = ()

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for name, attribute in vars(cls).items():
            inner = getattr(attribute, "__func__", getattr(attribute, "fget", None))
            mark = mark_of(attribute) or mark_of(inner)
            where = f"{cls.__qualname__}.{name}"
            if name in _RESERVED:
                raise ConfigurationError(f"{where}: a handle has that name; choose another")
            if mark is not None and mark_of(attribute) is None:
                kind = type(attribute).__qualname__
                raise ConfigurationError(f"@{mark.kind} on {where}: it is a {kind}; allowed: def")
            if mark is not None and name.startswith("_"):
                raise ConfigurationError(f"@{mark.kind} on {where}: only public names can be it")

    @property
    def context(self) -> CommandContext:
        """Of the command that runs.

        Raises:
            ConfigurationError: No command runs.
        """
        context = getattr(_running, "context", None)
        if not isinstance(context, CommandContext):
            raise ConfigurationError(
                f"{type(self).__qualname__}.context: no command runs here; only a method with "
                "@command and the constructor, run on a member, have one"
            )
        return context

    def upgrade(self, cls: type[N], migrate: Callable[[dict[str, Any]], Any] | None = None) -> N:
        """Let the object be of another class from here on, on all members at one instance.

        Args:
            cls: The new class, of a higher `version`.
            migrate: From the old attributes to the new ones, or to an instance of `cls`; it runs
                on each member, under the rules of a command. None for the same attributes.

        Returns:
            A handle of the new class.

        Raises:
            CommandError: The object is not of the version that this handle was made for, or the
                class cannot be loaded there; nothing has changed.
            Exception: What `migrate` raised; nothing has changed.
        """
        raise self._no_handle("upgrade")

    def drop(self) -> bool:
        """Let there be no such object; whether there was one."""
        raise self._no_handle("drop")

    def describe(self) -> Any:
        """Class, version and methods as they are on members: a `Description`."""
        raise self._no_handle("describe")

    def _no_handle(self, what: str) -> ConfigurationError:
        return ConfigurationError(
            f"{what}: of a handle only; this {type(self).__qualname__} is none"
        )
