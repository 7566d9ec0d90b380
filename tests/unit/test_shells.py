"""Shells: whose turn it is, what leaves when, and a whole fused cluster in threads; without Ray."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ray_paxos.actors import learner_shell
from ray_paxos.actors.addressed import decode_addressed, encode_addressed
from ray_paxos.actors.answers import RolePhase, state_of
from ray_paxos.actors.bootstrapping import make_genesis
from ray_paxos.actors.errands import Delivery, Errand
from ray_paxos.actors.feeds import INLINE_VARIABLE, FeedLimits
from ray_paxos.actors.learner_shell import LearnerShell
from ray_paxos.actors.spec import make_spec
from ray_paxos.actors.switchboard import Switchboard
from ray_paxos.config import parse_configuration
from ray_paxos.core.ballot import Ballot
from ray_paxos.core.client_messages import Consistency, Query
from ray_paxos.core.messages import Accept, Accepted, Address, Envelope, RoleName
from ray_paxos.core.records import VoteCast
from ray_paxos.core.settings import LearnerSettings
from ray_paxos.errors import StorageError
from ray_paxos.machines import log
from tests.unit.core_helpers import MS
from tests.unit.core_helpers import client as client_at
from tests.unit.member_processes import MemberProcesses, in_threads, running_members

PATIENCE_S = 20.0


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MemberProcesses]:
    with running_members(tmp_path_factory.mktemp("fused")) as cluster:
        yield cluster


class HeldSync:
    """Takes the place of a store's sync: counts, and holds syncs up until it is told."""

    def __init__(self, member: Any) -> None:
        self.store = member.acceptor.serving_role().store
        self.real = self.store.sync
        self.begun = threading.Semaphore(0)
        self.released = threading.Event()
        self.count = 0
        self.error: Exception | None = None
        self.store.sync = self

    def __call__(self) -> None:
        self.count += 1
        self.begun.release()
        assert self.released.wait(PATIENCE_S)
        if self.error is not None:
            raise self.error
        self.real()

    def undo(self) -> None:
        self.released.set()
        self.store.sync = self.real


def accept_of(cluster: MemberProcesses, number: int) -> Envelope:
    """A vote asked for at a ballot of its own, far above all that the cluster uses itself."""
    first = cluster.genesis.members[0].member_id
    voter = next(v for v in cluster.genesis.groups[1].voters if v.member_id == first)
    sender = Address(first, RoleName.PROPOSER)
    message = Accept(Ballot(1_000_000, first, 1), 100_000 + number, b"value %d" % number)
    return Envelope(cluster.genesis.hash(), 1, sender, voter.replica_id, 1, 0, message)


def vote(cluster: MemberProcesses, member: str, number: int) -> list[int]:
    """One call of a peer that asks for a vote; the instances that were accepted."""
    batch = encode_addressed([(RoleName.ACCEPTOR, accept_of(cluster, number))])
    answer = cluster.members[member].switchboard.deliver_addressed(batch)
    return [
        envelope.message.instance_id
        for _, envelope in decode_addressed(answer)
        if isinstance(envelope.message, Accepted)
    ]


def test_many_clients_of_a_cluster_in_threads(members: MemberProcesses) -> None:
    """Their commands are applied once each, in their order, at all members."""
    clients, commands = 12, 40
    master = members.master()

    def work(number: int) -> None:
        client = members.client(900 + number)
        for n in range(commands):
            client.write(f"client {number} line {n}".encode())

    in_threads(clients, work)
    lines = members.lines(master)
    for number in range(clients):
        own = [line for line in lines if line.startswith(b"client %d " % number)]
        assert own == [b"client %d line %d" % (number, n) for n in range(commands)]
    members.wait_until_equal()


def test_a_proposers_batches_stay_within_a_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where others started Ray, what it carries within a call is known by the role only."""
    monkeypatch.delenv(INLINE_VARIABLE, raising=False)
    with running_members(tmp_path, "proposer: {batch_bytes_max: 800_000}\n") as cluster:
        shell: Any = cluster.members["m1"].proposer
        proposer = shell.serving_role().role.roles[1]
        assert 90_000 < proposer._settings.batch_bytes_max < 100 * 1024


@pytest.mark.parametrize(
    ("groups", "configured_ms", "expected_ms"),
    [
        (1, 100, 100),
        (10, 1_000, 1_000),
        (30, 100, 300),
        (100, 1_000, 10_000),
        (1_000, 1_000, 10_000),
        (100, 20_000, 20_000),
    ],
)
def test_with_many_groups_each_is_sealed_less_often(
    groups: int, configured_ms: int, expected_ms: int
) -> None:
    configured = LearnerSettings(seal_age_ns=configured_ms * MS)
    settings = learner_shell._with_seals_of_many_groups(configured, groups)
    assert settings == replace(configured, seal_age_ns=expected_ms * MS)


@pytest.mark.parametrize(
    ("groups", "age_ms"), [(1, 1_000), (10, 1_000), (50, 5_000), (100, 10_000)]
)
def test_a_learner_seals_as_often_as_its_groups_allow(
    monkeypatch: pytest.MonkeyPatch, groups: int, age_ms: int
) -> None:
    monkeypatch.setattr(learner_shell, "open_learner", lambda *_, settings, **__: settings)
    configuration = parse_configuration(f"cluster: demo\ngroups: {groups}\n")
    genesis = make_genesis(configuration)
    shell: Any = LearnerShell.__new__(LearnerShell)
    shell._random = shell._clock = lambda: None
    shell._switchboard = Switchboard()
    settings = shell._open_folder(make_spec(genesis, configuration), genesis, 1, None)
    assert settings.seal_age_ns == age_ms * MS


def test_a_lone_command_takes_one_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One member is asked for its vote; the other one, and both learners, are told with a later."""
    patient = FeedLimits(patience_s=1.0)
    monkeypatch.setattr(FeedLimits, "for_this_process", classmethod(lambda cls: patient))
    commands = 150
    with running_members(tmp_path) as cluster:
        client = cluster.client(800)
        client.write(b"first")
        before = cluster.calls_with_accepts
        for n in range(commands):
            client.write(b"lone %d" % n)
        assert cluster.calls_with_accepts - before < 1.5 * commands
        cluster.wait_until_equal()


def test_a_vote_that_the_quickest_does_not_give_is_asked_of_the_others(tmp_path: Path) -> None:
    with running_members(tmp_path) as cluster:
        client = cluster.client(700)
        for n in range(5):
            client.write(b"before %d" % n)
        master = cluster.master()
        for name in [name for name in cluster.members if name != master]:
            held = HeldSync(cluster.members[name])
            for n in range(3):
                client.write(b"%s holds its vote back %d" % (name.encode(), n))
            held.undo()
        cluster.wait_until_equal()


def test_votes_that_wait_for_a_sync_share_the_next_one(
    members: MemberProcesses, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = HeldSync(members.members["m2"])
    appended: list[list[int]] = []
    write = held.store.write

    def note(records: Sequence[Any]) -> None:
        # Its floor may rise meanwhile, which is written, too.
        votes = [r.instance_id for r in records if isinstance(r, VoteCast)]
        appended.append([number for number in votes if number >= 100_000])
        write(records)

    monkeypatch.setattr(held.store, "write", note)
    try:
        with ThreadPoolExecutor(6) as pool:
            first = pool.submit(vote, members, "m2", 0)
            assert held.begun.acquire(timeout=PATIENCE_S)
            others = [pool.submit(vote, members, "m2", number) for number in range(1, 6)]
            deadline = time.monotonic() + PATIENCE_S
            while len(members.members["m2"].acceptor._inbox) < 5:
                assert time.monotonic() < deadline
                time.sleep(0.001)
            assert not first.done(), "nothing leaves before its sync (R3)"
            held.released.set()
            assert first.result(PATIENCE_S) == [100_000]
            found = sorted(n for other in others for n in other.result(PATIENCE_S))
            assert found == [100_001, 100_002, 100_003, 100_004, 100_005]
        shared = [sorted(votes) for votes in appended if votes]
        assert shared == [[100_000], [100_001, 100_002, 100_003, 100_004, 100_005]]
    finally:
        held.undo()


def test_a_failed_sync_stops_the_acceptor_and_nothing_waits_for_ever(tmp_path: Path) -> None:
    with running_members(tmp_path) as cluster:
        client = cluster.client(700)
        client.write(b"before")
        other = next(name for name in cluster.members if name != cluster.master())
        held = HeldSync(cluster.members[other])
        held.error = StorageError("the disk is gone")
        held.released.set()
        assert vote(cluster, other, 1) == []
        acceptor = cluster.members[other].acceptor
        state = state_of(acceptor.not_serving())
        assert state is not None
        assert (state.phase, state.error) == (RolePhase.STOPPED, "StorageError")
        assert vote(cluster, other, 2) == [], "it vouches for nothing more"
        client.write(b"after, by the majority that is left")
        held.undo()


def test_a_shell_whose_turn_is_taken_is_served_by_who_has_it(members: MemberProcesses) -> None:
    """Nobody waits who only brings something, and nothing that was brought is left behind."""
    shell = members.members["m1"].learner
    served = threading.Event()

    def note(driver: Any, now_ns: int) -> list[Any]:
        served.set()
        return []

    with shell._turn:
        started = time.monotonic()
        shell.hand(note)
        shell.serve(_errand())
        assert time.monotonic() - started < 1.0
        assert not served.is_set()
    shell.serve(_errand())
    assert served.wait(PATIENCE_S)


def test_who_has_the_turn_handles_what_came_meanwhile(members: MemberProcesses) -> None:
    shell = members.members["m3"].checkpointer
    begun, released, handled = threading.Event(), threading.Event(), threading.Event()
    threads: list[int] = []

    def long(driver: Any, now_ns: int) -> list[Any]:
        begun.set()
        assert released.wait(PATIENCE_S)
        return []

    def short(driver: Any, now_ns: int) -> list[Any]:
        threads.append(threading.get_ident())
        handled.set()
        return []

    def work() -> None:
        shell.hand(long)
        shell.serve(Errand())

    first = threading.Thread(target=work)
    first.start()
    assert begun.wait(PATIENCE_S)
    shell.hand(short)
    shell.serve(Errand())
    assert not handled.is_set()
    released.set()
    assert handled.wait(PATIENCE_S)
    assert threads == [first.ident]
    first.join()


def test_what_is_brought_while_somebody_looks_is_handled_after_it() -> None:
    """Who only looks hands the turn on: else it would wait for whatever comes next."""
    shell: Any = LearnerShell.__new__(LearnerShell)
    woken: list[bool] = []
    shell._turn, shell._inbox = threading.Lock(), deque()
    shell.wake = lambda: woken.append(shell._turn.locked())
    with shell.looking():
        assert shell._turn.locked()
    assert woken == [], "there is nothing to be done"
    with shell.looking():
        shell.hand(lambda driver, now_ns: [])
        shell.serve(Errand())
        assert len(shell._inbox) == 1, "somebody else has the turn"
    assert woken == [False], "once it was given back"


@pytest.mark.parametrize(
    ("look", "arguments"),
    [("state", ()), ("digest", (1,)), ("configuration", (1,)), ("memberships", ())],
)
def test_all_who_look_hand_the_turn_on(
    members: MemberProcesses, look: str, arguments: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    shell = members.members["m1"].learner
    real, looks = shell.looking, []

    @contextlib.contextmanager
    def looking() -> Iterator[None]:
        with real():
            looks.append(threading.get_ident())
            yield

    monkeypatch.setattr(shell, "looking", looking)
    getattr(shell, look)(*arguments)
    assert looks == [threading.get_ident()]


def test_two_calls_of_one_client_get_their_own_answers(members: MemberProcesses) -> None:
    """Both wait for one turn, in which both are handled."""
    shell = members.members["m1"].learner
    errands = [Errand(client_at(77)), Errand(client_at(77))]
    for number, errand in enumerate(errands):
        query = Query(number, "log", log.encode_lines(1), 0, Consistency.STALE)
        envelope = Envelope(members.genesis.hash(), 1, client_at(77), 0, 0, 0, query)
        shell.hand(Delivery(envelope, errand))
    shell.serve_now(Errand())
    found = [[e.message.request_id for _, e in errand.replies] for errand in errands]  # type: ignore[union-attr]
    assert found == [[0], [1]]


def test_two_shells_that_hand_to_each_other_do_not_wait_for_each_other(
    members: MemberProcesses,
) -> None:
    member = members.members["m1"]
    rounds = 300
    done = threading.Semaphore(0)

    def bounce(shells: tuple[Any, Any], left: int) -> Any:
        def arrival(driver: Any, now_ns: int) -> list[Any]:
            if not left:
                done.release()
                return []
            following = shells[1]
            following.hand(bounce((shells[1], shells[0]), left - 1))
            errands[threading.get_ident()].hand(following)
            return []

        return arrival

    def work(number: int) -> None:
        pair = (
            (member.learner, member.proposer) if number % 2 else (member.proposer, member.learner)
        )
        errand = errands[threading.get_ident()] = _errand()
        pair[0].hand(bounce(pair, rounds))
        pair[0].serve(errand)
        member.switchboard.settle(errand)

    class Errands(dict[int, Any]):
        """An arrival may be handled by any thread of the process, with an errand of its own."""

        def __missing__(self, thread: int) -> Any:
            class Nobody:
                @staticmethod
                def hand(shell: Any) -> None:
                    shell.wake()

            return Nobody

    errands: dict[int, Any] = Errands()
    in_threads(8, work)
    for _ in range(8):
        assert done.acquire(timeout=PATIENCE_S)


def _errand() -> Any:
    return Errand()
