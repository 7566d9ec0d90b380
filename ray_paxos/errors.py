"""Every error that users of ray_paxos meet, as one typed tree.

Each says what happened, whether the command may have been applied, and what to do.

```
PaxosError
├── ConfigurationError        the configuration, or what was asked, is wrong; nothing happened
│   └── InputError            a file of commands holds something unreadable
├── ClusterError              the cluster cannot be started or reached
│   ├── ClusterNotFoundError
│   ├── PlacementError        too few nodes or resources for the members
│   ├── BootstrapError        the data directories do not allow a safe start
│   ├── ReleaseError          this release does not know the cluster's version
│   ├── TransferError         the lead of a group was not handed over
│   └── MembershipError       the members of a group were not changed as ordered
├── StorageError              a folder cannot be used
│   ├── FolderHeldError       another process holds it
│   ├── ForeignFolderError    it belongs to another cluster, member or role
│   ├── NotActivatedError     it is staged only: it takes part in nothing yet
│   ├── StorageFullError      no room
│   └── DamageError           a checksum, a hash or a file is wrong or missing
├── CheckpointError           a checkpoint cannot be made or loaded, though nothing is damaged
├── CommandError              raised by a state machine; a result, the same on all members
├── RequestError              one request of a client failed
│   ├── NotAppliedError       certainly not applied, and never will be
│   │   ├── CommandTooLargeError
│   │   ├── OverloadedError       no room for more work now
│   │   ├── NoMasterError         nobody led the group in time
│   │   ├── MachineStoppedError   a machine failed on all members; refused until it is mended
│   │   ├── WithdrawnError        its client abandoned it before it was applied
│   │   ├── SessionUnknownError   the group never opened the client's session
│   │   └── ClientClosedError
│   ├── OutcomeUnknownError   may have been applied; asking again by its number tells
│   ├── SessionExpiredError   the client's session is gone; says whether it may have been applied
│   └── QueryError            a read failed; reads change nothing
│       ├── CompactedError    what a watch would go on from is not remembered any more
│       ├── NotYetError       a machine has no answer yet; who waits for it gets one later
│       ├── LeaseError        no master held a lease
│       └── StaleReadError    no member was fresh enough
├── WaitTimeoutError          what was waited for did not come in time; nothing is held
├── LeaseLostError            a lock, a permit or a lead is not known to be held any more
├── ApplyStoppedError         a state machine failed: one group stops applying on one member
├── WireFormatError           bytes of another format or version
└── InvariantViolationError   our own bug: the group stops on that member
```
"""

from __future__ import annotations


class PaxosError(Exception):
    """Root of all errors of ray_paxos.

    Attributes:
        may_have_applied: Whether a command of the failed call can have been applied.
        retry_after_s: After how many seconds trying again makes sense; None where it does not.
    """

    may_have_applied: bool = False
    retry_after_s: float | None = None


class ConfigurationError(PaxosError):
    """The configuration, or an argument, is wrong. Nothing happened; correct it."""


class InputError(ConfigurationError):
    """A file of commands cannot be read. Names the file, the line and the reason."""


class ClusterError(PaxosError):
    """The cluster cannot be started or reached."""


class ClusterNotFoundError(ClusterError):
    """No cluster of that name runs in this Ray cluster."""


class PlacementError(ClusterError):
    """The Ray cluster has too few nodes or resources for the members asked for."""


class BootstrapError(ClusterError):
    """What lies in the data directories does not allow a safe start; says what is missing."""


class ReleaseError(ClusterError):
    """This release does not know the cluster's version; names both. Nothing was changed."""


class StorageError(PaxosError):
    """A folder or file cannot be used; names it."""


class FolderHeldError(StorageError):
    """Another process holds the role's folder."""


class ForeignFolderError(StorageError):
    """The folder belongs to another cluster, member or role, or to nobody we know."""


class NotActivatedError(StorageError):
    """The member is staged and not activated: the bootstrap that made it did not finish."""


class StorageFullError(StorageError):
    """The disk has no room; writing goes on by itself once it has."""


class DamageError(StorageError):
    """A checksum, a hash chain or a file is wrong or missing; nothing of it is served."""


class CheckpointError(PaxosError):
    """A checkpoint cannot be made or loaded on this member, though nothing on disk is damaged.

    A state machine failed in saving or loading, wrote what no checkpoint can hold, or is of a kind
    or version that is not registered here. Names the machine and the cause: mend or register it.
    """


class CommandError(PaxosError):
    """A state machine refused a command.

    Raise it in `apply` for a refusal that depends on the command and the applied state alone: it
    is then the command's result, the same on all members. The command counts as applied; what it
    changed before raising stays changed.
    """

    may_have_applied = True


class WaitTimeoutError(PaxosError, TimeoutError):
    """What was waited for did not come in time. Nothing is held, and nothing waits any more."""


class LeaseLostError(PaxosError):
    """A lease is not known to be held any more: somebody else may hold what it was for.

    What was begun under it may have been done, also after it was over; a store that checks fencing
    tokens refuses that. Acquire it anew.
    """


class ApplyStoppedError(PaxosError):
    """A state machine failed with something else than `CommandError`.

    The member applies nothing more in that group, and serves no reads of it; it goes on learning,
    storing and voting, and other groups and members are not concerned. Mend the machine (or what
    it needs on that node) and restart the member.

    Attributes:
        group: Which group.
        machine: Name of the machine in its group.
        instance_id: The instance that was being applied.
        cause: What the machine raised, or what is wrong with what it returned.
    """

    may_have_applied = True

    def __init__(self, group: int, machine: str, instance_id: int, cause: str) -> None:
        """Name what failed, and where."""
        super().__init__(
            f"machine {machine!r} of group {group} failed at instance {instance_id}: {cause}; "
            "this member applies nothing more in this group until the machine is mended"
        )
        self.group = group
        self.machine = machine
        self.instance_id = instance_id
        self.cause = cause

    def __reduce__(self) -> tuple[object, ...]:
        arguments = (self.group, self.machine, self.instance_id, self.cause)
        return (ApplyStoppedError, arguments, self.__dict__)


class RequestError(PaxosError):
    """One request of a client failed."""

    def __init__(self, message: str = "", retry_after_s: float | None = None) -> None:
        """Say what happened, and after how many seconds trying again makes sense."""
        super().__init__(message)
        if retry_after_s is not None:
            self.retry_after_s = retry_after_s


class NotAppliedError(RequestError):
    """The command was certainly not applied, and will not be: submitting it anew is safe.

    Either no copy of it ever left the client; or every copy that did was sent back by a proposer
    before it was proposed; or the log itself says that its number was closed unapplied.
    """


class CommandTooLargeError(NotAppliedError):
    """A command is over the size limit, which the message names."""


class OverloadedError(NotAppliedError):
    """There was no room for more work in time; try again after `retry_after_s`."""


class NoMasterError(NotAppliedError):
    """Nobody led the group in time: its members are starting, electing, or out of reach."""


class MachineStoppedError(NotAppliedError):
    """A state machine failed on all members of the group, at the instance that the message names.

    The group takes no commands until the machine is mended and its members are restarted; other
    groups go on.
    """


class WithdrawnError(NotAppliedError):
    """The client withdrew the command before it was applied, and the log says so."""


class SessionUnknownError(NotAppliedError):
    """The group never opened the session: it is another group than the client has spoken to."""


class ClientClosedError(NotAppliedError):
    """The client was closed before this command was sent."""


class OutcomeUnknownError(RequestError):
    """No answer in time: the command may have been applied, or may still be, once.

    The client goes on sending it under its number, ahead of later ones. `Client.outcome(number)`
    waits for what became of it; `Client.abandon(number)` gives it up, and says whether it was
    applied all the same.

    Attributes:
        number: Of the command, in its client; None where asking again is not possible.
    """

    may_have_applied = True

    def __init__(
        self, message: str = "", number: int | None = None, retry_after_s: float | None = None
    ) -> None:
        """Name the command."""
        super().__init__(message, retry_after_s)
        self.number = number

    def __str__(self) -> str:
        """The message, with the number."""
        message = super().__str__()
        return message if self.number is None else f"number {self.number}: {message}"

    def for_number(self, number: int) -> OutcomeUnknownError:
        """The same, of another command."""
        return OutcomeUnknownError(self.args[0], number, self.retry_after_s)


class SessionExpiredError(RequestError):
    """The group has forgotten the client's session, which was not used for long.

    The client goes on in a new session, but never sends this command again by itself. Where
    `may_have_applied` is true, read the state before submitting it anew.
    """

    may_have_applied = True

    def __init__(self, message: str = "", may_have_applied: bool = True) -> None:
        """Say whether a copy of the command may have been applied before."""
        super().__init__(message)
        self.may_have_applied = may_have_applied


class QueryError(RequestError):
    """A read failed. Reads change nothing; asking again is safe."""


class NotYetError(QueryError):
    """A machine has no answer to a query yet: what the query waits for has not happened.

    Raised by `StateMachine.query`. A client that waits gets the answer once there is one; for any
    other it is the answer.

    Attributes:
        topic: What has to change first; a later `ApplyContext.notify` names it.
    """

    def __init__(self, topic: str, message: str = "") -> None:
        """Name what has to change, and for a person what is missing."""
        super().__init__(message or "there is no answer yet")
        self.topic = topic

    def __reduce__(self) -> tuple[object, ...]:
        return (NotYetError, (self.topic, self.args[0]), self.__dict__)


class CompactedError(QueryError):
    """What came after a position is not remembered any more: read the state as it is, and go on.

    Attributes:
        instance_id: From which on changes are remembered now.
    """

    def __init__(self, message: str = "", instance_id: int = 0) -> None:
        """Say what is missing."""
        super().__init__(message)
        self.instance_id = instance_id


class LeaseError(QueryError):
    """No master held a lease in time; a `linearizable` read does without one."""


class StaleReadError(QueryError):
    """No member that answered was as fresh as asked for; ask the master, or for less."""


class TransferError(ClusterError):
    """The lead of a group was not handed over; the master goes on, or is being elected."""


class MembershipError(ClusterError):
    """The members of a group were not changed as ordered; its message says what stands."""


class WireFormatError(PaxosError):
    """Bytes of another format or version: processes of different releases were mixed."""


class InvariantViolationError(PaxosError):
    """Something the protocol excludes was seen: a bug. The group stops on that member."""
