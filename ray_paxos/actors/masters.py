"""Who leads a group, as a driver sees it: asking, watching, handing over.

A master is known by its *version*, the instance of its master record: it only rises, so it orders
masters for everybody, and is the fencing token that a store outside can check.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import ray
from ray.exceptions import RayError

from ray_paxos.actors.administration import ANSWER_TIMEOUT_S, Administration, ask_all
from ray_paxos.actors.orders import PAUSE_S, Answer, give_order
from ray_paxos.core.client_messages import (
    MasterTransferred,
    Redirected,
    RefusalCode,
    Refused,
    TransferMaster,
)
from ray_paxos.core.master_search import MasterSearch
from ray_paxos.core.messages import Address, RoleName
from ray_paxos.errors import TransferError

LATEST_S = 1.5
WATCH_S = 30.0

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Master:
    """A reign, as its master record has it.

    Attributes:
        member: Name of the member that leads.
        version: The record's instance: the fencing token. Of two masters the later one has the
            higher version.
    """

    member: str
    version: int


class Masters:
    """Asks one cluster's proposers who leads."""

    def __init__(self, administration: Administration) -> None:
        """Ask the members that are known."""
        self._administration = administration
        self._roster = administration.roster

    @property
    def _ids(self) -> dict[str, int]:
        return self._roster.ids

    def _watch(self, name: str, group: int, known_version: int, timeout_s: float) -> Any:
        proposer = self._administration.actor(name, RoleName.PROPOSER)
        return proposer.watch_master.remote(group, known_version, timeout_s)

    def latest(self, group: int) -> Master | None:
        """The latest master that any member has applied the record of; None before the first.

        It may have been deposed since; whoever acts on it checks its version where it acts.
        """
        calls = {name: partial(self._watch, name, group, 0, 0.0) for name in self._ids}
        answers = ask_all(calls, LATEST_S)
        known = [answer for answer in answers.values() if isinstance(answer, tuple)]
        member_id, version = max(known, key=lambda answer: answer[1], default=(0, 0))
        return Master(self._roster.name(member_id), version) if version else None

    def wait_for_later(self, group: int, known_version: int, timeout_s: float) -> Master | None:
        """Wait for a later master than the one known.

        Args:
            group: Whose.
            known_version: Its version; 0 for none.
            timeout_s: How long to wait.

        Returns:
            The later one; None where none came in time.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            remaining_s = max(deadline - time.monotonic(), 0.0)
            found = self._wait_once(group, known_version, remaining_s)
            if found is not None or time.monotonic() >= deadline:
                return found

    def _wait_once(self, group: int, known_version: int, timeout_s: float) -> Master | None:
        """Ask all members at once; the first to know of a later one answers for all."""
        references: list[Any] = []
        for name in self._ids:
            try:
                references.append(self._watch(name, group, known_version, timeout_s))
            except ValueError:
                continue
        started = time.monotonic()
        while references:
            done, references = ray.wait(references, timeout=timeout_s + ANSWER_TIMEOUT_S)
            for reference in done:
                try:
                    member_id, version = ray.get(reference)
                except RayError:
                    continue
                if version > known_version:
                    return Master(self._roster.name(member_id), version)
            if not done:
                break
        # Members that are away answer at once: not in a circle.
        time.sleep(max(min(PAUSE_S, timeout_s) - (time.monotonic() - started), 0.0))
        return None

    def hand_over(self, group: int, target: str | None, timeout_s: float) -> str | None:
        """Have the master of a group hand over.

        Without a target it is the latest master known when this begins that is to go, and nobody
        after it, however often the order has to be given until it is answered.

        Args:
            group: Whose.
            target: Name of the member to lead next; None for any other.
            timeout_s: How long to try.

        Returns:
            Name of the member that was asked to lead, or leads since; None where the lead was only
            dropped.

        Raises:
            TransferError: It was refused, or nobody answered as the master in time.
        """
        deadline = time.monotonic() + timeout_s
        target_id = self._ids[target] if target is not None else 0
        address = Address(secrets.randbits(62) | 1, RoleName.CLIENT)
        before = self.latest(group)
        while before is None and target is None and time.monotonic() < deadline:
            time.sleep(PAUSE_S)
            before = self.latest(group)
        member = before.member if before is not None else next(iter(self._ids))
        version = before.version if before is not None and target is None else 0
        request_id, problem, search = 0, "no member answered", MasterSearch()
        while time.monotonic() < deadline:
            request_id += 1
            order = TransferMaster(request_id, target_id, version)
            reply = self._order(member, group, address, order, deadline)
            match reply:
                case MasterTransferred(target=successor):
                    return self._roster.name(successor) if successor else None
                case Refused(code=RefusalCode.UNKNOWN_GROUP, message=message):
                    # Not all members have the group.
                    problem = f"member {member}: {message}"
                case Refused(message=message):
                    raise TransferError(f"the lead of group {group} was not handed over: {message}")
                case Redirected(master=int(master)):
                    if master == target_id:
                        return target
                    problem, named = f"member {member} does not lead", self._roster.name(master)
                    if search.follows(master if named in self._ids else 0, len(self._ids)):
                        member = named
                        continue
                case Redirected():
                    problem = "no master is known"
                case str(text):
                    problem = text
                    # The order may be carried out all the same: not a second time.
                    after = self.latest(group)
                    if after is not None and before is not None and after.version > before.version:
                        return after.member
            member = self._following(member)
            time.sleep(PAUSE_S)
        raise TransferError(f"no master took the order within {timeout_s:g} s: {problem}")

    def _order(
        self, member: str, group: int, address: Address, order: TransferMaster, deadline: float
    ) -> Answer | str:
        return give_order(
            self._administration,
            self._roster.genesis,
            member=member,
            group=group,
            address=address,
            order=order,
            deadline=deadline,
        )

    def _following(self, member: str) -> str:
        names = list(self._ids)
        return names[(names.index(member) + 1) % len(names)]


class MasterWatch:
    """Calls back on every later master of a group, from a thread of its own, until closed."""

    def __init__(self, masters: Masters, group: int, callback: Callable[[Master], None]) -> None:
        """Begin; the master there is now is the first that is told.

        Args:
            masters: Asked.
            group: Whose masters.
            callback: Takes each master; what it raises is logged, and the watch goes on.
        """
        self._masters = masters
        self._group = group
        self._callback = callback
        self._is_closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ray_paxos-masters", daemon=True)
        self._thread.start()

    def __enter__(self) -> MasterWatch:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Call back no more; a call that is running ends by itself."""
        self._is_closed.set()

    def _run(self) -> None:
        # Not the first that is told of: some member may know only of one that is long gone.
        found = self._masters.latest(self._group)
        version = 0
        while not self._is_closed.is_set():
            if found is None:
                found = self._masters.wait_for_later(self._group, version, WATCH_S)
                continue
            version = found.version
            try:
                self._callback(found)
            except Exception:  # the users' code: whatever it raises is theirs, and told to them
                _logger.exception("the callback for masters of group %d failed", self._group)
            found = None
