"""The members of a cluster, as far as this process has met them.

It begins with those of the genesis, and whoever had joined when the spec of a role was made. Who
meets an unknown id, or finds nobody that has a group, has it look: it asks Ray which actors the
cluster has, and those of unknown members what they are. A name and an id are one member's for ever
(`core.wanted`), so what is known stays true; a member that has gone does not answer any more.

One is shared by all handles of a cluster in a process.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any

import ray
from ray.exceptions import RayError

from ray_paxos.actors.found_actors import FoundActors
from ray_paxos.actors.launching import live_actor_names
from ray_paxos.actors.names import NAMESPACE, parse_actor_name
from ray_paxos.actors.spec import ClusterSpec, decode_spec
from ray_paxos.core.genesis import Genesis, MemberSpec
from ray_paxos.errors import WireFormatError

LOOK_TIMEOUT_S = 1.5
LOOK_AGAIN_S = 0.5
"""Whoever finds nobody asks often; Ray's own service is asked no more than so often."""


class Roster:
    """Names and ids; used by any thread.

    Attributes:
        genesis: The cluster's.
        names: By id. It grows, and nothing in it changes.
        actors: Those of the members that this process has looked up.
    """

    def __init__(self, genesis: Genesis) -> None:
        """Know those of the genesis."""
        self.genesis = genesis
        self._encoded = genesis.encoded()
        self._known = {each.member_id: each.name for each in genesis.members}
        self.names: Mapping[int, str] = self._known
        self.actors = FoundActors()
        self._looking = threading.Lock()
        self._look_again = 0.0

    @property
    def ids(self) -> dict[str, int]:
        """Ids by name."""
        return {name: member_id for member_id, name in dict(self._known).items()}

    @property
    def joined(self) -> tuple[MemberSpec, ...]:
        """Those of them that are not of the genesis."""
        of_genesis = {each.member_id for each in self.genesis.members}
        return tuple(
            MemberSpec(name, member_id)
            for member_id, name in dict(self._known).items()
            if member_id not in of_genesis
        )

    def name(self, member_id: int) -> str:
        """Of a member; its id, as a text, where nobody knows it."""
        if member_id not in self._known:
            self.look()
        return self._known.get(member_id, str(member_id))

    def meet(self, members: Iterable[MemberSpec]) -> None:
        """Know these, too."""
        for each in members:
            self._known.setdefault(each.member_id, each.name)

    def look(self, *, at_once: bool = False) -> bool:
        """See who else is there; waits for Ray.

        Args:
            at_once: Also where somebody has looked just now.

        Returns:
            Whether anybody was found.
        """
        with self._looking:
            now = time.monotonic()
            if (now < self._look_again and not at_once) or not ray.is_initialized():
                return False
            before = len(self._known)
            try:
                self._look()
            finally:
                self._look_again = time.monotonic() + LOOK_AGAIN_S
            return len(self._known) > before

    def _look(self) -> None:
        known = set(self._known.values())
        asked: list[Any] = []
        for name in sorted(live_actor_names(self.genesis.cluster)):
            parsed = parse_actor_name(name)
            if parsed is None or parsed[1] in known:
                continue
            known.add(parsed[1])
            try:
                handle: Any = ray.get_actor(name, namespace=NAMESPACE)
            except ValueError:
                continue
            asked.append(handle.describe.remote())
        if not asked:
            return
        done, _ = ray.wait(asked, num_returns=len(asked), timeout=LOOK_TIMEOUT_S)
        for reference in done:
            try:
                found = decode_spec(ray.get(reference))
            except (RayError, WireFormatError):
                continue
            if found.genesis == self._encoded:
                self.meet(found.joined)


_sharing = threading.Lock()
_rosters: dict[bytes, Roster] = {}


def roster_of(spec: ClusterSpec) -> Roster:
    """The one of this process for a cluster, which knows all whom the spec names."""
    with _sharing:
        roster = _rosters.get(spec.genesis)
        if roster is None:
            roster = _rosters[spec.genesis] = Roster(spec.decoded_genesis())
        roster.meet(spec.joined)
        return roster
