"""What a state machine is: the one class that users of ray_paxos derive from.

A group's machines are executed on every member, from the log alone. All members apply the same
commands in the same order, so they hold the same state *as long as `apply` is deterministic*:

- It may use the command, the machine's own state and the `ApplyContext`, and nothing else: no
  clock (use `context.log_time_ns`), no randomness (seed a generator of your own with
  `context.instance_id` and `context.index`), no environment, files, network or process ids, no
  iteration over sets, no `hash()` of strings or bytes, no `id()`, no text of a foreign library's
  exception.
- To refuse a command, raise `CommandError`: it becomes the command's result, the same on all
  members. Any other exception is a failure of this member: applying stops there, with an alarm,
  while the group goes on on the others.
- What ends by itself, such as a lease, ends by log time: see `due_ns`.
- `query` runs on one member only and changes nothing. One that has no answer yet raises
  `NotYetError` with a topic; `apply` and `on_due` name the topics under which something has
  happened (`ApplyContext.notify`), and what waits is asked again then. So a wait costs nothing
  while nothing happens, and the state holds nothing of who waits for an answer.

Differences are found, not prevented: members compare a chain over all results, and their digests.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from ray_paxos.core.values import SessionId
from ray_paxos.machines.canonical import canonical_bytes

DIGEST_BYTES = 16
_STATE_FILE = "state.pickle"


class ApplyContext:
    """Where in the log a command stands: all that `apply` may know beside command and state.

    One object serves all commands of a host and is changed from one to the next: read what you
    need, do not keep the object.

    Attributes:
        instance_id: The instance that is applied, from 1.
        index: The command's row in it, from 0. `(instance_id, index)` is unique in the group and
            rises from command to command.
        log_time_ns: The group's own time, in nanoseconds since its first entry. Never falls.
        session: Whose command it is.
        number: The command's number in its session, from 1.
        topics: What `notify` named in this instance; the host's.
    """

    __slots__ = ("index", "instance_id", "log_time_ns", "number", "session", "topics")

    def __init__(
        self,
        instance_id: int = 0,
        index: int = 0,
        log_time_ns: int = 0,
        session: SessionId | None = None,
        number: int = 0,
    ) -> None:
        """Make one by hand, for tests of a machine."""
        self.instance_id = instance_id
        self.index = index
        self.log_time_ns = log_time_ns
        self.session = session if session is not None else SessionId(0, 0)
        self.number = number
        self.topics: set[str] = set()

    def notify(self, topic: str) -> None:
        """Something has happened under a topic: queries that wait for it are asked again.

        Once the instance is applied, on each member. It is no part of the state, and may be called
        more often than is needed; where a query waits for a topic that nothing names, it waits
        until its time is over.

        Raises:
            TypeError: The topic is no `str`.
        """
        if type(topic) is not str:
            # Queries that are held are found by their topics, in the order of these.
            raise TypeError(f"a topic is a str, not {type(topic).__qualname__}")
        self.topics.add(topic)


class StateMachine(ABC):
    """Base of all state machines.

    A machine is made without arguments when the group's log mounts it, on every member, and from
    then on is called by one thread only.

    Attributes:
        kind: The name under which the class is registered and mounted. Set it in the subclass.
        version: Of the command format *and* of what commands do: raise it whenever an old log
            would be applied differently.
        since: The cluster version from which on it may be mounted in new groups: the first one that
            all releases without this class do not know.
        is_saved_by_learner: Its state is too big to be held twice on a member. Checkpoints of its
            group are then saved by the learner, which applies nothing and answers no reads while
            `save` runs, instead of by the checkpointer from a copy of its own.
    """

    kind: ClassVar[str]
    version: ClassVar[int] = 1
    since: ClassVar[int] = 1
    is_saved_by_learner: ClassVar[bool] = False

    @abstractmethod
    def apply(self, command: bytes, context: ApplyContext) -> bytes | None:
        """Execute one command. Must be deterministic (see the module's text).

        Args:
            command: What the client submitted; may be anything, of any length up to the limit.
            context: Where in the log it stands.

        Returns:
            The result that the client gets and that is kept until it has confirmed it, or None.
            `bytes` itself, not a subclass and not a buffer that changes later.

        Raises:
            CommandError: The command is refused; its text is the result. What was changed before
                raising stays changed.
        """

    def apply_many(
        self, commands: Sequence[bytes], context: ApplyContext, bytes_max: int
    ) -> Sequence[bytes | None]:
        """Execute the first ones of a run of commands in one go; optional, and only for speed.

        It has to come to the very state and results that `apply` comes to, one command after the
        other. Whatever it leaves is executed by `apply`. A subclass that overrides `apply` alone is
        executed by that.

        Args:
            commands: Of one session, with consecutive numbers; not empty.
            context: Where in the log the first one stands; the others follow row by row.
            bytes_max: It goes on only while the results come to no more bytes.

        Returns:
            The results of as many of the first commands as it has executed; none by default. It
            executes nothing of the first command that is to be refused, and nothing behind it.
        """
        return ()

    @property
    def due_ns(self) -> int | None:
        """At which log time something in the state ends by itself; None for nothing, as by default.

        It depends on the state alone, and is cheap: it is read after each instance.
        """
        return None

    def on_due(self, context: ApplyContext) -> None:
        """Log time has come to `due_ns`: let end what is due. Deterministic, as `apply`.

        Called in the first instance whose log time has come that far, before its commands. What
        is left due, where there is much of it, is looked at again in the next instance; the master
        proposes one for it.

        Args:
            context: Of the instance; `index` is 0, and nobody's session is named.
        """
        raise NotImplementedError

    @abstractmethod
    def query(self, request: bytes) -> bytes:
        """Answer a read from the state as it is; must not change it.

        Args:
            request: What the client asked.

        Returns:
            The answer; bound its size (page what can grow).

        Raises:
            NotYetError: There is no answer until something has happened under its topic.
            QueryError: The request is malformed, or cannot be answered.
        """

    def save(self, directory: Path) -> None:
        """Write the whole state into an empty directory.

        Files, in subdirectories where it likes; an empty subdirectory is not kept. The caller
        makes them durable and checks them before `load`. The default pickles the attributes with
        cloudpickle; machines that outlive a change of their code do better with a format of their
        own, or as a `TableMachine`.

        Args:
            directory: Exists, is empty, and belongs to this machine.

        Raises:
            TypeError: An attribute cannot be pickled; says which.
        """
        import cloudpickle  # for machines without their own format only; slow to import

        try:
            state = cloudpickle.dumps(vars(self))
        except Exception as error:
            raise TypeError(_unpicklable(self, error)) from error
        (directory / _STATE_FILE).write_bytes(state)

    def load(self, directory: Path) -> None:
        """Replace the whole state by what `save` wrote.

        Args:
            directory: As `save` left it. Not changed.
        """
        import cloudpickle

        state = cloudpickle.loads((directory / _STATE_FILE).read_bytes())
        vars(self).clear()
        vars(self).update(state)

    def digest(self) -> bytes:
        """A hash over the state that members compare; the same wherever the state is.

        The default goes over all attributes, which must be plain data (see `canonical_bytes`);
        it visits the whole state in Python. Override it for large states, for states that hold
        anything else, and where attributes are mere caches: *nothing that depends on the process,
        on queries or on the order of sets may enter it*. Pickled bytes will not do.

        Returns:
            A few bytes, 16 by default.

        Raises:
            TypeError: The state is not plain data.
        """
        state = canonical_bytes(vars(self))
        return hashlib.blake2b(state, digest_size=DIGEST_BYTES).digest()


def _unpicklable(machine: StateMachine, error: Exception) -> str:
    import cloudpickle

    where = type(machine).__qualname__
    for name, value in vars(machine).items():
        try:
            cloudpickle.dumps(value)
        except Exception as of_value:
            where, error = f"{where}.{name}", of_value
            break
    return (
        f"{where} cannot be pickled ({error}): keep plain data in the state, and make what is none "
        "where it is used, or define `save` and `load`"
    )
