"""Schedules about reads that go together, by the real rules (`core.query_batches`), step by step.

Each one is played again with its defence taken out, and must fail.
"""

from __future__ import annotations

import pytest

from ray_paxos.core.client_messages import Consistency, ReadIndex, ReadIndexConfirmed
from ray_paxos.core.learner_messages import Chosen, LearnReply
from ray_paxos.core.messages import Address, Envelope, Message
from ray_paxos.core.query_calls import QuerySettings
from ray_paxos.machines.log import encode_lines
from ray_paxos.testing.batched_reads import BatchedReads
from ray_paxos.testing.reads import Read
from ray_paxos.testing.scenario import Scenario
from ray_paxos.testing.scripted_client import ScriptedClient, member_id_of
from ray_paxos.testing.scripted_network import Rule
from ray_paxos.testing.trace import name_address
from ray_paxos.testing.workload import LOG_MACHINE
from tests.simulation import mutations_of_reads
from tests.simulation.test_lease_schedules import LEASED, eager, lead
from tests.simulation.test_mutations import fail
from tests.simulation.test_read_schedules import UNLEASED

PATIENCE_NS = 60_000_000_000
ONE_AT_A_TIME = QuerySettings(window_max=1)


class SteppedReads:
    """The reads of a real client, one batch at a time, of the member that a test names first."""

    def __init__(self, play: Scenario, member: str, *, has_lease: bool) -> None:
        client = play.client()
        self.address = client.address
        self._play = play
        self._group = 0
        self.reads = BatchedReads(
            client_id=client.address.member_id,
            group=self._group,
            members=tuple(play.cluster.members),
            has_lease=has_lease,
            settings=ONE_AT_A_TIME,
            scheduler=play.world.scheduler,
            random=play.world.random,
            judge=play.world.checker,
            own_instance=lambda: 0,
            send=self._send,
        )
        for kind in self.reads.batches._kinds.values():
            kind.member_id = member_id_of(member)
        play.cluster.receivers[self.address.member_id] = self._receive

    def call(self, count: int = 1) -> list[Read]:
        """Read all lines, linearizably; do not wait."""
        consistency = Consistency.LINEARIZABLE
        called = [
            self.reads.call(LOG_MACHINE, encode_lines(), consistency, None, PATIENCE_NS)
            for _ in range(count)
        ]
        self.reads.go_on()
        return called

    def answered(self, reads: list[Read]) -> None:
        """Wait until these have been answered, and so judged."""
        self._play.until(lambda: all(read.is_over for read in reads), what="reads are answered")

    def _send(self, to: Address, message: Message) -> None:
        genesis = self._play.world.genesis.hash()
        envelope = Envelope(genesis, self._group, self.address, 0, 0, 0, message)
        self._play.transport.send(self.address, to, envelope)

    def _receive(self, envelope: Envelope) -> None:
        message = envelope.message
        if self.reads.is_ours(message):  # type: ignore[arg-type]
            self.reads.receive(message)  # type: ignore[arg-type]


def depose(play: Scenario, client: ScriptedClient, name: str) -> tuple[Rule, Rule]:
    """Another member leads, and has acknowledged something that A's learner does not know."""
    play.freeze("A")
    parted = play.cut("A", "B C")
    play.stand(name)
    client.call(name, b"two")
    return parted


def test_reads_that_come_while_a_round_is_on_its_way() -> None:
    """R8: a round that was sent proves nothing of reads that are asked afterwards.

    A's learner is behind the index of the first, so that it is asked again once the index is there.
    Until then C is elected, and acknowledges something.
    """
    play = Scenario(options=UNLEASED)
    eager(play, "C")
    client = lead(play, b"zero", has_lease=False)
    behind = play.hold(Chosen, sender="A", to="A.learner")
    untold = play.lose(LearnReply, to="A.learner")
    client.submit("A", b"one")
    play.until(lambda: behind.count > 0, what="A's proposer has chosen it")
    reads = SteppedReads(play, "A", has_lease=False)
    late = play.hold(ReadIndexConfirmed, to=name_address(reads.address))
    early = reads.call()
    play.until(lambda: late.count > 0, what="A has its index confirmed")
    parted = depose(play, client, "C")
    afterwards = reads.call(2)
    play.deliver(behind)
    play.run(ms=5)
    play.deliver(late)
    reads.answered(early)
    play.end(untold, *parted)
    reads.answered(afterwards)


def test_reads_under_a_lease_that_is_over() -> None:
    """F7: a batch that waits at a stopped learner is not answered by a lease that ran out."""
    play = Scenario(options=LEASED)
    eager(play, "B")
    client = lead(play, b"one")
    reads = SteppedReads(play, "A", has_lease=True)
    play.pause("A.learner")
    called = reads.call(3)
    parted = depose(play, client, "B")
    play.resume("A.learner")
    play.run(ms=5)
    play.end(*parted)
    reads.answered(called)


def test_many_reads_take_one_round() -> None:
    """What waits while calls are on their way shares one index, and one call to the learner."""
    play = Scenario(options=UNLEASED)
    lead(play, b"one", has_lease=False)
    reads = SteppedReads(play, "A", has_lease=False)
    indexes = play.watch(ReadIndex)
    reads.answered(reads.call() + reads.call(50))
    assert indexes.count == 2


@pytest.mark.parametrize(
    ("mutation", "schedule"),
    [
        (
            mutations_of_reads.share_a_round_already_sent,
            test_reads_that_come_while_a_round_is_on_its_way,
        ),
    ],
)
def test_found_by_schedules(mutation, schedule, monkeypatch):
    fail(mutation, schedule, monkeypatch)
