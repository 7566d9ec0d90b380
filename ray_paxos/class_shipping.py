"""How the class of a replicated object gets from its caller to members.

What it mentions of local modules (those that are not installed) is found by walking through its
code and annotations, and pickled by value. It is loaded apart from all other copies in its process,
so that members that share one do not share a class.
"""

from __future__ import annotations

import functools
import inspect
import io
import pickle
import re
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import PurePath
from types import CodeType, FunctionType, ModuleType
from typing import Any

from ray_paxos.errors import ConfigurationError
from ray_paxos.machines.object_values import MAIN, Types
from ray_paxos.replicated import Replicated

_ROUNDS_MAX = 100
_registering = threading.RLock()


def is_local(name: str) -> bool:
    """Whether members may lack a module: it is the caller's own, and not installed."""
    if name in ("__main__", "__mp_main__"):
        return True
    root = name.partition(".")[0]
    if root in ("ray_paxos", "cloudpickle") or root in sys.stdlib_module_names:
        return False
    file = getattr(sys.modules.get(name), "__file__", None)
    parts = PurePath(file).parts if file is not None else ()
    return "site-packages" not in parts and "dist-packages" not in parts


def types_of(cls: type, *functions: Any) -> Types:
    """What is shipped with a class: all local classes and functions that it mentions, by name.

    Args:
        cls: The class.
        functions: Others, whatever they mention; None for nothing.

    Raises:
        ConfigurationError: Two of the classes have one name.
    """
    by_name: dict[str, Any] = {MAIN: cls}
    seen: set[int] = set()
    waiting: list[Any] = [cls, *getattr(cls, "shipped_types", ()), *functions]
    while waiting:
        thing = waiting.pop()
        if id(thing) in seen or not isinstance(thing, type | FunctionType):
            continue
        seen.add(id(thing))
        if not is_local(thing.__module__ or ""):
            continue
        name = thing.__qualname__
        if isinstance(thing, type):
            named = by_name.setdefault(name, thing)
            # A base may have the name of its subclass, and `dataclass(slots=True)` leaves the class
            # behind that it has replaced: they travel along, without a name.
            is_other = named is not thing and not issubclass(named, thing)
            if is_other and named.__module__ != thing.__module__:
                raise ConfigurationError(
                    f"{cls.__qualname__} mentions two classes {name}, of {thing.__module__} and "
                    f"{named.__module__}; members would not tell them apart: rename one"
                )
        if isinstance(thing, FunctionType) and name.isidentifier():
            by_name.setdefault(name, thing)
        waiting += _in_class(thing) if isinstance(thing, type) else _in_function(thing)
    types = Types(by_name, is_local, unpickled=lambda data: loads(data, types))
    types.pickled = lambda function: pickled_by_value(function, types)
    return types


def _in_class(cls: type) -> Iterator[Any]:
    yield from cls.__mro__[1:]
    yield type(cls)
    for attribute in vars(cls).values():
        yield getattr(attribute, "__func__", attribute)
        for part in ("fget", "fset", "fdel", "func"):
            yield getattr(attribute, part, None)
    names = getattr(sys.modules.get(cls.__module__), "__dict__", {})
    yield from _annotated(vars(cls).get("__annotations__", {}), names)


def _in_function(function: FunctionType) -> Iterator[Any]:
    names = _names_in(function.__code__)
    cells = _closure_of(function).values()
    mentioned = [function.__globals__[name] for name in names if name in function.__globals__]
    for value in (*mentioned, *cells, *(function.__defaults__ or ())):
        if isinstance(value, ModuleType):
            yield from (vars(value).get(name) for name in names)
        elif isinstance(value, list | tuple | set | frozenset):
            yield from value
        elif isinstance(value, dict):
            yield from value.values()
        yield value
        yield type(value)
    yield vars(function).get("__wrapped__")
    yield from _annotated(function.__annotations__, function.__globals__)


def _closure_of(function: FunctionType) -> dict[str, Any]:
    found = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        # A cell may be empty still: that of a class that is just being made.
        with suppress(ValueError):
            found[name] = cell.cell_contents
    return found


def _names_in(code: CodeType) -> set[str]:
    inner = (each for each in code.co_consts if isinstance(each, CodeType))
    return set(code.co_names).union(*map(_names_in, inner))


def _annotated(annotations: Mapping[str, Any], names: Mapping[str, Any]) -> Iterator[Any]:
    waiting: list[Any] = list(annotations.values())
    while waiting:
        each = waiting.pop()
        if isinstance(each, str):
            yield from (names.get(name) for name in re.findall(r"\w+", each))
        else:
            yield each
            yield getattr(each, "__origin__", None)
            waiting += getattr(each, "__args__", ())


def pickled_by_value(value: Any, types: Types) -> bytes:
    """Pickle something with all local code that it mentions; what `types` has goes by its name.

    Raises:
        ConfigurationError: It cannot be pickled; says what in it.
    """
    modules: set[str] = set()
    for _ in range(_ROUNDS_MAX):
        try:
            with _by_value(modules):
                data = dumps(value, types)
            reader = _Unpickler(io.BytesIO(data), types)
            reader.load()
        except Exception as error:
            # Pickling runs the user's code: whatever that raises says why it cannot be sent.
            raise ConfigurationError(_unpicklable(value, error)) from error
        if reader.modules <= modules:
            break
        modules |= reader.modules
    return data


def ship(cls: type, types: Types) -> bytes:
    """A class and what `types_of` found with it, for `load_bundle`.

    Raises:
        ConfigurationError: It cannot be pickled; says what in it.
    """
    try:
        return pickled_by_value(dict(types.by_name), Types({}))
    except ConfigurationError as error:
        for thing in types.by_name.values():
            for name, attribute in list(vars(thing).items()) if isinstance(thing, type) else ():
                with _by_value({each.__module__ for each in types.by_name.values()}):
                    problem = _problem_of(attribute)
                if problem:
                    where = f"{thing.__qualname__}.{name}"
                    raise ConfigurationError(
                        f"{cls.__qualname__} cannot be sent to members: {where} holds {problem}; "
                        "make it where it is used, or keep it out of the class"
                    ) from error
        raise


def load_bundle(data: bytes) -> tuple[type[Replicated], Types]:
    """The class, apart from all others in this process, and what came with it.

    Raises:
        Exception: Whatever importing and making it raises.
    """
    by_name = _Unpickler(io.BytesIO(data), Types({})).load()
    cls = by_name[MAIN]
    if not issubclass(cls, Replicated):
        raise TypeError(f"{cls.__qualname__} is no ray_paxos.Replicated")
    types = Types(by_name, unpickled=lambda data: loads(data, types))
    return cls, types


def dumps(value: Any, types: Types) -> bytes:
    """Pickle something; shipped classes and functions go by name."""
    buffer = io.BytesIO()
    _pickler()(buffer, types).dump(value)
    return buffer.getvalue()


def loads(data: bytes, types: Types) -> Any:
    """Read what `dumps` wrote, with the same or other classes of those names."""
    return _Unpickler(io.BytesIO(data), types).load()


@functools.cache
def _pickler() -> Any:
    import cloudpickle  # slow to import

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
        def __init__(self, file: io.BytesIO, types: Types) -> None:
            super().__init__(file, protocol=5)
            self._names = types.names

        def persistent_id(self, thing: Any) -> str | None:
            return self._names.get(id(thing))

    return Pickler


class _Unpickler(pickle.Unpickler):
    """Reads what `_pickler` wrote, and makes new classes where cloudpickle finds old ones again.

    Two machines in one process, as those of a learner and a checkpointer, must not share a class:
    what one loads would change the other's. And to load a class must not change the caller's own.

    Attributes:
        modules: The local ones that were looked into.
    """

    def __init__(self, file: io.BytesIO, types: Types) -> None:
        super().__init__(file)
        self._types = types
        self.modules: set[str] = set()

    def persistent_load(self, name: Any) -> Any:
        if name not in self._types.by_name:
            raise LookupError(f"{name} was not shipped with the object's class")
        return self._types.by_name[name]

    def find_class(self, module: str, name: str) -> Any:
        self._note(module)
        found = super().find_class(module, name)
        if module.startswith("cloudpickle"):
            if name == "subimport":
                return self._import
            if name in ("_make_skeleton_class", "_make_skeleton_enum"):
                return functools.partial(_untracked, found)
        return found

    def _import(self, name: str) -> ModuleType:
        self._note(name)
        __import__(name)
        return sys.modules[name]

    def _note(self, module: str) -> None:
        if module not in ("__main__", "builtins") and is_local(module):
            self.modules.add(module)


def _untracked(make: Callable[..., type], *arguments: Any) -> type:
    bound = inspect.signature(make).bind(*arguments)
    bound.arguments["class_tracker_id"] = None
    return make(*bound.args, **bound.kwargs)


@contextmanager
def _by_value(modules: Iterable[str]) -> Iterator[None]:
    """Let cloudpickle send modules' code along; as before afterwards."""
    import cloudpickle

    with _registering:
        left_out = {"__main__", *cloudpickle.list_registry_pickle_by_value()}
        added = [name for name in sorted(modules) if name in sys.modules and name not in left_out]
        for name in added:
            cloudpickle.register_pickle_by_value(sys.modules[name])
        try:
            yield
        finally:
            for name in added:
                cloudpickle.unregister_pickle_by_value(sys.modules[name])


def _problem_of(value: Any) -> str:
    """What in a value cannot be pickled; empty for nothing."""
    try:
        dumps(value, Types({}))
    except Exception:
        # As where it was to be sent.
        function = getattr(value, "__func__", getattr(value, "fget", value))
        if isinstance(function, FunctionType):
            mentioned = _closure_of(function)
            for name in sorted(_names_in(function.__code__)):
                if name in function.__globals__:
                    mentioned[name] = function.__globals__[name]
            for name, each in mentioned.items():
                problem = not isinstance(each, type | FunctionType) and _problem_of(each)
                if problem:
                    return f"`{name}`, {problem}"
        return f"a {type(value).__qualname__}"
    return ""


def _unpicklable(value: Any, error: Exception) -> str:
    name = getattr(value, "__qualname__", type(value).__qualname__)
    problem = _problem_of(value) or "something"
    return f"{name} cannot be sent to members: it holds {problem} ({error})"
