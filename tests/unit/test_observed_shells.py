"""Roles that are watched while they work: nothing that watches them holds them up or ends them."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ray_paxos.actors.acceptor_shell import AcceptorShell
from ray_paxos.actors.switchboard import Switchboard
from ray_paxos.errors import FolderHeldError
from ray_paxos.observability import observer
from ray_paxos.observability.meter import Meter
from ray_paxos.observability.observer import Observer
from ray_paxos.observability.report import RoleReport, decode_report
from tests.unit.member_processes import MemberProcesses, in_threads, running_members

ROLES = ("proposer", "acceptor", "learner", "checkpointer")
CLIENTS, COMMANDS = 4, 30
MS = 1_000_000


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MemberProcesses]:
    with running_members(tmp_path_factory.mktemp("watched")) as cluster:
        yield cluster


def shells(members: MemberProcesses) -> Iterator[tuple[tuple[str, str], Any]]:
    for name, member in members.members.items():
        for role in ROLES:
            yield (name, role), getattr(member, role)


def reports(members: MemberProcesses) -> dict[tuple[str, str], RoleReport]:
    return {key: decode_report(shell.report(0, True)[1]) for key, shell in shells(members)}


def write_lines(members: MemberProcesses, first_client: int) -> None:
    """Clients write lines, and each gets an answer to each."""

    def work(number: int) -> None:
        client = members.client(first_client + number)
        for n in range(COMMANDS):
            client.write(f"{first_client + number} line {n}".encode())

    in_threads(CLIENTS, work)


def commands_told(found: dict[tuple[str, str], RoleReport]) -> int:
    counted = [each.counted.by_group.get("paxos_commands_total", {}) for each in found.values()]
    return sum(by_group.get(1, 0) for by_group in counted)


def test_every_role_tells_what_it_did(members: MemberProcesses) -> None:
    before = commands_told(reports(members))
    write_lines(members, 1_000)
    found = reports(members)
    assert commands_told(found) - before >= CLIENTS * COMMANDS
    assert all(report.incarnation >= 1 for report in found.values())
    # A majority is enough, and whoever was late may have written nothing yet.
    for metric in ("paxos_fsync_seconds", "paxos_fsync_records"):
        assert who_took(found, "acceptor", metric) >= 2
    assert who_took(found, "learner", "paxos_apply_seconds") >= 1


def who_took(found: dict[tuple[str, str], RoleReport], role: str, metric: str) -> int:
    """How many members' roles of a kind have taken a time or a size."""
    histograms = [report.counted.histograms for key, report in found.items() if key[1] == role]
    return sum(metric in each and sum(each[metric].counts) > 0 for each in histograms)


def test_watchers_at_any_time_hold_nobody_up(members: MemberProcesses) -> None:
    """Several of them, all the time, while commands are answered: what they are told only rises."""
    is_over = threading.Event()
    looks = [0, 0, 0]
    problems: list[object] = []

    def watch(number: int) -> None:
        seen: defaultdict[tuple[str, str], int] = defaultdict(int)
        known: defaultdict[tuple[str, str], int] = defaultdict(int)
        while not is_over.is_set():
            for key, shell in shells(members):
                _, encoded = shell.report(known[key], True)
                report = decode_report(encoded)
                count = sum(report.counted.by_group.get("paxos_commands_total", {}).values())
                sequences = [event.sequence for event in report.events]
                if count < seen[key] or any(each <= known[key] for each in sequences):
                    problems.append((key, report))
                seen[key], known[key] = count, report.last_sequence
            looks[number] += 1

    threads = [threading.Thread(target=watch, args=(number,)) for number in range(len(looks))]
    for thread in threads:
        thread.start()
    try:
        write_lines(members, 2_000)
    finally:
        is_over.set()
        for thread in threads:
            thread.join()
    assert problems == []
    assert min(looks) > 0
    members.wait_until_equal()


def test_the_hops_of_real_commands_are_in_order(
    members: MemberProcesses, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _, shell in shells(members):
        monkeypatch.setattr(shell._observer, "_slow_ns", 0)
    write_lines(members, 3_000)
    found = reports(members)
    instances = [(key, each) for key, report in found.items() for each in report.slow_instances]
    assert instances
    ids = {member.member_id for member in members.genesis.members}
    for (_, role), each in instances:
        assert role == "proposer"
        assert each.total_ms == pytest.approx(
            each.queue_ms + each.accept_ms + each.chosen_ms, abs=0.01
        )
        assert min(each.queue_ms, each.accept_ms, each.chosen_ms) >= 0
        assert set(each.votes_ms) <= ids
        assert len(each.votes_ms) == 2, "a majority of three"
        assert max(each.votes_ms.values()) == pytest.approx(each.accept_ms, abs=0.01)
    steps = {(role, step.what) for (_, role), report in found.items() for step in report.slow_steps}
    assert steps == {("acceptor", "fsync"), ("learner", "apply")}
    written = {
        place
        for (_, role), report in found.items()
        if role == "acceptor"
        for step in report.slow_steps
        for place in step.instances
    }
    assert any((each.group, each.instance_id) in written for _, each in instances)


def test_a_role_that_has_ended_tells_what_it_did_and_that_it_ended(tmp_path: Path) -> None:
    with running_members(tmp_path) as cluster:
        cluster.client(900).write(b"a line")
        before = commands_told(reports(cluster))
    assert before > 0
    for key, shell in shells(cluster):
        state, encoded = shell.report(0, True)
        assert (state["phase"], state["reason"]) == ("stopped", "closed"), key
        assert decode_report(encoded).at_ms > 0
    assert commands_told(reports(cluster)) >= before


@pytest.mark.parametrize(
    ("owner", "name"),
    [(observer, "describe"), (Meter, "take"), (Meter, "observe"), (Observer, "_note_slow")],
    ids=lambda each: getattr(each, "__name__", each),
)
def test_a_mistake_in_observing_ends_no_role(
    owner: object, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is raised in a turn of a role ends the role, so nothing of this may come so far."""

    def fail(*arguments: object) -> None:
        raise RuntimeError("a mistake")

    monkeypatch.setattr(owner, name, fail)
    with running_members(tmp_path) as cluster:
        cluster.client(900).write(b"a line")
        for key, shell in shells(cluster):
            assert shell.state()["phase"] == "serving", key


def test_roles_are_switched_off_and_on_while_they_work(members: MemberProcesses) -> None:
    write_lines(members, 4_000)
    for _, shell in shells(members):
        shell.observe(False)
    before = reports(members)
    write_lines(members, 5_000)
    after = reports(members)
    assert {key: each.counted for key, each in after.items()} == {
        key: each.counted for key, each in before.items()
    }
    assert not any(each.is_observing for each in after.values())
    for _, shell in shells(members):
        shell.observe(True)
    write_lines(members, 6_000)
    assert commands_told(reports(members)) - commands_told(before) >= CLIENTS * COMMANDS
    members.wait_until_equal()


@pytest.mark.parametrize("is_on", [False, True])
def test_what_is_ordered_while_a_role_opens_holds_once_it_is_open(
    is_on: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opening makes another observer, as configured, and is tried again where it fails."""
    opens, may_open = threading.Event(), threading.Event()
    open_folder = AcceptorShell._open_folder
    tries: list[object] = []

    def slow_open(shell: AcceptorShell, *arguments: Any) -> Any:
        tries.append(shell)
        if len(tries) == 1:
            opens.set()
            assert may_open.wait(20)
            raise FolderHeldError("for a moment")
        return open_folder(shell, *arguments)

    enabled = "false" if is_on else "true"
    with running_members(tmp_path, f"observability: {{enabled: {enabled}}}\n") as cluster:
        cluster.members["m1"].close()
        monkeypatch.setattr(AcceptorShell, "_open_folder", slow_open)
        switchboard = Switchboard()
        shell = AcceptorShell(cluster.spec.encoded(), "m1", switchboard)
        switchboard.plug_in(shell)
        try:
            assert opens.wait(20)
            assert shell.switched is None
            shell.observe(is_on)
            may_open.set()
            shell.wait_open(20)
            assert shell.serving_role() is not None
            assert len(tries) == 2
            assert shell.switched is is_on
            assert decode_report(shell.report(0, False)[1]).is_observing is is_on
        finally:
            may_open.set()
            shell.close()


def test_who_waits_for_changes_hears_of_a_switch_and_of_the_end(tmp_path: Path) -> None:
    heard: list[tuple[bool | None, bool]] = []
    with running_members(tmp_path) as cluster:
        shell = cluster.members["m1"].learner
        shell.tell_changes(lambda: heard.append((shell.switched, shell.is_closed)))
        shell.observe(False)
        assert heard == [(False, False)]
    assert heard == [(False, False), (False, True)]


def test_what_was_counted_of_groups_that_are_gone_is_forgotten(
    members: MemberProcesses, monkeypatch: pytest.MonkeyPatch
) -> None:
    shell = members.members["m1"].proposer
    state = shell.state()
    known = sorted(state["groups"])
    monkeypatch.setattr(shell, "state", lambda: {**state, "groups": {known[0]: {}}})
    told = decode_report(shell.report(0, False)[1])
    assert {group for each in told.counted.by_group.values() for group in each} <= {known[0]}
    stopped = {**state, "groups": {}, "phase": "stopped"}
    monkeypatch.setattr(shell, "state", lambda: stopped)
    again = decode_report(shell.report(0, False)[1])
    assert again.counted.by_group == told.counted.by_group, "who does not serve tells of no groups"
