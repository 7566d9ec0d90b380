"""Group 0, as a driver uses it: what is wanted of the cluster, read and changed.

The first who asks records what the genesis says, which every further change builds on.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from ray_paxos.actors.spec import ClusterSpec
from ray_paxos.client import Client
from ray_paxos.core.wanted import Wanted, decode_wanted
from ray_paxos.core.wanted_changes import Change, encode_change, wanted_of_genesis
from ray_paxos.errors import PaxosError
from ray_paxos.machines.system import SYSTEM_MACHINE

READ_TIMEOUT_S = 20.0


class SystemGroup:
    """Of one cluster. May be used by several threads; to be closed."""

    def __init__(self, spec: ClusterSpec, open_client: Callable[[], Client]) -> None:
        """Ask nobody yet.

        Args:
            spec: The cluster's.
            open_client: Opens a client of group 0.
        """
        self._spec = spec
        self._has_begun = False
        self._open_client = open_client
        self._opening = threading.Lock()
        self._client: Client | None = None

    def wanted(self, *, timeout_s: float = READ_TIMEOUT_S) -> Wanted:
        """What is wanted now: a linearizable read.

        Args:
            timeout_s: How long to try.

        Raises:
            PaxosError: Group 0 did not answer in time.
        """
        wanted = self._read(timeout_s)
        if not wanted.version:
            spec = self._spec
            begin = wanted_of_genesis(spec.decoded_genesis(), spec.pins, spec.cluster_version)
            self._propose(begin, timeout_s)
            wanted = self._read(timeout_s)
        self._has_begun = True
        return wanted

    def last_known(self, *, timeout_s: float) -> Wanted:
        """What was wanted as far as any member of group 0 knows; it may be old.

        Args:
            timeout_s: How long to try.

        Raises:
            PaxosError: None answers.
        """
        answer = self._at_client().query(
            b"", machine=SYSTEM_MACHINE, consistency="stale", timeout_s=timeout_s
        )
        return decode_wanted(answer)

    def machines(self, group: int, *, timeout_s: float) -> dict[str, str]:
        """The machines that a group starts with, as far as any member of group 0 knows.

        Args:
            group: Its number.
            timeout_s: How long to try; then what the genesis says is all that is known.

        Returns:
            Their kinds, by their names there; empty where nobody knows such a group.
        """
        try:
            wanted = self.last_known(timeout_s=timeout_s).groups.get(group)
        except PaxosError:
            wanted = None
        specs = [wanted.spec] if wanted is not None else []
        specs += [each for each in self._spec.decoded_genesis().groups if each.group == group]
        return {each.name: each.kind for each in specs[0].machines} if specs else {}

    def change(self, change: Change, *, timeout_s: float = READ_TIMEOUT_S) -> int:
        """Change what is wanted.

        Args:
            change: What is to change.
            timeout_s: How long to try.

        Returns:
            The version of what is wanted after it.

        Raises:
            CommandError: It does not fit; nothing has changed.
            RequestError: There was no answer in time; says whether it may have been made.
        """
        if not self._has_begun:
            self.wanted(timeout_s=timeout_s)
        return self._propose(change, timeout_s)

    def close(self) -> None:
        """End the client."""
        with self._opening:
            if self._client is not None:
                self._client.close()
                self._client = None

    def _read(self, timeout_s: float) -> Wanted:
        answer = self._at_client().query(
            b"", machine=SYSTEM_MACHINE, consistency="linearizable", timeout_s=timeout_s
        )
        return decode_wanted(answer)

    def _propose(self, change: Change, timeout_s: float) -> int:
        command = encode_change(change)
        result = self._at_client().propose(command, machine=SYSTEM_MACHINE, timeout_s=timeout_s)
        return int(result.value or b"0")

    def _at_client(self) -> Client:
        with self._opening:
            if self._client is None:
                self._client = self._open_client()
            return self._client
