"""Schedules about sessions: numbers that are lost, refused, repeated, expired and asked again.

The client's part is the real one (`core.session`), driven step by step. Each schedule fails in
`test_lease_mutations.py` once its defence is out.
"""

from __future__ import annotations

import functools
from dataclasses import replace

import pytest

from ray_paxos.core.client_messages import RefusalCode, Refused, Submit, Submitted
from ray_paxos.core.messages import Accept, Address, Envelope, RoleName
from ray_paxos.core.results import EntryResult, NoteCode
from ray_paxos.core.session import ClientSession
from ray_paxos.core.values import SessionId
from ray_paxos.machines.host import MachineHost
from ray_paxos.machines.sessions import SessionLimits, SessionTable
from ray_paxos.testing.scenario import CALM, Scenario
from ray_paxos.testing.scripted_client import member_id_of
from ray_paxos.testing.scripted_network import Rule
from ray_paxos.testing.workload import LOG_MACHINE

NOT_APPLIED = "not applied"
TRIES_MAX = 20
FEW = SessionLimits(sessions_spared=1, idle_ns=200_000_000)


class Line:
    """Waits for what became of one line."""

    deadline_ns = 2**62

    def __init__(self, outcomes: dict[bytes, EntryResult | str], line: bytes) -> None:
        self._outcomes = outcomes
        self._line = line

    def begin(self) -> bool:
        return True

    def deliver(self, start: int, entry: EntryResult, offset: int, count: int) -> None:
        self._outcomes[self._line] = entry

    def fail(self, start: int, error: Exception, count: int) -> None:
        self._outcomes[self._line] = NOT_APPLIED


class SteppedSession:
    """A real client's session, which sends when a test says so."""

    def __init__(self, play: Scenario, member: str) -> None:
        opened = play.client()
        opened.open(member)
        assert opened.session is not None
        self.id: SessionId = opened.session
        self.address = Address(opened.address.member_id, RoleName.CLIENT)
        self.session = ClientSession(request_bytes_max=1, window_max=8)
        self.session.opened(opened.session)
        self.outcomes: dict[bytes, EntryResult | str] = {}
        self.gone: NoteCode | None = None
        self._play = play
        play.cluster.receivers[self.address.member_id] = self.receive

    def say(self, *lines: bytes) -> None:
        """Want lines in the log, each by a request of its own."""
        for line in lines:
            self.session.enqueue(LOG_MACHINE, [line], Line(self.outcomes, line))

    def send(self, member: str) -> Submit:
        """Send the request that is next."""
        submit = self.session.next_submit(self._play.world.now_ns)
        assert submit is not None, "something is to be sent"
        to = Address(member_id_of(member), RoleName.PROPOSER)
        genesis = self._play.world.genesis.hash()
        envelope = Envelope(genesis, 0, self.address, 0, 0, 0, submit)
        self._play.transport.send(self.address, to, envelope)
        return submit

    def send_all(self, member: str) -> None:
        """Send until all is answered."""
        for _ in range(TRIES_MAX):
            if not self.session.has_work:
                return
            self.send(member)
            self._play.run(ms=5)
        raise AssertionError(f"not all answered by {member}")

    def receive(self, envelope: Envelope) -> None:
        match envelope.message:
            case Submitted(request_id=request_id, results=results):
                answered = self.session.on_submitted(request_id, results)
                self.gone = self.gone or answered.gone
                for resolved in answered.resolved:
                    resolved.batch.deliver(resolved.result)
            case Refused(request_id=request_id, code=RefusalCode.OVERLOADED):
                self.session.on_untouched(request_id)
                self.session.on_not_taken(request_id)
            case _:
                pass

    def agrees(self, *lines: bytes) -> None:
        """What it was told of these lines is what the log holds of them."""
        reference = self._play.world.checker.logs[0].reference
        for number, line in enumerate(lines, start=1):
            assert line in self.outcomes, f"nothing was told of {line!r}"
            told, outcome = self.outcomes[line], reference.outcome(self.id, number)
            if isinstance(told, str):
                assert outcome is None, f"{line!r} was {told}, and is {outcome}"
                continue
            assert reference.command(self.id, number) == line
            assert outcome is not None
            note = told.notes.get(0)
            place = (note.instance_id, note.index) if note else (told.instance_id, told.index)
            assert place == (outcome.instance_id, outcome.index)
            assert told.results[0] == outcome.result


def copies(play: Scenario) -> Rule:
    """From now on what is submitted is held back, and can be carried as often as one likes."""
    return play.hold(Submit)


def carry(play: Scenario, rule: Rule, *places: int) -> None:
    """Carry some of what a rule holds, once more."""
    for place in places:
        play.transport.carry(*rule.held[place])


def test_delayed_copy_of_a_refused_number() -> None:
    """Schedule 14: 1, 2 and 3 are sent, 2 is lost, 3 is refused for the gap; its copy comes late.

    The refusal says nothing of 3's outcome: once 2 is applied, the copy is, too.
    """
    play = Scenario()
    play.stand("A")
    client = SteppedSession(play, "A")
    client.say(b"one", b"two", b"three")
    sent = copies(play)
    for _ in range(3):
        client.send("A")
    carry(play, sent, 0, 2)
    play.run(ms=2_000)
    assert b"one" in client.outcomes
    assert b"three" not in client.outcomes
    client.session.on_lost()
    late = sent.held[2]
    sent.held.clear()
    client.send("A")
    assert len(sent.held) == 1
    carry(play, sent, 0)
    play.run(ms=20)
    play.transport.carry(*late)
    play.run(ms=2_000)
    assert play.lines("A") == [b"one", b"two", b"three"]
    play.end(sent)
    client.session.on_lost()
    client.send_all("A")
    client.agrees(b"one", b"two", b"three")
    assert play.lines("A") == [b"one", b"two", b"three"]


def test_number_of_a_refused_command() -> None:
    """Schedule 14: a number that was refused, as overload, is not used for another command.

    Of number 1 there were two copies. One was refused; the other comes late and is applied.
    """
    play = Scenario()
    play.stand("A")
    client = SteppedSession(play, "A")
    client.say(b"one")
    sent = copies(play)
    submit = client.send("A")
    refused = Refused(submit.request_id, RefusalCode.OVERLOADED, "full", 1)
    sender = play.process("A.proposer").address
    client.receive(Envelope(b"", 0, sender, 1, 1, 0, refused))
    client.say(b"two")
    carry(play, sent, 0)
    play.run(ms=50)
    play.end(sent)
    client.send_all("A")
    client.agrees(b"one", b"two")
    assert play.lines("A") == [b"one", b"two"]


def test_evicted_session() -> None:
    """Schedule 15: a command whose session was evicted is not applied again, and the client knows.

    The reply is lost; other sessions need the room; the client asks again.
    """
    with pytest.MonkeyPatch.context() as patch:
        host = functools.partial(MachineHost, limits=FEW)
        patch.setattr("ray_paxos.storage.opening.MachineHost", host)
        patch.setattr("ray_paxos.testing.log_watch.MachineHost", host)
        play = Scenario()
        play.stand("A")
        client = SteppedSession(play, "A")
        client.say(b"once")
        lost = play.lose(Submitted)
        client.send("A")
        play.run(ms=500)
        play.end(lost)
        for _ in range(3):
            play.client().open("A")
            play.run(ms=500)
        assert play.learner("A").host.evicted_sessions > 0
        client.session.on_lost()
        client.send("A")
        play.run(ms=100)
        assert play.lines("A") == [b"once"]
        assert client.gone is NoteCode.SESSION_EXPIRED
        ((batch, may_be_applied),) = client.session.on_gone()
        assert batch.commands == [b"once"]
        assert may_be_applied
        assert not client.session.has_work


@pytest.mark.parametrize("moves", [False, True], ids=["same-master", "another-master"])
@pytest.mark.parametrize("restored", [False, True], ids=["live", "restored"])
def test_lost_reply(moves: bool, restored: bool) -> None:
    """F18: a command whose reply was lost, asked again, has the first result, wherever one asks.

    Also where the members have taken their sessions from a checkpoint meanwhile.
    """
    play = Scenario()
    play.stand("A")
    client, other = SteppedSession(play, "A"), play.client()
    client.say(b"mine")
    lost = play.lose(Submitted)
    client.send("A")
    play.run(ms=50)
    play.end(lost)
    other.call("A", b"another's")
    play.run(ms=200)
    if restored:
        for name in "ABC":
            host = play.learner(name).host
            host._sessions = SessionTable.restore(host._sessions.state, host._sessions.export())
    if moves:
        play.kill("A")
        play.stand("B")
    client.session.on_lost()
    client.send_all("B" if moves else "A")
    told = client.outcomes[b"mine"]
    assert isinstance(told, EntryResult)
    assert told.results == (b"1",)
    assert told.notes[0].code is NoteCode.KEPT
    client.agrees(b"mine")
    assert play.lines("B") == [b"mine", b"another's"]


@pytest.mark.parametrize("voted", ["", "C"], ids=["seen-by-nobody", "adopted"])
def test_master_change_in_the_middle_of_a_command(voted: str) -> None:
    """F19: the master goes while a command is on its way; asked again, it is applied once.

    Its accept was seen by nobody else; or C has voted for it, and the next master adopts it. In
    both cases the client hears nothing, and asks the next master.
    """
    play = Scenario()
    play.stand("A")
    client = SteppedSession(play, "A")
    client.say(b"one")
    client.send_all("A")
    client.say(b"two")
    play.lose(Accept, sender="A", to="B" if voted else "B C")
    replies = play.lose(sender="C.acceptor", to="A")
    client.send("A")
    play.run(ms=20)
    assert b"two" not in client.outcomes
    play.kill("A")
    play.end(replies)
    play.stand("B")
    client.session.on_lost()
    client.send_all("B")
    client.agrees(b"one", b"two")
    play.start("A")
    play.run(ms=500)
    assert play.lines("A") == play.lines("B") == play.lines("C") == [b"one", b"two"]


@pytest.mark.parametrize("is_overtaken", [False, True], ids=["command-first", "withdrawal-first"])
def test_withdrawn_number(is_overtaken: bool) -> None:
    """A client gives a command up whose copy is still about: it is told which of them came first.

    Whichever did, it stays so, and both are answered alike.
    """
    play = Scenario()
    play.stand("A")
    client = play.client()
    client.open("A")
    about = copies(play)
    number = client.submit("A", b"given up")
    client.withdraw("A", number)
    command, withdrawal = about.held
    for copy in (withdrawal, command) if is_overtaken else (command, withdrawal):
        play.transport.carry(*copy)
        play.run(ms=20)
    answers = [a for a in client.answers.values() if isinstance(a, Submitted)][1:]
    notes = [answer.results[0].notes.get(0) for answer in answers]
    codes = [note.code if note is not None else None for note in notes]
    if is_overtaken:
        assert codes == [NoteCode.WITHDRAWN, NoteCode.WITHDRAWN]
    else:
        assert codes == [None, NoteCode.KEPT]
    lines = [] if is_overtaken else [b"given up"]
    assert play.lines("A") == lines
    play.kill("A")
    play.stand("B")
    play.transport.carry(*command[:1], play.process("B.proposer").address, command[2])
    play.run(ms=20)
    assert play.lines("B") == lines


def test_too_late_to_be_proposed() -> None:
    """A command waits for its turn for longer than its client does: it is never proposed.

    The only open instance hangs. Once it goes on, what is too late is refused, untouched, and so
    is what comes after it in the session; what another client wants goes on.
    """
    proposer = replace(CALM.proposer, window_max=1)
    play = Scenario(options=replace(CALM, proposer=proposer))
    play.stand("A")
    first, other = play.client(), play.client()
    first.open("A")
    other.open("A")
    lost = play.lose(Accept, sender="A", to="B C")
    first.submit("A", b"in time")
    play.run(ms=5)
    late = first.submit("A", b"late", timeout_ms=50)
    after = first.submit("A", b"after it")
    theirs = other.submit("A", b"another's")
    play.run(ms=100)
    play.end(lost)
    play.until(lambda: theirs in other.results, what="the other's line is applied")
    refused = [a.code for a in first.answers.values() if isinstance(a, Refused)]
    assert refused == [RefusalCode.TOO_LATE, RefusalCode.OVERLOADED]
    assert play.lines("A") == [b"in time", b"another's"]
    # Both can be had again, in their order, under the numbers they had.
    first.submit("A", b"late", number=late)
    play.until(lambda: late in first.results, what="it is applied")
    first.submit("A", b"after it", number=after)
    play.until(lambda: after in first.results, what="it is applied")
    assert play.lines("A") == [b"in time", b"another's", b"late", b"after it"]
