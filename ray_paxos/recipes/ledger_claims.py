"""The right to do the work of a key of a ledger, and what that came to; see `recipes.ledger`."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Generic, TypeVar

from ray_paxos.errors import LeaseLostError
from ray_paxos.machines import ledger_messages as messages
from ray_paxos.machines.ledger_messages import Aborted, KeyState, Lost
from ray_paxos.recipes.leases import KeptLease
from ray_paxos.recipes.recipe import (
    TIMEOUT_S,
    Propose,
    Steps,
    hiding_nothing,
    milliseconds_of,
    value_of,
)

if TYPE_CHECKING:
    from ray_paxos.recipes.ledger import Ledger

V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Done(Generic[V]):
    """What a key came to.

    Attributes:
        outcome: What was committed.
        owner: By whom.
        attempt: In the how manieth attempt, from 1.
        token: By which token.
    """

    outcome: V
    owner: str
    attempt: int
    token: int


class Claim(Generic[V]):
    """The right to do the work of a key; until it is committed, given up or lost.

    A context manager, of both kinds: where it ends without a commit, it gives the claim up.

    Attributes:
        key: Of which key.
        owner: As whom.
        token: The fencing token: above those of all claims before it in the group.
        attempt: The how manieth attempt it is, from 1, as far as is remembered.
    """

    def __init__(
        self, ledger: Ledger[V], key: str, owner: str, attempt: int, lease: KeptLease
    ) -> None:
        """Made by `Ledger.begin`."""
        self._ledger = ledger
        self._lease = lease
        self._is_settled = False
        self.key = key
        self.owner = owner
        self.token = lease.token
        self.attempt = attempt

    def __repr__(self) -> str:
        return f"Claim({self.key!r}, of={self._ledger!r}, token={self.token})"

    @property
    def is_held(self) -> bool:
        """Whether its lease is known to run now, so that nobody else is at the key."""
        return self._lease.is_held

    @property
    def remaining_s(self) -> float:
        """For how many seconds its lease is known to run, if nothing is renewed any more."""
        return self._lease.remaining_s

    def check(self) -> None:
        """Go on only while its lease is known to run.

        Raises:
            LeaseLostError: It is not.
        """
        self._lease.check()

    def commit(
        self, outcome: V, *, keep_s: float | None = None, timeout_s: float = TIMEOUT_S
    ) -> Done[V]:
        """Let this be the outcome of the key.

        Args:
            outcome: What the work came to.
            keep_s: After so long it is forgotten; None for never.
            timeout_s: How long to wait.

        Returns:
            It: this, and no other, is the outcome.

        Raises:
            LeaseLostError: Another has begun meanwhile, or the claim was given up; whatever is
                committed, it is not this.
            CommandError: There is no room for it.
            RequestError: As `Client.propose`. The claim is held on: committing the same again tells
                what became of it.
            ConfigurationError: An argument means nothing, or the outcome cannot be encoded or is
                too large; nothing was sent.
        """
        return self._committed(self._ledger._run(self._commit(outcome, keep_s, timeout_s)))

    async def commit_async(
        self, outcome: V, *, keep_s: float | None = None, timeout_s: float = TIMEOUT_S
    ) -> Done[V]:
        """As `commit`, in a coroutine; cancelled, it may be committed all the same."""
        steps = self._commit(outcome, keep_s, timeout_s)
        return self._committed(await self._ledger._run_async(steps))

    def _commit(
        self, outcome: V, keep_s: float | None, timeout_s: float
    ) -> Steps[Done[V] | KeyState]:
        """Commit; what the key has come to instead, where the claim is lost."""
        keep_ms = 0 if keep_s is None else milliseconds_of("keep_s", keep_s)
        command = messages.encode_commit(
            self._ledger.name, self.key, self.token, self._ledger._encoded(outcome), keep_ms
        )
        answer = messages.decode_result(value_of((yield Propose(command, timeout_s))))
        self._is_settled = True
        self._lease.end()
        if isinstance(answer, Lost):
            return answer.now
        assert isinstance(answer, messages.Done), "the result of a commit"
        return Done(outcome, answer.owner, answer.attempt, answer.token)

    def _committed(self, settled: Done[V] | KeyState) -> Done[V]:
        if isinstance(settled, Done):
            return settled
        raise LeaseLostError(
            f"{self!r} was lost, and its outcome is not committed: others began after its lease "
            f"had ended, or it was given up; now: {settled!r:.200}"
        )

    def abort(self, *, timeout_s: float = TIMEOUT_S) -> bool:
        """Give the claim up: others may begin at once, and it commits nothing any more.

        Args:
            timeout_s: How long to wait.

        Returns:
            Whether its lease ran; not where it was lost, given up or committed before.

        Raises:
            RequestError: As `Client.propose`; it ends with its lease then, at the latest.
        """
        return self._ledger._run(self._abort(timeout_s))

    async def abort_async(self, *, timeout_s: float = TIMEOUT_S) -> bool:
        """As `abort`, in a coroutine."""
        return await self._ledger._run_async(self._abort(timeout_s))

    def _abort(self, timeout_s: float) -> Steps[bool]:
        self._is_settled = True
        self._lease.end()
        command = messages.encode_abort(self._ledger.name, self.key, self.token)
        aborted = messages.decode_result(value_of((yield Propose(command, timeout_s))))
        return isinstance(aborted, Aborted) and aborted.was_running

    def __enter__(self) -> Claim[V]:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self._is_settled:
            with hiding_nothing(error):
                self.abort()

    async def __aenter__(self) -> Claim[V]:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self._is_settled:
            with hiding_nothing(error):
                await self.abort_async()
