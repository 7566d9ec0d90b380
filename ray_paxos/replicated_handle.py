"""The caller's side of a replicated object: a handle whose methods run on members.

```
stock.take("bolt", 3) ── check arguments ── encode ── propose ──▶ log ──▶ ObjectsMachine
                      ◀── decode, or raise ──────────────────────  result
```

Rules:

1. What is wrong with a call as it stands (a method that is none, arguments that do not fit it or
   cannot be sent) is raised here, and nothing is submitted.
2. The class is sent only if there is no object of the name yet, or to upgrade it. An object that is
   there has to be of the same class name and version; its constructor's arguments are not looked
   at then.
3. What a method raised on members is raised here, of the same class where that is known here, and
   else as `CommandError` or `QueryError`; its cause says where it comes from.

How commands get into a log is not said here: a handle talks to an `ObjectChannel`. For tests of
one's classes there is one that runs a machine in this process (`testing.local_objects`).
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Any, NoReturn, ParamSpec, Protocol, TypeVar, runtime_checkable

from ray_paxos.class_shipping import pickled_by_value, ship, types_of
from ray_paxos.errors import CommandError, ConfigurationError, PaxosError, QueryError
from ray_paxos.machines.object_messages import (
    Ask,
    Call,
    Create,
    Describe,
    Description,
    Drop,
    Dropped,
    ListObjects,
    Names,
    ObjectAnswer,
    ObjectResult,
    Raised,
    Returned,
    Upgrade,
    decode_answer,
    decode_result,
    encode,
)
from ray_paxos.machines.object_values import NotDataError, Types, decode_value, encode_value
from ray_paxos.replicated import Mark, Replicated, mark_of, methods_of

P = ParamSpec("P")
T = TypeVar("T")
N = TypeVar("N", bound=Replicated)

PAGE_NAMES = 1_000
_OWN = ("describe", "drop", "upgrade")


class ObjectChannel(Protocol):
    """The way to an objects machine."""

    def propose(self, command: bytes) -> bytes | None:
        """Let members execute a command; its result. Raises as `Client.propose`."""

    def query(self, request: bytes) -> bytes:
        """Let a member answer a query. Raises as `Client.query`."""


@runtime_checkable
class AsyncObjectChannel(Protocol):
    """What a channel has besides where calls need not wait."""

    def propose_async(self, command: bytes) -> Future[bytes | None]:
        """As `propose`; in the order of the calls."""

    def query_async(self, request: bytes) -> Future[bytes]:
        """As `query`."""


class NoSuchMethodError(ConfigurationError, AttributeError):
    """A handle has no such method; says why, and nothing was submitted."""


def open_replicated(
    channel: ObjectChannel, cls: Callable[P, T], name: str, /, *args: P.args, **kwargs: P.kwargs
) -> T:
    """Find a replicated object, or make it.

    Args:
        channel: To the machine that has it, or is to have it.
        cls: Its class, a `Replicated`.
        name: Of the object.
        args: Of the constructor, which runs on members if there is no such object.
        kwargs: Also.

    Returns:
        A handle, which has the commands and queries of the class.

    Raises:
        ConfigurationError: The class, the name or an argument cannot be sent; nothing has happened.
        TypeError: The arguments do not fit the constructor; nothing has happened.
        CommandError: The object is of another class or version; or the class cannot be loaded.
        Exception: What the constructor raised; there is no such object then.
    """
    checked = _checked_class(cls)
    if not isinstance(name, str) or not name:
        raise ConfigurationError(f"name: found {name!r}; allowed: text, not empty")
    types = types_of(checked)
    handle: Any = Handle(channel, checked, name, types)
    found = handle.describe()
    if found.class_name:
        _check_same(found, checked, name)
        return handle  # type: ignore[no-any-return]
    inspect.signature(checked).bind(*args, **kwargs)
    arguments = _encoded(args, kwargs, types, f"{checked.__qualname__}.__init__")
    create = Create(name, checked.__qualname__, checked.version, ship(checked, types), arguments)
    result = _result(channel.propose(encode(create)))
    if isinstance(result, Raised):
        _raise(result, types, f"{checked.__qualname__}.__init__ of object {name!r}", CommandError)
    return handle  # type: ignore[no-any-return]


def upgrade_replicated(
    channel: ObjectChannel,
    cls: type[N],
    name: str,
    from_version: int,
    migrate: Callable[[dict[str, Any]], Any] | None = None,
) -> N:
    """Let an object be of another class; where the old class is not at hand. See `upgrade` there.

    Args:
        channel: To the machine that has it.
        cls: The new class.
        name: Of the object.
        from_version: The version that it has to have now.
        migrate: See `Replicated.upgrade`.

    Returns:
        A handle of the new class.

    Raises:
        Exception: As `Replicated.upgrade`.
    """
    checked = _checked_class(cls)
    types = types_of(checked, migrate)
    migration = b"" if migrate is None else pickled_by_value(migrate, types)
    bundle = ship(checked, types)
    command = Upgrade(name, from_version, checked.__qualname__, checked.version, bundle, migration)
    result = _result(channel.propose(encode(command)))
    if isinstance(result, Raised):
        _raise(result, types, f"the upgrade of object {name!r}", CommandError)
    handle: Any = Handle(channel, checked, name, types)
    return handle  # type: ignore[no-any-return]


def object_names(channel: ObjectChannel) -> list[str]:
    """Names of all objects of a machine, in ascending order; asked for page by page."""
    names: list[str] = []
    while True:
        after = names[-1] if names else ""
        page = decode_answer(channel.query(encode(ListObjects(after, PAGE_NAMES))))
        assert isinstance(page, Names), "what the machine answers to a list"
        names += page.names
        if not page.has_more:
            return names


class Handle:
    """What `open_replicated` returns: has the methods of the class, and runs them on members.

    For type checkers it is an instance of the class; it is none at run time, and holds no state.
    It can be pickled where its channel has a method `reduced(cls, name)`, which returns what
    `__reduce__` is to return.
    """

    def __init__(
        self, channel: ObjectChannel, cls: type[Replicated], name: str, types: Types | None = None
    ) -> None:
        """Ask nothing yet.

        Args:
            channel: To its machine.
            cls: The class that the object has.
            name: Of the object.
            types: What `types_of` says of the class, where that is known already.
        """
        own = vars(self)
        own["_channel"], own["_class"], own["_name"] = channel, cls, name
        own["_types"] = types if types is not None else types_of(cls)

    def __repr__(self) -> str:
        return (
            f"<replicated {self._class.__qualname__} {self._name!r}, version {self._class.version}>"
        )

    def __dir__(self) -> list[str]:
        return sorted({*methods_of(self._class), *_OWN})

    def __reduce__(self) -> Any:
        reduced = getattr(self._channel, "reduced", None)
        if reduced is None:
            raise ConfigurationError(
                f"{self!r} cannot be pickled: its channel stays in its process"
            )
        return reduced(self._class, self._name)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise ConfigurationError(
            f"{self._class.__qualname__}.{name} cannot be set on a handle: the object is on its "
            "members; write a method with @command"
        )

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            # Of Python's own protocols: copying, pickling, inspection.
            raise AttributeError(f"a handle has no {name}")
        attribute = inspect.getattr_static(self._class, name, None)
        mark = mark_of(attribute)
        if mark is None:
            raise NoSuchMethodError(self._no_method(name, attribute))
        function: Any = attribute
        call = _call(self, name, function, mark)
        vars(self)[name] = call
        return call

    def _no_method(self, name: str, attribute: object) -> str:
        where = f"{self._class.__qualname__}.{name}"
        if callable(attribute) or isinstance(attribute, property | staticmethod | classmethod):
            return (
                f"{where} has neither @command nor @query, so that it is not known whether it "
                "changes the object; give it one of them, raise `version` and upgrade"
            )
        methods = ", ".join(methods_of(self._class)) or "none"
        return (
            f"{where}: there is no such method (it has: {methods}); attributes are on members: "
            "read them in a method with @query"
        )

    def describe(self) -> Description:
        """The class, version and methods that the object has on members."""
        answer = decode_answer(self._channel.query(encode(Describe(self._name))))
        assert isinstance(answer, Description), "what the machine answers to a describe"
        return answer

    def drop(self) -> bool:
        """Let there be no such object; whether there was one."""
        result = _result(self._channel.propose(encode(Drop(self._name))))
        assert isinstance(result, Dropped), "what the machine answers to a drop"
        return result.existed

    def upgrade(self, cls: type[N], migrate: Callable[[dict[str, Any]], Any] | None = None) -> N:
        """See `Replicated.upgrade`."""
        version = self._class.version
        return upgrade_replicated(self._channel, cls, self._name, version, migrate)


def _call(handle: Handle, name: str, function: Callable[..., Any], mark: Mark) -> Any:
    """A method of a handle."""
    full = inspect.signature(function)
    own = full.replace(parameters=list(full.parameters.values())[1:])
    channel, types = handle._channel, handle._types
    where = f"{handle._class.__qualname__}.{name}"
    of_object = f"{where} of object {handle._name!r}"
    is_command = mark.kind == "command"

    def encoded(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        try:
            own.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{where}: {error}") from None
        arguments = _encoded(args, kwargs, types, where)
        kind = Call if is_command else Ask
        return encode(kind(handle._name, name, arguments))

    def decoded(data: bytes | None) -> Any:
        error_class = CommandError if is_command else QueryError
        outcome = _result(data) if is_command else decode_answer(data or b"")
        return _value(outcome, types, of_object, error_class)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        request = encoded(args, kwargs)
        return decoded(channel.propose(request) if is_command else channel.query(request))

    def submit(*args: Any, **kwargs: Any) -> Future[Any]:
        if not isinstance(channel, AsyncObjectChannel):
            raise ConfigurationError(f"{where}: this channel waits for each call; call it as such")
        request = encoded(args, kwargs)
        asked: Future[Any] = (
            channel.propose_async(request) if is_command else channel.query_async(request)
        )
        return _mapped(asked, decoded)

    def asynchronously(*args: Any, **kwargs: Any) -> Awaitable[Any]:
        return asyncio.wrap_future(submit(*args, **kwargs))

    built: Any = call
    built.__signature__ = own
    built.submit, built.asynchronously = submit, asynchronously
    return built


def _mapped(asked: Future[Any], decoded: Callable[[Any], Any]) -> Future[Any]:
    """A future for what is in the answer."""
    answered: Future[Any] = Future()

    def on_answer(done: Future[Any]) -> None:
        if not answered.set_running_or_notify_cancel():
            return
        try:
            answered.set_result(decoded(done.result()))
        except BaseException as error:  # whatever it is, who waits gets it
            answered.set_exception(error)

    asked.add_done_callback(on_answer)
    return answered


def _checked_class(cls: Any) -> type[Replicated]:
    if not isinstance(cls, type) or not issubclass(cls, Replicated):
        raise ConfigurationError(f"cls: found {cls!r}; allowed: a class of ray_paxos.Replicated")
    version = cls.version
    if type(version) is not int or version < 1:
        raise ConfigurationError(
            f"{cls.__qualname__}.version: found {version!r}; allowed: 1, 2, .."
        )
    if not methods_of(cls):
        raise ConfigurationError(
            f"{cls.__qualname__} has no method with @command or @query, so nothing can be called"
        )
    return cls


def _check_same(found: Description, cls: type[Replicated], name: str) -> None:
    if (found.class_name, found.version) != (cls.__qualname__, cls.version):
        raise CommandError(
            f"object {name!r} is a {found.class_name} of version {found.version}, not a "
            f"{cls.__qualname__} of version {cls.version}: open it as what it is, `upgrade` it to "
            "a higher version, or choose another name; nothing has changed"
        )


def _encoded(args: tuple[Any, ...], kwargs: dict[str, Any], types: Types, where: str) -> bytes:
    parts = [*((f"argument {at}", each) for at, each in enumerate(args, 1)), *kwargs.items()]
    try:
        return encode_value((args, kwargs), types)
    except NotDataError:
        for what, each in parts:
            try:
                encode_value(each, types)
            except NotDataError as error:
                raise ConfigurationError(
                    f"{where}: {what} cannot be sent to members: it holds {error}; nothing was "
                    "submitted"
                ) from error
        raise


def _result(data: bytes | None) -> ObjectResult:
    return decode_result(data or b"")


def _value(
    outcome: ObjectResult | ObjectAnswer, types: Types, where: str, error_class: type[PaxosError]
) -> Any:
    if isinstance(outcome, Raised):
        _raise(outcome, types, where, error_class)
    assert isinstance(outcome, Returned), "what the machine answers to a call"
    try:
        return decode_value(outcome.value, types)
    except Exception as error:
        raise error_class(f"{where} was run; its result cannot be read here: {error}") from error


def _raise(raised: Raised, types: Types, where: str, error_class: type[PaxosError]) -> NoReturn:
    text = f"{raised.type_name}: {raised.text}"
    try:
        error = decode_value(raised.error, types) if raised.error else None
    except Exception:
        error = None
    cause = error_class(f"{where} raised on its members: {text}")
    if isinstance(error, Exception):
        raise error from cause
    raise cause
