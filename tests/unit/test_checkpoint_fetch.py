"""Fetching a checkpoint: in order, verified as a whole, from whoever still has it."""

from __future__ import annotations

import msgspec
import pytest

from ray_paxos.core import checkpoint
from ray_paxos.core.checkpoint import CheckpointFile, Cut, Manifest, encode_manifest
from ray_paxos.core.checkpoint_fetch import CheckpointFetch
from ray_paxos.core.checkpoint_messages import (
    CheckpointOffer,
    CheckpointRequest,
    Chunk,
    ChunkRequest,
)
from ray_paxos.core.effects import Effects
from ray_paxos.core.events import CheckpointFetchFailed, CheckpointFetchStarted, Event
from ray_paxos.core.messages import Address, Message
from ray_paxos.core.settings import CheckpointerSettings
from ray_paxos.core.tasks import (
    BeginTransfer,
    Outcome,
    PublishTransfer,
    Task,
    TaskDone,
    TaskFailed,
    TransferBegun,
    WriteChunk,
)
from tests.unit.core_helpers import (
    CONFIGURATION,
    GENESIS,
    GROUP,
    LOG_MACHINE,
    MS,
    ballot,
    checkpointer_of,
)

RETRY_NS = 5_000 * MS
SETTINGS = CheckpointerSettings(chunk_bytes=4, checkpoint_retry_ns=RETRY_NS)
FILES = (("host.msgpack", b"0123456789"), ("machine-0000/a", b"abc"), ("sessions.msgpack", b""))


def manifest(instance_id: int = 40, *, genesis: bytes = GENESIS, group: int = GROUP) -> Manifest:
    cut = Cut(instance_id, b"c" * 16, b"r" * 16, ballot(3), CONFIGURATION)
    files = tuple(CheckpointFile(path, len(data), 7) for path, data in FILES)
    return Manifest(genesis, group, cut, (LOG_MACHINE,), files)


class FetchBench:
    """The members' answers and the disk's are in the test's hands."""

    def __init__(self) -> None:
        self.now_ns = 0
        self.fetch = CheckpointFetch(GROUP, GENESIS, SETTINGS)
        self.tasks: list[Task] = []
        self.events: list[Event] = []
        self.published: list[int] = []

    def _sent(self, effects: Effects) -> list[tuple[Address, Message]]:
        told = effects.events
        assert effects == Effects(tasks=effects.tasks, sends_now=effects.sends_now, events=told)
        self.events += told
        assert len(effects.tasks) + len(effects.sends_now) <= 1, "one step at a time"
        self.tasks += effects.tasks
        return [(send.to, send.message) for send in effects.sends_now]

    def start(self, *sources: int, above: int = 10) -> list[tuple[Address, Message]]:
        effects = Effects()
        self.fetch.start(above, sources, self.now_ns, effects)
        return self._sent(effects)

    def offers(self, source: int, offered: Manifest | None) -> list[tuple[Address, Message]]:
        encoded = encode_manifest(offered) if offered is not None else None
        return self.answers(source, CheckpointOffer(10, encoded))

    def answers(
        self, source: int, message: CheckpointOffer | Chunk
    ) -> list[tuple[Address, Message]]:
        effects = Effects()
        sender = checkpointer_of(source)
        if isinstance(message, Chunk):
            self.fetch.on_chunk(sender, message, self.now_ns, effects)
        else:
            self.fetch.on_offer(sender, message, self.now_ns, effects)
        return self._sent(effects)

    def gives(
        self, source: int, path: str, offset: int, data: bytes | None, *, wait_ms: int = 0
    ) -> list[tuple[Address, Message]]:
        return self.answers(source, Chunk(40, path, offset, data, wait_ms))

    def comes_to(self, outcome: Outcome) -> list[tuple[Address, Message]]:
        effects = Effects()
        found = self.fetch.on_outcome(self.tasks.pop(0), outcome, self.now_ns, effects)
        if found is not None:
            self.published.append(found)
        return self._sent(effects)

    def passes(self, nanoseconds: int) -> list[tuple[Address, Message]]:
        self.now_ns += nanoseconds
        effects = Effects()
        self.fetch.on_deadline(self.now_ns, effects)
        return self._sent(effects)

    def begun(self, *present: int, source: int = 1) -> list[tuple[Address, Message]]:
        """It is being received, from the first of members 1 and 3."""
        self.start(1, 3)
        self.offers(source, manifest())
        assert self.tasks == [BeginTransfer(GROUP, manifest())]
        return self.comes_to(TransferBegun(present or (0, 0, 0)))


@pytest.fixture
def bench() -> FetchBench:
    return FetchBench()


def asks(source: int, path: str, offset: int) -> list[tuple[Address, Message]]:
    return [(checkpointer_of(source), ChunkRequest(40, path, offset, 4))]


def asks_anew(source: int, above: int = 10) -> list[tuple[Address, Message]]:
    return [(checkpointer_of(source), CheckpointRequest(above))]


def test_a_checkpoint_is_fetched_chunk_by_chunk_and_then_published(bench: FetchBench) -> None:
    assert bench.start(1, 3) == asks_anew(1)
    assert bench.fetch.is_under_way
    assert bench.offers(1, manifest()) == []
    step = bench.comes_to(TransferBegun((0, 0, 0)))
    received: dict[str, bytes] = {}
    while step:
        ((to, request),) = step
        assert to == checkpointer_of(1)
        assert isinstance(request, ChunkRequest)
        data = dict(FILES)[request.path][request.offset : request.offset + request.bytes_max]
        assert bench.gives(1, request.path, request.offset, data) == []
        (write,) = bench.tasks
        assert write == WriteChunk(GROUP, 40, request.path, request.offset, data)
        received[request.path] = received.get(request.path, b"") + data
        step = bench.comes_to(TaskDone())
    assert bench.tasks == [PublishTransfer(GROUP, 40)]
    assert received == {path: data for path, data in FILES if data}
    assert bench.published == []
    assert bench.fetch.due_ns is None, "publishing takes as long as it takes"
    assert bench.comes_to(TaskDone()) == []
    assert bench.published == [40]
    assert not bench.fetch.is_under_way
    assert bench.fetch.take_given_up() == ""
    assert bench.fetch.problem == ""
    assert bench.fetch.received_bytes == 13


def test_what_is_there_already_is_not_asked_for_again(bench: FetchBench) -> None:
    assert bench.begun(10, 2, 0) == asks(1, "machine-0000/a", 2)
    bench.gives(1, "machine-0000/a", 2, b"c")
    bench.comes_to(TaskDone())
    assert bench.tasks == [PublishTransfer(GROUP, 40)]


def test_one_that_is_there_as_a_whole_is_published_at_once(bench: FetchBench) -> None:
    assert bench.begun(10, 3, 0) == []
    assert bench.tasks == [PublishTransfer(GROUP, 40)]


def test_a_second_wish_changes_nothing_but_how_late_it_must_be(bench: FetchBench) -> None:
    bench.start(1, 3)
    assert bench.start(3, above=39) == []
    assert bench.offers(1, None) == asks_anew(3, above=39)
    assert bench.offers(3, manifest(39)) == [], "too early by now"
    assert "no later one" in bench.fetch.take_given_up()


# Sources that do not help.


def test_nobody_to_ask_is_told(bench: FetchBench) -> None:
    assert bench.start() == []
    assert not bench.fetch.is_under_way
    assert bench.fetch.take_given_up()
    assert bench.fetch.take_given_up() == "", "once"
    assert bench.start(3) == asks_anew(3), "another time"


def test_a_member_that_does_not_answer_is_passed_over(bench: FetchBench) -> None:
    bench.start(1, 3)
    assert bench.fetch.due_ns == RETRY_NS
    assert bench.passes(RETRY_NS - 1) == []
    assert bench.passes(1) == asks_anew(3)
    assert bench.offers(1, manifest()) == [], "too late: another is asked"
    assert bench.tasks == []
    assert bench.passes(RETRY_NS) == []
    assert "member 3" in bench.fetch.take_given_up()
    assert bench.fetch.due_ns is None
    assert bench.events == [
        CheckpointFetchStarted(GROUP, 1),
        CheckpointFetchFailed(GROUP, 1, "member 1 does not answer"),
        CheckpointFetchStarted(GROUP, 3),
        CheckpointFetchFailed(GROUP, 3, "member 3 does not answer"),
    ]


@pytest.mark.parametrize(
    ("offered", "why"),
    [
        (None, "no such"),
        (manifest(10), "no later"),
        (manifest(genesis=b"another genesis!"), "cluster"),
        (manifest(group=7), "group"),
    ],
    ids=["none", "too early", "another cluster", "another group"],
)
def test_an_offer_of_no_use_is_passed_over(
    bench: FetchBench, offered: Manifest | None, why: str
) -> None:
    bench.start(1, 3)
    assert bench.offers(1, offered) == asks_anew(3)
    assert why in bench.fetch.problem
    assert bench.tasks == []


@pytest.mark.parametrize("position", [0, 10, 60, -1])
def test_a_manifest_with_a_changed_byte_is_passed_over(bench: FetchBench, position: int) -> None:
    bench.start(1, 3)
    encoded = bytearray(encode_manifest(manifest()))
    encoded[position] ^= 4
    assert bench.answers(1, CheckpointOffer(10, bytes(encoded))) == asks_anew(3)
    assert "member 1" in bench.fetch.problem


@pytest.mark.parametrize("path", ["../identity.json", "/etc/passwd", "machine-0000/../../x"])
def test_a_path_that_leaves_the_folder_is_passed_over(bench: FetchBench, path: str) -> None:
    bench.start(1, 3)
    files = (*manifest().files, CheckpointFile(path, 3, 7))
    crafted = msgspec.structs.replace(manifest(), files=tuple(sorted(files, key=lambda f: f.path)))
    encoded = checkpoint._checked_text(checkpoint._to_json(crafted))
    assert bench.answers(1, CheckpointOffer(10, encoded)) == asks_anew(3)
    assert path in bench.fetch.problem
    assert bench.tasks == []


def test_a_source_that_dies_is_replaced_and_what_it_gave_stays(bench: FetchBench) -> None:
    assert bench.begun() == asks(1, "host.msgpack", 0)
    bench.gives(1, "host.msgpack", 0, b"0123")
    assert bench.comes_to(TaskDone()) == asks(1, "host.msgpack", 4)
    assert bench.passes(RETRY_NS) == asks_anew(3)
    assert bench.offers(3, manifest()) == []
    # The store knows how much of the very same checkpoint is there.
    assert bench.comes_to(TransferBegun((4, 0, 0))) == asks(3, "host.msgpack", 4)
    assert bench.gives(1, "host.msgpack", 4, b"4567") == [], "of the one that was given up"
    assert bench.tasks == []
    assert "member 1" in bench.fetch.problem
    for path, offset, data in (
        ("host.msgpack", 4, b"4567"),
        ("host.msgpack", 8, b"89"),
        ("machine-0000/a", 0, b"abc"),
    ):
        bench.gives(3, path, offset, data)
        bench.comes_to(TaskDone())
    bench.comes_to(TaskDone())
    assert bench.published == [40]
    assert bench.fetch.problem == "", "it is mended"


def test_another_members_checkpoint_is_another_transfer(bench: FetchBench) -> None:
    bench.begun()
    bench.passes(RETRY_NS)
    bench.offers(3, manifest(41))
    assert bench.tasks == [BeginTransfer(GROUP, manifest(41))]


def test_a_checkpoint_that_went_meanwhile_is_asked_for_anew_in_the_end(bench: FetchBench) -> None:
    bench.begun()
    assert bench.gives(1, "host.msgpack", 0, None) == asks_anew(3)
    assert bench.offers(3, None) == asks_anew(1), "it has another one by now"
    assert bench.offers(1, None) == []
    assert not bench.fetch.is_under_way


@pytest.mark.parametrize(
    ("path", "offset"), [("machine-0000/a", 0), ("host.msgpack", 4), ("host.msgpack", 3)]
)
def test_a_chunk_that_was_not_asked_for_is_dropped(
    bench: FetchBench, path: str, offset: int
) -> None:
    bench.begun()
    assert bench.gives(1, path, offset, b"x") == []
    assert bench.answers(1, Chunk(41, "host.msgpack", 0, b"0123")) == []
    assert bench.gives(3, "host.msgpack", 0, b"0123") == []
    assert bench.tasks == []
    assert bench.fetch.due_ns == RETRY_NS


@pytest.mark.parametrize("data", [b"", b"01234567890"], ids=["nothing", "beyond the end"])
def test_a_chunk_of_a_wrong_length_is_that_source_s_last(bench: FetchBench, data: bytes) -> None:
    bench.begun()
    assert bench.gives(1, "host.msgpack", 0, data) == asks_anew(3)
    assert bench.tasks == []


def test_a_chunk_that_comes_twice_is_written_once(bench: FetchBench) -> None:
    bench.begun()
    bench.gives(1, "host.msgpack", 0, b"0123")
    bench.gives(1, "host.msgpack", 0, b"0123")
    assert len(bench.tasks) == 1
    bench.comes_to(TaskDone())
    assert bench.gives(1, "host.msgpack", 0, b"0123") == []
    assert bench.tasks == []


# The source's pace, and the own disk.


def test_a_source_that_wants_to_be_spared_is_asked_on_after_that_time(bench: FetchBench) -> None:
    bench.begun()
    bench.gives(1, "host.msgpack", 0, b"0123", wait_ms=900)
    assert bench.comes_to(TaskDone()) == []
    assert bench.fetch.due_ns == 900 * MS
    assert bench.passes(900 * MS - 1) == []
    assert bench.passes(1) == asks(1, "host.msgpack", 4)
    assert bench.fetch.due_ns == 900 * MS + RETRY_NS, "now an answer is waited for again"


def test_a_write_that_takes_longer_than_the_pause_is_waited_for(bench: FetchBench) -> None:
    bench.begun()
    bench.gives(1, "host.msgpack", 0, b"0123", wait_ms=900)
    assert bench.passes(901 * MS) == []
    assert bench.fetch.due_ns is None
    assert bench.passes(RETRY_NS) == [], "the source is not to blame"
    assert bench.comes_to(TaskDone()) == asks(1, "host.msgpack", 4)


@pytest.mark.parametrize("at", ["begin", "write", "publish"])
def test_a_disk_that_refuses_ends_it_once_all_were_tried(bench: FetchBench, at: str) -> None:
    bench.start(1, 3)
    for source in (1, 3):
        bench.offers(source, manifest())
        if at == "write":
            bench.comes_to(TransferBegun((0, 0, 0)))
            bench.gives(source, "host.msgpack", 0, b"0123")
        elif at == "publish":
            bench.comes_to(TransferBegun((10, 3, 0)))
        step = bench.comes_to(TaskFailed("no room on the disk"))
        assert step == (asks_anew(3) if source == 1 else [])
    assert bench.fetch.take_given_up() == "no room on the disk"
    assert bench.published == []
    assert not bench.fetch.is_under_way


def test_what_is_found_damaged_at_the_end_is_fetched_again_from_another(bench: FetchBench) -> None:
    bench.begun(10, 3, 0)
    step = bench.comes_to(TaskFailed("host.msgpack is damaged", is_damage=True))
    assert step == asks_anew(3)
    bench.offers(3, manifest())
    assert bench.comes_to(TransferBegun((0, 3, 0))) == asks(3, "host.msgpack", 0)
    assert bench.published == []


def test_after_a_success_the_next_fetch_begins_from_nothing(bench: FetchBench) -> None:
    bench.begun(10, 3, 0)
    bench.comes_to(TaskDone())
    assert bench.start(3, above=5) == asks_anew(3, above=5)
