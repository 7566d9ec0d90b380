"""Restarting members one by one while the cluster serves, and raising the cluster's version.

```python
upgrades = cluster.upgrades
upgrades.restart_member("m1")      # hands over what it leads, ends, begins again with this release
upgrades.restart_all()             # one after the other
upgrades.raise_version()           # what this release brings in may be used from here on
```

A member begins again with the release of this package that its node has by then. Until the version
is raised, its members may go back to the release before in the same way (`core.releases`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

from ray_paxos.actors import folders
from ray_paxos.actors.administration import Administration, ask_all
from ray_paxos.actors.controller import end_controller, ensure_controller
from ray_paxos.actors.launching import (
    ANSWER_TIMEOUT_S,
    actor_names,
    live_actor_names,
    wait_until_serving,
)
from ray_paxos.actors.masters import Masters
from ray_paxos.actors.member_making import find_folders, launch_member
from ray_paxos.actors.names import ROLE_NAMES
from ray_paxos.actors.spec import ClusterSpec
from ray_paxos.core.messages import RoleName
from ray_paxos.core.quorum import majority
from ray_paxos.core.releases import NEWEST, Release
from ray_paxos.core.wanted import MemberState, Wanted
from ray_paxos.core.wanted_changes import RaiseVersion
from ray_paxos.errors import ClusterError, CommandError, MembershipError, PaxosError, ReleaseError
from ray_paxos.observability.status import MemberStatus, group_status
from ray_paxos.system_group import SystemGroup

HAND_OVER_S = 5.0
HAND_OVERS_AT_ONCE = 8
CLOSE_S = 20.0
NAMES_S = 10.0
PAUSE_S = 0.1

_logger = logging.getLogger(__name__)


class Upgrades:
    """Made by `Cluster.upgrades`. Orders are given by one driver at a time."""

    def __init__(
        self,
        spec: ClusterSpec,
        administration: Administration,
        masters: Masters,
        system: SystemGroup,
    ) -> None:
        """Do nothing yet.

        Args:
            spec: The cluster's.
            administration: Asks its members.
            masters: Has leads handed over.
            system: Group 0.
        """
        self._spec = spec
        self._administration = administration
        self._masters = masters
        self._system = system

    # Restarts.

    def restart_member(self, name: str, *, timeout_s: float = 120.0) -> None:
        """End a member's actors, and make them again.

        It hands over the groups that it leads, closes, begins again, and has caught up with the
        others when this returns. A group that could not be handed over waits for its next master
        until the lease has run out.

        Args:
            name: The member.
            timeout_s: For all of it.

        Raises:
            MembershipError: There is no such member, or without it a group would have no majority:
                then nothing was done. Or it did not catch up in time.
            ClusterError: It does not serve again; says why.
            RequestError: Group 0 does not answer.
        """
        wanted = self._wanted()
        with self._without_controller(wanted):
            self._restart(wanted, name, time.monotonic() + timeout_s)

    def _restart(self, wanted: Wanted, name: str, deadline: float) -> None:
        found = self._statuses(wanted)
        self._check_may_end(wanted, name, found)
        self._hand_over(name, found)
        end = min(deadline, time.monotonic() + CLOSE_S)
        self._administration.stop(end, members=(name,))
        self._make_again(wanted, name, deadline)
        wait_until_serving(self._spec, (name,), _left_s(deadline), is_strict=True)
        self._wait_until_in_step(wanted, name, deadline)

    def restart_all(self, *, timeout_s: float = 120.0) -> tuple[str, ...]:
        """Restart all members that are to stay, one after the other, and the controller.

        Args:
            timeout_s: For each of them.

        Returns:
            Their names, in this order.

        Raises:
            PaxosError: As `restart_member`; those before it have been restarted.
        """
        wanted = self._wanted()
        standing = (MemberState.PRESENT, MemberState.DRAINED)
        names = tuple(n for n, m in sorted(wanted.members.items()) if m.state in standing)
        with self._without_controller(wanted):
            for name in names:
                self._restart(wanted, name, time.monotonic() + timeout_s)
        return names

    @contextmanager
    def _without_controller(self, wanted: Wanted) -> Iterator[None]:
        """It would make actors again by itself, with the release that it has; it is restarted."""
        if not self._spec.controller.runs:
            yield
            return
        end_controller(self._spec.decoded_genesis().cluster, CLOSE_S)
        try:
            yield
        finally:
            ensure_controller(self._known_spec(wanted))

    # The cluster version.

    def raise_version(self, version: int = NEWEST) -> int:
        """Have the cluster go by a later version, once and for all: no way leads back.

        Args:
            version: Which; by default the newest that this release knows.

        Returns:
            The version that it goes by now.

        Raises:
            ReleaseError: A member does not know it, or does not answer; nothing was changed.
            MembershipError: A member is joining, or the version is lower than the one there is.
            RequestError: Group 0 does not answer.
        """
        wanted = self._wanted()
        if wanted.cluster_version != version:
            self._check_all_know(wanted, version)
            try:
                self._system.change(RaiseVersion(version, wanted.version))
            except CommandError as error:
                raise MembershipError(f"{error}; nothing was changed") from error
        self._tell(wanted, version)
        return version

    def _check_all_know(self, wanted: Wanted, version: int) -> None:
        joining = [n for n, m in wanted.members.items() if m.state is MemberState.JOINING]
        if joining:
            raise MembershipError(
                f"member {joining[0]} is joining; raise the version once it has joined"
            )
        problems = []
        for name, release in self._releases(wanted).items():
            if release is None:
                problems.append(f"member {name} does not answer")
            elif not release.knows(version):
                problems.append(f"member {name} knows {release}")
        if problems:
            raise ReleaseError(
                f"cluster version {version}: {'; '.join(problems)}. Restart these members with a "
                "release that knows it; nothing was changed"
            )

    def _releases(self, wanted: Wanted) -> dict[str, Release | None]:
        names = [n for n, m in wanted.members.items() if m.state is not MemberState.GONE]
        asked = {n: partial(self._administration.call, n, RoleName.LEARNER, "memberships")
                 for n in names}  # fmt: skip
        answers = ask_all(asked, ANSWER_TIMEOUT_S)
        return {
            name: Release(*answer["knows"]) if isinstance(answer, dict) else None
            for name, answer in answers.items()
        }

    def _tell(self, wanted: Wanted, version: int) -> None:
        """Members that do not hear it now hear it from the others."""
        names = [n for n, m in wanted.members.items() if m.state is not MemberState.GONE]
        ask_all(
            {
                (name, role): partial(
                    self._administration.call, name, role, "raise_version", version
                )
                for name in names
                for role in ROLE_NAMES
            },
            ANSWER_TIMEOUT_S,
        )

    # Helpers.

    def _wanted(self) -> Wanted:
        wanted = self._system.wanted()
        self._administration.roster.meet(member.spec for member in wanted.members.values())
        return wanted

    def _known_spec(self, wanted: Wanted) -> ClusterSpec:
        spec = self._spec.knowing(self._administration.roster.joined)
        return spec.under(wanted.cluster_version)

    def _statuses(self, wanted: Wanted) -> dict[str, MemberStatus]:
        gone = {n for n, m in wanted.members.items() if m.state is MemberState.GONE}
        return {m.name: m for m in self._administration.statuses() if m.name not in gone}

    def _check_may_end(self, wanted: Wanted, name: str, found: dict[str, MemberStatus]) -> None:
        member = wanted.members.get(name)
        if member is None or member.state not in (MemberState.PRESENT, MemberState.DRAINED):
            state = "unknown" if member is None else member.state.name.lower()
            raise MembershipError(f"member {name} is {state}; only one that stays is restarted")
        serving = {n for n, status in found.items() if _serves(status)}
        for group, voters in sorted(self._voters().items()):
            there = (serving & voters) - {name}
            if name in voters and len(voters) > 1 and len(there) < majority(len(voters)):
                silent = ", ".join(sorted(voters - serving - {name})) or "nobody else"
                raise MembershipError(
                    f"group {group} would have no majority while member {name} is away: of its "
                    f"voters {silent} does not serve; nothing was done"
                )

    def _voters(self) -> dict[int, set[str]]:
        """By group, as the member knows it that has followed its log the furthest."""
        roster = self._administration.roster
        asked = {n: partial(self._administration.call, n, RoleName.LEARNER, "memberships")
                 for n in roster.ids}  # fmt: skip
        latest: dict[int, tuple[int, Sequence[int]]] = {}
        for answer in ask_all(asked, ANSWER_TIMEOUT_S).values():
            if isinstance(answer, dict):
                for group, (config_id, voters, _) in answer["groups"].items():
                    latest[group] = max(latest.get(group, (-1, ())), (config_id, voters))
        return {group: set(map(roster.name, voters)) for group, (_, voters) in latest.items()}

    def _hand_over(self, name: str, found: dict[str, MemberStatus]) -> None:
        proposer = found[name].roles["proposer"].groups or {}
        led = [group for group, said in proposer.items() if said["is_serving"]]
        with ThreadPoolExecutor(HAND_OVERS_AT_ONCE) as pool:
            for group, problem in zip(led, pool.map(self._hand_over_one, led), strict=True):
                if problem:
                    _logger.warning("group %d was not handed over: %s", group, problem)

    def _hand_over_one(self, group: int) -> str:
        """What kept a group from being handed over; empty where nothing did.

        It is once the next master leads: an order that was answered is on its way only, and who
        ends then may take it along. Measured with leases of 8 s: without this, five of six restarts
        of a master cost its clients 5 to 8 s.
        """
        before = self._masters.latest(group)
        try:
            self._masters.hand_over(group, None, HAND_OVER_S)
        except PaxosError as error:
            return str(error)
        version = before.version if before is not None else 0
        after = self._masters.wait_for_later(group, version, HAND_OVER_S)
        return "" if after is not None else f"no other master within {HAND_OVER_S:g} s"

    def _make_again(self, wanted: Wanted, name: str, deadline: float) -> None:
        spec = self._known_spec(wanted)
        names = actor_names(spec, name).keys()
        end = min(deadline, time.monotonic() + NAMES_S)
        # Ray gives a name away again once it has seen the process end, and tells nobody. Somebody
        # else may have made them again meanwhile: then they serve soon.
        while names & live_actor_names(spec.decoded_genesis().cluster) and time.monotonic() < end:
            time.sleep(PAUSE_S)
        nodes = folders.live_nodes()
        places = find_folders(spec, (name,), nodes)
        if name not in places:
            raise ClusterError(f"member {name}: its folder is on no live node that answers")
        launch_member(spec, wanted.members[name], places[name], nodes)

    def _wait_until_in_step(self, wanted: Wanted, name: str, deadline: float) -> None:
        """Until it has learned what others had learned when it began again, and may promise.

        Of two that promise nobody anything yet (`core.lease`) a group of three could not be handed
        over: its clients would wait for as long.
        """
        goals = _learned(self._statuses(wanted).values())
        while True:
            status = self._statuses(wanted)[name]
            own = _learned([status])
            behind = {g: goals[g] - through for g, through in own.items() if through < goals[g]}
            acceptor = status.roles["acceptor"].groups
            is_barred = acceptor is None or any(said["barred_ms"] for said in acceptor.values())
            if not behind and not is_barred:
                return
            if time.monotonic() >= deadline:
                what = "may not promise anything yet"
                if behind:
                    group, lag = max(behind.items(), key=lambda item: item[1])
                    what = f"is {lag:,} instances behind in group {group}"
                raise MembershipError(f"member {name} serves again, and {what}")
            time.sleep(PAUSE_S)


def _serves(status: MemberStatus) -> bool:
    return all(role.phase == "serving" for role in status.roles.values())


def _learned(members: Iterable[MemberStatus]) -> dict[int, int]:
    """By group, the last instance through which the furthest of them has learned."""
    found = tuple(members)
    groups = {group for each in found for group in each.roles["learner"].groups or {}}
    return {
        group: max(p.learned_through for p in group_status(group, found).positions.values())
        for group in groups
    }


def _left_s(deadline: float) -> float:
    return max(deadline - time.monotonic(), 1.0)
