"""What a checker is told of an object: its states, and what each operation does to them.

A model says for each operation of a history what it would do in each state: lead to another one,
or contradict the result that the client saw. Rules for a model's writer:

1. `apply` is a function of the state alone. States are immutable and hashable.
2. An operation of unknown outcome is allowed in every state in which it has an effect; where it has
   none (such as a compare-and-set that does not match) it may be rejected, since the search may
   leave it out anyway.
3. `identity`: operations whose identities are equal do the same in every state.
4. `changes` is false only if the operation leaves the state as it is wherever it is allowed.
5. `resets` is true only if the operation is allowed in every state and always leads to one and the
   same.
6. `within_reach` is false in a state only if no series of operations of this history leads from
   there to a state that allows this one, where no operation of the series is a reset.

A model that says nothing of the last three is right, too; they make the search fast. So does
telling less apart: a model sees all operations of a key at once, and may treat values that no
result ever shows as one value.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import ClassVar, Final, Generic, TypeVar

from ray_paxos.errors import InputError
from ray_paxos.testing.history import Operation, Outcome

S = TypeVar("S", bound=Hashable)


class Rejected(Enum):
    """The type of `REJECTED`."""

    REJECTED = "rejected"


REJECTED: Final = Rejected.REJECTED
"""In place of a state: the operation cannot have had this result here."""


@dataclass(frozen=True)
class Transition(Generic[S]):
    """What one operation does.

    Attributes:
        apply: From the state before to the state after, or `REJECTED`.
        identity: Equal for operations that do the same.
        changes: Whether it can change the state.
        resets: Whether it leads from every state to the same one.
        within_reach: Whether a state can still lead to one that allows it; None for always.
    """

    apply: Callable[[S], S | Rejected]
    identity: Hashable
    changes: bool = True
    resets: bool = False
    within_reach: Callable[[S], bool] | None = None


class UnsupportedOperationError(InputError):
    """An operation of the history is none that the model knows.

    Attributes:
        operation: Which.
        reason: What is wrong with it.
    """

    def __init__(self, model: str, operation: Operation, reason: str) -> None:
        """Say what is wrong with which operation."""
        super().__init__(
            f"model {model}: {operation.function} by process {operation.process}: {reason}"
        )
        self.operation = operation
        self.reason = reason


class Model(ABC, Generic[S]):
    """The promise of one kind of object; objects of different keys have nothing in common.

    Attributes:
        name: What users call it.
        about: Its functions, for help.
        initial: The state before anything happened.
    """

    name: ClassVar[str]
    about: ClassVar[str]
    initial: S

    @abstractmethod
    def transitions(self, operations: Sequence[Operation]) -> list[Transition[S]]:
        """What each operation does.

        Args:
            operations: All of one key, in the order of their invocations. One that failed is
                looked at as one of unknown outcome, to see that the model knows it.

        Returns:
            One for each operation.

        Raises:
            UnsupportedOperationError: The model has no such function, or it takes no such
                argument or gives no such result.
        """

    def refuse(self, operation: Operation, reason: str) -> UnsupportedOperationError:
        """The error for an operation that the model does not know."""
        return UnsupportedOperationError(self.name, operation, reason)

    def refuse_function(self, operation: Operation) -> UnsupportedOperationError:
        """The error for a function that the model does not have."""
        return self.refuse(operation, f"no such function; it has {self.about}")


@dataclass(frozen=True)
class Unseen:
    """In place of any value that no result of the key's history shows: they are all equal.

    Attributes:
        example: One that it may be, for people to read.
    """

    example: object = field(compare=False)


def is_ok(operation: Operation) -> bool:
    """Whether the operation's result is known."""
    return operation.outcome is Outcome.OK
