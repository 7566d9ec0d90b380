"""The learner's shell: applies, answers reads, seals in the background.

While a machine works on a read, everything else waits for the turn, and further reads wait in Ray's
queue, which has no bound, and clients that wait no longer ask again. So the learner measures how
long reads wait, and refuses one that nobody can be waiting for any more without executing it: the
queue is emptied faster than it fills (R10).

Queries that wait for something come by lines (`line_exchange`), which all those of one process
share: they take no turn while they wait, and a thread for each process.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from ray_paxos.actors.call_delay import CallDelay
from ray_paxos.actors.errands import Delivery, Errand
from ray_paxos.actors.line_exchange import LineExchange
from ray_paxos.actors.log_shell import LogShell
from ray_paxos.actors.role_tracing import LearnerTracing, trace_role
from ray_paxos.actors.shell import Arrival
from ray_paxos.actors.spec import ClusterSpec
from ray_paxos.core.client_messages import Query, QueryFailed, QueryMany, QueryProblem
from ray_paxos.core.driver import Action, Observe
from ray_paxos.core.events import InstanceApplied
from ray_paxos.core.genesis import SYSTEM_GROUP, Genesis
from ray_paxos.core.held_queries import WAIT_MS_MAX
from ray_paxos.core.learner import Learner
from ray_paxos.core.member_roles import PartsKeeper
from ray_paxos.core.messages import Address, Envelope, RoleName
from ray_paxos.core.releases import THIS_RELEASE
from ray_paxos.core.role import GroupRouter
from ray_paxos.core.settings import MILLISECOND_NS, LearnerSettings
from ray_paxos.errors import ConfigurationError
from ray_paxos.machines.registry import MachineRegistry
from ray_paxos.storage.cluster_version import write_cluster_version
from ray_paxos.storage.disk import LocalDisk
from ray_paxos.storage.identity import Identity
from ray_paxos.storage.opening import OpenedRole, open_learner

_READS = (Query, QueryMany)
HELD_S = WAIT_MS_MAX / 1_000 + 10.0
"""So long after it came nobody waits for the answer to a query of a line."""
QUERY_WAIT_MAX_MS = 5_000
"""A read that has waited for longer is refused, whatever it says."""
GROUPS_SEALED = 10
"""So many groups are sealed as often as configured; with more, each is sealed so much less often. A
segment costs much the same whatever is in it: with 100 groups that took commands, each sealing once
a second, it was 45 % of what a learner's interpreter did. With this they took 19,100 commands/s
instead of 12,100, and 20 groups 40,100 instead of 32,400."""
SEAL_AGE_MAX_MS = 10_000
"""Up to which the time is stretched."""


class LearnerShell(LogShell):
    """Learns, applies and answers reads for one member, in all its groups."""

    role = RoleName.LEARNER
    _call_delay: CallDelay | None = None

    def measure_by(self, call: Callable[[], object]) -> None:
        """Measure how long reads wait.

        Args:
            call: Makes a call that waits where reads do and comes to `came_back`; does not wait.
        """
        self._call_delay = CallDelay(call)

    def came_back(self) -> None:
        """The own call is handled, by which it measures how long reads wait."""
        with self.looking():
            if self._call_delay is not None:
                self._call_delay.came_back(self._clock())

    def digest(self, group: int) -> tuple[int, str]:
        """(instance applied last, digest of the state after it), of one group.

        Raises:
            ConfigurationError: The group is not served here.
        """
        learner = self._learner(group)
        with self.looking():
            return learner.applied_through, learner.host.digest().hex()

    def configuration(self, group: int) -> tuple[int, tuple[int, ...], tuple[int, ...]] | None:
        """(config_id, ids of the voters, ids of the followers) that one group's log has come to.

        None where the group is not served here: of many members most have not a group, and an error
        costs Ray much.
        """
        opened = self.serving_role()
        if opened is None:
            return None
        assert isinstance(opened.role, GroupRouter)
        learner = opened.role.roles.get(group)
        if not isinstance(learner, Learner):
            return None
        with self.looking():
            found = learner.configuration
        voters = tuple(each.member_id for each in found.voters)
        return found.config_id, voters, tuple(each.member_id for each in found.followers)

    def memberships(self) -> dict[str, Any]:
        """What the member has, and who has it by each group's log, as plain data.

        Returns:
            `held`: the groups that it has, or is letting go of; `groups`: of each that is open its
            config_id, and the ids of its voters and followers; `joined`: names and ids of the
            members outside the genesis that it has met; `knows`: the oldest and the newest cluster
            version that its release knows.

        Raises:
            ConfigurationError: The learner does not serve.
        """
        opened = self.serving_role()
        if opened is None:
            raise ConfigurationError(f"the learner does not serve: {self.role_state}")
        keeper = opened.role
        assert isinstance(keeper, PartsKeeper)
        with self.looking():
            found = {
                group: learner.configuration
                for group, learner in keeper.roles.items()
                if isinstance(learner, Learner)
            }
            held, joined = list(keeper.parts.parts), list(keeper.parts.joined.items())
        groups = {
            group: (
                each.config_id,
                tuple(voter.member_id for voter in each.voters),
                tuple(follower.member_id for follower in each.followers),
            )
            for group, each in found.items()
        }
        return {
            "held": held,
            "groups": groups,
            "joined": [(name, m) for m, name in joined],
            "knows": (THIS_RELEASE.oldest, THIS_RELEASE.newest),
        }

    def exchange_queries(self, line: int, batch: bytes) -> bytes:
        """Take queries of a line in that may wait, and return with what is there for the line.

        Args:
            line: Number of the line.
            batch: Encoded envelopes with one `Query` each, of any clients; may be empty.

        Returns:
            As of `LineExchange.exchange`; or this role's state: nothing was taken in.
        """
        if self.serving_role() is None:
            return self.not_serving()
        return self._exchange.exchange(line, batch)

    def _refusal(self, envelope: Envelope) -> Envelope | None:
        """The answer to a query of a group that is not here."""
        opened = self._opened
        assert opened is not None, "it serves"
        assert isinstance(opened.role, GroupRouter)
        if envelope.group in opened.role.roles:
            return None
        query = envelope.message
        assert isinstance(query, Query)
        what = f"group {envelope.group} is not at this member"
        return _answer_to(envelope, QueryFailed(query.request_id, 0, what, QueryProblem.NO_GROUP))

    def _started(self, opened: OpenedRole) -> None:
        super()._started(opened)
        self._tracing = trace_role(LearnerTracing, self._encoded_spec, self._member, self._clock)
        self._exchange = LineExchange((Query,), self._refusal, self._bring, HELD_S)

    def _answer_client(self, to: Address, envelope: Envelope) -> None:
        self._exchange.answer(to, envelope)

    def _learner(self, group: int) -> Learner:
        opened = self.serving_role()
        if opened is None:
            raise ConfigurationError(f"the learner does not serve: {self.role_state}")
        assert isinstance(opened.role, GroupRouter)
        learner = opened.role.roles.get(group)
        if not isinstance(learner, Learner):
            reason = opened.stopped_groups.get(group, "no such group at this member")
            raise ConfigurationError(f"group {group}: {reason}")
        return learner

    def _handle(
        self, opened: OpenedRole, brought: Sequence[Delivery | Arrival], errand: Errand
    ) -> None:
        super()._handle(opened, self._refuse_late(brought), errand)
        self._exchange.open_answered()

    def _execute(self, actions: Sequence[Action], present: Sequence[Errand]) -> None:
        applied = [
            (action.event.group, action.event.instance_id)
            for action in actions
            if isinstance(action, Observe) and isinstance(action.event, InstanceApplied)
        ]
        if applied:
            # Of the step that has just ended: what is done for its sake counts no more.
            self._observer.note_apply(self._clock() - self._step_ns, applied)
        super()._execute(actions, present)

    def _refuse_late(self, brought: Sequence[Delivery | Arrival]) -> Sequence[Delivery | Arrival]:
        """Answer reads that waited too long with that; what is left is to be handled."""
        if self._call_delay is None or not any(map(_is_query, brought)):
            return brought
        waited_ms = self._call_delay.look(self._clock()) // MILLISECOND_NS
        left: list[Delivery | Arrival] = []
        for each in brought:
            if not isinstance(each, Delivery) or each.errand is None:
                left.append(each)
                continue
            envelope = each.envelope
            query = envelope.message
            if not isinstance(query, _READS) or waited_ms < _patience_ms(query):
                left.append(each)
                continue
            what = f"reads wait for {waited_ms} ms at this member"
            failed = QueryFailed(query.request_id, 0, what, QueryProblem.OVERLOADED)
            each.errand.replies.append((RoleName.CLIENT, _answer_to(envelope, failed)))
        return left

    def _open_folder(
        self, spec: ClusterSpec, genesis: Genesis, member_id: int, disk: LocalDisk
    ) -> OpenedRole:
        # pyarrow takes 0.2 s to import, which is the opening thread's time, not the constructor's.
        from ray_paxos.storage.parquet import ParquetCodec
        from ray_paxos.storage.parquet_tables import ParquetTables

        opened = open_learner(
            disk,
            genesis,
            member_id,
            settings=_with_seals_of_many_groups(spec.learner, _user_groups(genesis)),
            codec=ParquetCodec(),
            tables=ParquetTables(),
            registry=MachineRegistry(),
            random=self._random(),
            now_ns=self._clock(),
            introduce=self._switchboard.introduce,
        )
        # The folder is held now.
        record = partial(write_cluster_version, disk, Identity(genesis, member_id))
        self._switchboard.record_versions_by(record)
        return opened

    def _describe_groups(self, opened: OpenedRole) -> dict[int, dict[str, Any]]:
        assert isinstance(opened.role, GroupRouter)
        described = {}
        for group, learner in opened.role.roles.items():
            assert isinstance(learner, Learner)
            configuration = learner.configuration
            described[group] = {
                "config_id": configuration.config_id,
                "voters": [voter.member_id for voter in configuration.voters],
                "followers": [follower.member_id for follower in configuration.followers],
                "known_through": learner.known_through,
                "segments": learner.segment_count,
                "sessions": learner.host.session_count,
                "learned_through": learner.learned_through,
                "applied_through": learner.applied_through,
                "durable_through": learner.durable_through,
                "log_floor": learner.log_floor,
                "stopped": learner.stopped,
                "is_full": learner.is_full,
                "storage_full": self._storage_full,
                "overdue_chunks": learner.overdue_chunks,
                "alarms": list(learner.alarms),
            }
        return described


def _is_query(brought: Delivery | Arrival) -> bool:
    return isinstance(brought, Delivery) and isinstance(brought.envelope.message, _READS)


def _answer_to(query: Envelope, failed: QueryFailed) -> Envelope:
    """An answer that no group's learner gives."""
    sender = Address(0, RoleName.LEARNER)
    return Envelope(query.genesis, query.group, sender, 0, 0, 0, failed)


def _patience_ms(query: Query | QueryMany) -> int:
    """How long a read may have waited to be worth executing."""
    return min(query.timeout_ms or QUERY_WAIT_MAX_MS, QUERY_WAIT_MAX_MS)


def _with_seals_of_many_groups(settings: LearnerSettings, groups: int) -> LearnerSettings:
    """Settings by which a member makes no more segments, for age, than it has time for."""
    age_ns = settings.seal_age_ns * groups // GROUPS_SEALED
    age_ns = min(age_ns, SEAL_AGE_MAX_MS * MILLISECOND_NS)
    return replace(settings, seal_age_ns=max(settings.seal_age_ns, age_ns))


def _user_groups(genesis: Genesis) -> int:
    """How many groups there are beside the system's."""
    return sum(group.group != SYSTEM_GROUP for group in genesis.groups)
