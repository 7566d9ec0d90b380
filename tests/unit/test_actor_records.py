"""What passes between drivers and actors: names, specs, answers, errors."""

from __future__ import annotations

import threading
from collections import deque
from functools import partial
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from ray_paxos import errors
from ray_paxos.actors.answers import RolePhase, RoleState, encode_state, state_of
from ray_paxos.actors.bootstrapping import check_roles, make_genesis
from ray_paxos.actors.client_arguments import client_settings
from ray_paxos.actors.feeds import FeedLimits, carried_bytes_max, inline_bytes_max
from ray_paxos.actors.folders import CARRIED, error_fields, raise_error
from ray_paxos.actors.learner_shell import LearnerShell
from ray_paxos.actors.line_exchange import LineExchange
from ray_paxos.actors.names import (
    ROLE_NAMES,
    actor_name,
    bootstrap_name,
    parse_actor_name,
    role_method,
)
from ray_paxos.actors.spec import decode_spec, make_spec
from ray_paxos.actors.switchboard import Switchboard
from ray_paxos.config import parse_configuration
from ray_paxos.core.client_messages import (
    Consistency,
    Query,
    QueryFailed,
    QueryMany,
    QueryProblem,
)
from ray_paxos.core.driver import Action, Write
from ray_paxos.core.genesis import MemberSpec
from ray_paxos.core.messages import Address, Envelope, RoleName
from ray_paxos.core.settings import MILLISECOND_NS as MS
from ray_paxos.core.tasks import CutLog, LogCut, Outcome, Task
from ray_paxos.core.wanted_changes import wanted_of_genesis
from ray_paxos.core.wire import decode_envelopes, encode_envelopes
from ray_paxos.machines.registry import MachineRegistry
from ray_paxos.observability.status import MemberStatus, RoleStatus, group_status


def test_names_are_read_back() -> None:
    assert parse_actor_name(actor_name("demo", "m1", RoleName.LEARNER)) == (
        "demo",
        "m1",
        RoleName.LEARNER,
    )
    assert parse_actor_name(bootstrap_name("demo")) is None
    assert parse_actor_name("demo/m1/broker") is None


def test_the_actor_of_a_fused_member_is_that_of_all_its_roles() -> None:
    names = {actor_name("demo", "m1", role, is_fused=True) for role in ROLE_NAMES}
    (name,) = names
    assert parse_actor_name(name) == ("demo", "m1", None)
    assert name not in {actor_name("demo", "m1", role) for role in ROLE_NAMES}


def test_a_role_is_asked_by_its_own_method_or_through_its_member() -> None:
    def remote(name: str) -> SimpleNamespace:
        return SimpleNamespace(remote=lambda *arguments: (name, *arguments))

    handle = SimpleNamespace(**{name: remote(name) for name in ("ask", "state", "submit")})
    for method, is_fused, called in (
        ("state", False, ("state", 1.0)),
        ("state", True, ("ask", "learner", "state", 1.0)),
        ("submit", False, ("submit", 1.0)),
        ("submit", True, ("submit", 1.0)),
    ):
        assert role_method(handle, RoleName.LEARNER, method, is_fused=is_fused)(1.0) == called


def test_a_running_cluster_is_not_joined_with_other_roles() -> None:
    separate = parse_configuration("cluster: demo\n")
    fused = parse_configuration("cluster: demo\nroles: fused\n")
    spec = decode_spec(make_spec(make_genesis(fused), fused).encoded())
    assert spec.is_fused
    check_roles(spec, fused)
    with pytest.raises(errors.ConfigurationError, match=r"roles: found separate.*roles fused"):
        check_roles(spec, separate)


def test_where_a_member_is_pinned_is_known_to_whoever_makes_its_actors_again() -> None:
    """Also long after the file by which it was started is gone: group 0 begins with it."""
    configuration = parse_configuration(
        "cluster: demo\n"
        "members: [{name: a, node_labels: {disk: one}}, {name: b, resource: two}, c]\n"
    )
    genesis = make_genesis(configuration)
    spec = decode_spec(make_spec(genesis, configuration).encoded())
    begin = wanted_of_genesis(genesis, spec.pins)
    assert [(m.labels, m.resource) for m in begin.members] == [
        ((("disk", "one"),), ""),
        ((), "two"),
        ((), ""),
    ]


def test_a_spec_knows_further_members_once() -> None:
    configuration = parse_configuration("cluster: demo\n")
    genesis = make_genesis(configuration)
    spec = make_spec(genesis, configuration)
    later = MemberSpec("m4", 44)
    knowing = spec.knowing((later, genesis.members[0])).knowing((later,))
    assert knowing.joined == (later,)
    assert knowing.members == (*genesis.members, later)


def test_a_genesis_has_random_ids_and_a_replica_of_its_own_for_every_voter() -> None:
    configuration = parse_configuration("cluster: demo\nmembers: 5\ngroups: 2\n")
    first, second = make_genesis(configuration), make_genesis(configuration)
    assert [group.group for group in first.groups] == [0, 1, 2]
    for group in first.groups:
        assert len({voter.member_id for voter in group.voters}) == 5
        assert sorted(voter.replica_id for voter in group.voters) == [1, 2, 3, 4, 5]
        assert group.voters == tuple(sorted(group.voters))
    assert [machine.kind for machine in first.groups[0].machines] == ["system"]
    assert {m.kind for m in first.groups[1].machines} == {
        kind for kind, _ in MachineRegistry().kinds if kind != "system"
    }
    assert first.cluster_id != second.cluster_id
    assert not {m.member_id for m in first.members} & {m.member_id for m in second.members}


def test_a_spec_is_read_back_and_another_format_is_refused() -> None:
    configuration = parse_configuration("cluster: demo\nproposer: {window_max: 3}\n")
    genesis = make_genesis(configuration)
    spec = decode_spec(make_spec(genesis, configuration).encoded())
    assert spec.decoded_genesis() == genesis
    assert spec.proposer.window_max == 3
    future = msgspec.structs.replace(spec, format=99)
    with pytest.raises(errors.WireFormatError, match="format 99"):
        decode_spec(future.encoded())
    with pytest.raises(errors.WireFormatError):
        decode_spec(b"\xff")


def test_a_spec_names_priorities_by_member_id_where_they_are_not_the_default() -> None:
    text = "cluster: demo\nmembers: [{name: a, priority: 5}, b, {name: c, priority: 0}]\n"
    configuration = parse_configuration(text)
    genesis = make_genesis(configuration)
    ids = {member.name: member.member_id for member in genesis.members}
    spec = decode_spec(make_spec(genesis, configuration).encoded())
    assert spec.priorities == {ids["a"]: 5, ids["c"]: 0}


def test_an_answer_is_envelopes_or_a_state() -> None:
    state = RoleState(RolePhase.STOPPED, "fsync failed", "StorageError")
    assert state_of(encode_state(state)) == state
    assert state_of(encode_envelopes(())) is None
    for garbage in (b"", b"\x09", b"\x00\xc1"):
        with pytest.raises(errors.WireFormatError):
            state_of(garbage)


def test_errors_of_starting_come_through_as_themselves() -> None:
    kinds = [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, CARRIED)
    ]
    assert {errors.BootstrapError, errors.PlacementError, errors.FolderHeldError} <= set(kinds)
    for kind in kinds:
        with pytest.raises(kind) as raised:
            raise_error(error_fields(kind("why")), "member m1: ")
        assert type(raised.value) is kind
        assert str(raised.value) == "member m1: why"
    for unknown in ("FutureError", "annotations", "OverloadedError"):
        with pytest.raises(errors.ClusterError):
            raise_error((unknown, "why"))


def test_calls_stay_within_the_inlining_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    assert inline_bytes_max({}) == 100 * 1024
    assert inline_bytes_max({"RAY_max_direct_call_object_size": "2000000"}) == 2_000_000
    monkeypatch.delenv("RAY_max_direct_call_object_size", raising=False)
    assert FeedLimits.for_this_process().call_bytes_max < 100 * 1024
    assert 90_000 < carried_bytes_max(800_000) < 100 * 1024
    assert carried_bytes_max(50_000) == 50_000
    monkeypatch.setenv("RAY_max_direct_call_object_size", "2000000")
    assert FeedLimits.for_this_process().call_bytes_max == FeedLimits().call_bytes_max
    assert carried_bytes_max(800_000) == 800_000


def test_a_clients_requests_stay_within_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "cluster: demo\nproposer: {batch_bytes_max: 700_000}\n"
    configuration = parse_configuration(text)
    spec = make_spec(make_genesis(configuration), configuration)
    monkeypatch.delenv("RAY_max_direct_call_object_size", raising=False)
    assert client_settings(spec).request_bytes_max < 100 * 1024
    monkeypatch.setenv("RAY_max_direct_call_object_size", "2000000")
    assert client_settings(spec).request_bytes_max == 700_000


def test_a_group_is_described_by_those_that_answer() -> None:
    def member(name: str, member_id: int, applied: int | None, is_serving: bool) -> MemberStatus:
        learner = RoleStatus("gone")
        if applied is not None:
            position = {
                "learned_through": applied,
                "applied_through": applied,
                "durable_through": applied,
                "log_floor": 1,
                "stopped": "",
            }
            learner = RoleStatus("serving", groups={1: position})
        proposer = RoleStatus("serving", groups={1: {"is_serving": is_serving}})
        checkpointer = RoleStatus("serving", groups={1: {"checkpoints": [2, 5]}})
        roles = {"proposer": proposer, "learner": learner, "checkpointer": checkpointer}
        return MemberStatus(name, member_id, roles)

    status = group_status(
        1, (member("a", 10, 7, False), member("b", 20, 9, True), member("c", 30, None, False))
    )
    assert status.master == "b"
    assert {name: position.lag for name, position in status.positions.items()} == {"a": 2, "b": 0}
    assert {position.checkpoint for position in status.positions.values()} == {5}
    assert group_status(2, (member("a", 10, 7, True),)).master is None


def test_hearsay_lasts_no_longer_than_an_election_timeout() -> None:
    configuration = parse_configuration("cluster: demo\nproposer: {election_timeout_ms: 500}\n")
    spec = make_spec(make_genesis(configuration), configuration)
    assert spec.acceptor.hearsay_ns == spec.proposer.election_timeout_ns == 500_000_000


class PlayedLearner(LearnerShell):
    """A learner's shell whose own calls and clock are played; what its driver receives is noted."""

    def __init__(self) -> None:
        self.now_ns = 0
        self.own_calls = 0
        self.received: list[int] = []
        switchboard = Switchboard()
        super().__init__(b"", "m1", switchboard, clock=lambda: self.now_ns)
        self.background.close()
        switchboard._shells[self.role] = self
        self.deliver = partial(switchboard.deliver, self.role)
        self._exchange = LineExchange((Query,), self._refusal, self._bring)
        self.measure_by(self._call_self)
        self._opened: Any = SimpleNamespace(driver=self)

    def _call_self(self) -> None:
        self.own_calls += 1

    def receive(self, envelope: Envelope, now_ns: int) -> list[Action]:
        self.received.append(envelope.message.request_id)  # type: ignore[union-attr]
        return []

    def _execute(self, actions: object, present: object) -> None:
        pass

    def _set_timer(self, driver: object) -> None:
        pass

    def asked(
        self, request_id: int, timeout_ms: int = 0, *, is_many: bool = False
    ) -> QueryFailed | None:
        query: Query | QueryMany = Query(request_id, "kv", b"", 0, timeout_ms=timeout_ms)
        if is_many:
            stale = Consistency.STALE
            query = QueryMany(request_id, "kv", (b"",), 0, stale, None, timeout_ms, 1_000)
        sender = Address(9, RoleName.CLIENT)
        batch = encode_envelopes((Envelope(b"", 1, sender, 0, 0, 0, query),))
        replies = decode_envelopes(self.deliver(batch))
        if not replies:
            return None
        failed = replies[0].message
        assert isinstance(failed, QueryFailed)
        return failed


@pytest.mark.parametrize("is_many", [False, True])
def test_reads_that_nobody_waits_for_are_refused_and_not_executed(is_many: bool) -> None:
    learner = PlayedLearner()
    assert learner.asked(1, timeout_ms=2_000, is_many=is_many) is None
    # A machine worked on that for 3 s. The own call waited as long, and so did the next reads.
    learner.now_ns += 3_000 * MS
    learner.came_back()
    failed = learner.asked(2, timeout_ms=2_000, is_many=is_many)
    assert failed is not None
    assert (failed.request_id, failed.problem) == (2, QueryProblem.OVERLOADED)
    assert "3000 ms" in failed.message
    assert learner.asked(3, timeout_ms=4_000) is None, "somebody waits for longer"
    assert learner.asked(4) is None
    # The queue is empty: nothing waits long any more, and nothing is refused.
    learner.now_ns += 5 * MS
    learner.came_back()
    assert learner.asked(5, timeout_ms=2_000) is None
    assert learner.received == [1, 3, 4, 5]


def test_a_read_that_names_no_time_is_not_waited_for_for_ever() -> None:
    learner = PlayedLearner()
    for timeout_ms in (0, 60_000):
        assert learner.asked(1, timeout_ms) is None
        learner.now_ns += 5_000 * MS
        learner.came_back()
        assert learner.asked(2, timeout_ms) is not None
        learner.now_ns += 1
        learner.came_back()
        learner.now_ns += 2_000 * MS


def test_what_comes_before_the_own_call_has_waited_longer_than_that() -> None:
    # Ten reads arrive while the machine works on the first; the own call is behind them.
    learner = PlayedLearner()
    learner.asked(1, timeout_ms=2_000)
    executed = 0
    for number in range(10):
        learner.now_ns += 900 * MS
        executed += learner.asked(2 + number, timeout_ms=2_000) is None
    assert executed == 2


def test_an_own_call_that_is_lost_does_not_refuse_reads_for_ever() -> None:
    learner = PlayedLearner()
    learner.asked(1)
    learner.now_ns += 59_000 * MS
    assert learner.asked(2) is not None
    learner.now_ns += 1_000 * MS
    assert learner.asked(3) is None
    assert learner.own_calls == 2


def test_an_old_delay_says_nothing_and_own_calls_are_few() -> None:
    learner = PlayedLearner()
    for number in range(50):
        learner.now_ns += MS
        learner.asked(number)
    assert learner.own_calls == 1, "one at a time"
    learner.now_ns = 200 * MS
    learner.came_back()
    assert learner.own_calls == 2, "while calls wait long, it goes on measuring"
    learner.now_ns = 250 * MS
    learner.came_back()
    for number in range(49):
        learner.asked(number)
        learner.now_ns += MS
    assert learner.own_calls == 2
    learner.now_ns += 60_000 * MS
    assert learner.asked(7, timeout_ms=1) is None
    assert learner.own_calls == 3


class BrokenStore:
    """Fails as no disk does."""

    def write(self, records: object) -> None:
        raise RuntimeError("a bug")


def test_a_write_that_breaks_off_for_a_bug_stops_the_learner() -> None:
    learner: Any = LearnerShell.__new__(LearnerShell)
    arrived: list[Any] = []
    learner.arrive = arrived.append
    learner._stopped = None
    learner._clock = lambda: 0
    learner._is_closing = threading.Event()
    with pytest.raises(RuntimeError):
        learner._write(BrokenStore(), Write((), 7))
    (written,) = arrived
    driver = SimpleNamespace(on_storage_failed=lambda what: [])
    assert written(driver, 0) == []
    assert "a bug" in learner._stopped.reason
    assert learner._stopped.error == "StorageError"


class FullUntilCut:
    """A learner's store on a full disk, in which a cut of the log makes room."""

    def __init__(self) -> None:
        self.is_full = True
        self.done: list[str] = []

    def write(self, records: object) -> None:
        if self.is_full:
            raise errors.StorageFullError("no room")
        self.done.append("written")

    def sync(self) -> None:
        self.done.append("synced")

    def run(self, task: Task) -> Outcome:
        self.is_full = False
        self.done.append("cut")
        return LogCut(5)


def test_a_cut_that_makes_room_does_not_wait_behind_the_write_that_needs_it() -> None:
    actor: Any = LearnerShell.__new__(LearnerShell)
    actor._tasks = deque([CutLog(1, 5)])
    pauses = iter((False, False, True))
    actor._is_closing = SimpleNamespace(wait=lambda seconds: next(pauses))
    ticks = iter((0, 10, 15))
    actor._clock = lambda: next(ticks)
    sealed: list[int] = []
    actor._observer = SimpleNamespace(warn=lambda text: None, note_seal=sealed.append)
    arrived: list[Any] = []
    actor.arrive = arrived.append
    store = FullUntilCut()
    assert actor._try_to_write(store, Write((), 1)) is None
    assert store.done == ["cut", "written", "synced"]
    assert sealed == [5], "the time of the write that succeeded"
    driver = SimpleNamespace(on_outcome=lambda task, outcome, now_ns: [outcome])
    assert [arrival(driver, 0) for arrival in arrived] == [[LogCut(5)]]
    actor._run_next(store)
    assert len(arrived) == 1, "its turn in the store thread comes, and it is done already"
