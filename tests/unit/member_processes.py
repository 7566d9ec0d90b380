"""Members of a fused cluster in one process, without Ray: a call is a thread of the callee's."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ray_paxos.actors.acceptor_shell import AcceptorShell
from ray_paxos.actors.addressed import decode_addressed
from ray_paxos.actors.bootstrapping import make_genesis
from ray_paxos.actors.checkpointer_shell import CheckpointerShell
from ray_paxos.actors.learner_shell import LearnerShell
from ray_paxos.actors.names import actor_name, parse_actor_name
from ray_paxos.actors.peers import Introduction
from ray_paxos.actors.proposer_shell import ProposerShell
from ray_paxos.actors.shell import member_folder
from ray_paxos.actors.spec import ClusterSpec, make_spec
from ray_paxos.actors.switchboard import Switchboard
from ray_paxos.config import parse_configuration
from ray_paxos.core.client_messages import OpenSession, Submit, Submitted
from ray_paxos.core.messages import Accept, Address, Envelope, RoleName
from ray_paxos.core.values import CommandBatch, SessionId
from ray_paxos.core.wire import decode_envelopes, encode_envelopes
from ray_paxos.machines import log
from ray_paxos.storage.disk import LocalDisk
from ray_paxos.storage.folder import activate_member, stage_member

PATIENCE_S = 20.0


class MemberProcess:
    """One member's shells; what the fused actor has, without Ray."""

    def __init__(self, cluster: MemberProcesses, name: str) -> None:
        self.name = name
        self.switchboard = Switchboard(find=cluster.find)
        spec = cluster.spec.encoded()
        self.proposer = ProposerShell(spec, name, self.switchboard)
        self.acceptor = AcceptorShell(spec, name, self.switchboard)
        self.learner = LearnerShell(spec, name, self.switchboard)
        self.checkpointer = CheckpointerShell(spec, name, self.switchboard)
        self.calls = ThreadPoolExecutor(8)
        self.switchboard.plug_in(self.proposer, self.acceptor, self.learner, self.checkpointer)

    def close(self) -> None:
        for role in (
            RoleName.PROPOSER,
            RoleName.LEARNER,
            RoleName.CHECKPOINTER,
            RoleName.ACCEPTOR,
        ):
            self.switchboard.close(role)
        self.calls.shutdown()


class _Peer:
    def __init__(self, cluster: MemberProcesses, name: str) -> None:
        self.cluster = cluster
        self.name = name

    def call(self, batch: bytes) -> Future[bytes]:
        member = self.cluster.members[self.name]
        self.cluster.count(batch)
        return member.calls.submit(member.switchboard.deliver_addressed, batch)


class MemberProcesses:
    """A cluster of three members, and one client of it."""

    def __init__(self, spec: ClusterSpec) -> None:
        self.spec = spec
        self.genesis = spec.decoded_genesis()
        self.calls = 0
        self.calls_with_accepts = 0
        self.lock = threading.Lock()
        self.members: dict[str, MemberProcess] = {}
        for name in [member.name for member in self.genesis.members]:
            self.members[name] = MemberProcess(self, name)
        for member in self.members.values():
            for shell in (member.proposer, member.acceptor, member.learner, member.checkpointer):
                shell.wait_open(20)

    def find(self, name: str, introduction: Introduction) -> _Peer:
        parsed = parse_actor_name(name)
        assert parsed is not None
        assert name == actor_name(self.genesis.cluster, parsed[1], RoleName.LEARNER, is_fused=True)
        return _Peer(self, parsed[1])

    def count(self, batch: bytes) -> None:
        has_accept = any(isinstance(e.message, Accept) for _, e in decode_addressed(batch))
        with self.lock:
            self.calls += 1
            self.calls_with_accepts += has_accept

    def master(self) -> str:
        """The member that serves group 1 as its master."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            for name, member in self.members.items():
                opened = member.proposer.serving_role()
                if opened is not None and member.proposer._proposer(opened, 1).is_serving:
                    return name
            assert time.monotonic() < deadline, "no master"
            time.sleep(0.01)

    def client(self, number: int) -> PlayedClient:
        """A client with a session of its own."""
        return PlayedClient(self, number)

    def lines(self, member: str) -> list[bytes]:
        """What the log machine has at a member."""
        learner = self.members[member].learner._learner(1)
        with self.members[member].learner._turn:
            lines: list[bytes] = []
            while True:
                request = log.encode_lines(len(lines) + 1)
                page = log.decode_page(learner.host.query("log", request))
                lines += page.lines
                if not page.lines:
                    return lines

    def wait_until_equal(self) -> None:
        """Until all members have applied the same, and it came to the same."""
        deadline = time.monotonic() + PATIENCE_S
        while len({member.learner.digest(1) for member in self.members.values()}) > 1:
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def close(self) -> None:
        for member in self.members.values():
            member.close()


class PlayedClient:
    """Sends one command after the other to the master."""

    def __init__(self, cluster: MemberProcesses, number: int) -> None:
        self.cluster = cluster
        self.address = Address(number, RoleName.CLIENT)
        self.request_id = 0
        self.number = 0
        (opened,) = self.ask(OpenSession, "test").results
        self.session = SessionId(opened.instance_id, opened.index)

    def ask(self, kind: type[OpenSession] | type[Submit], what: Any) -> Submitted:
        """Until a master answers."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            self.request_id += 1
            message = kind(self.request_id, what)
            envelope = Envelope(self.cluster.genesis.hash(), 1, self.address, 0, 0, 0, message)
            batch = encode_envelopes((envelope,))
            master = self.cluster.members[self.cluster.master()]
            for reply in decode_envelopes(master.proposer.submit(batch)):
                if isinstance(reply.message, Submitted):
                    return reply.message
            assert time.monotonic() < deadline, "no answer"

    def write(self, line: bytes) -> None:
        """Append a line, and wait until it is applied."""
        self.number += 1
        batch = CommandBatch(self.session, self.number, self.number, "log", (line,))
        self.ask(Submit, (batch,))


@contextmanager
def running_members(folder: Path, more: str = "") -> Iterator[MemberProcesses]:
    """Start a cluster whose members' folders are made here."""
    text = f"cluster: threads\nroles: fused\ndata_dir: {folder}\n{more}"
    configuration = parse_configuration(text)
    genesis = make_genesis(configuration)
    spec = make_spec(genesis, configuration)
    for member in genesis.members:
        disk = LocalDisk(member_folder(spec, member.name))
        stage_member(disk, genesis, member.member_id)
        activate_member(disk)
    cluster = MemberProcesses(spec)
    try:
        yield cluster
    finally:
        cluster.close()


def in_threads(count: int, work: Callable[[int], object]) -> None:
    """Run it in so many threads at once, and wait; what one raises is raised."""
    with ThreadPoolExecutor(count) as pool:
        for done in [pool.submit(work, number) for number in range(count)]:
            done.result(60)
