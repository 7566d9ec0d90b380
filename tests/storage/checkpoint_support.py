"""What the tests of checkpoints share: a host with a bit of everything, and where it is saved."""

from __future__ import annotations

from pathlib import Path

from ray_paxos.core.ballot import Ballot
from ray_paxos.core.checkpoint import Cut
from ray_paxos.core.genesis import Configuration, Voter
from ray_paxos.core.values import (
    WITHDRAWAL,
    CommandBatch,
    MachineMount,
    MasterRecord,
    SessionId,
    SessionOpen,
    Value,
)
from ray_paxos.errors import CommandError
from ray_paxos.machines import kv
from ray_paxos.machines.base import ApplyContext, StateMachine
from ray_paxos.machines.host import MachineHost
from ray_paxos.machines.registry import BUILT_IN, MachineRegistry
from ray_paxos.storage.checkpoint_folders import CheckpointFolder
from ray_paxos.storage.checkpoints import CheckpointPlace
from ray_paxos.storage.disk import Disk
from ray_paxos.storage.table_format import TableCodec
from ray_paxos.testing.codec import PlainTables
from ray_paxos.testing.disk import SimulatedDisk

GENESIS = bytes(range(16))
GROUP = 1
FOLDER = "checkpointer/group=1"
CONFIGURATION = Configuration(0, (Voter(11, 1), Voter(12, 1), Voter(13, 2)))


class Shelf(StateMachine):
    """Saved by the default, with cloudpickle; refuses what says so."""

    kind = "shelf"

    def __init__(self) -> None:
        self.items: list[bytes] = []

    def apply(self, command: bytes, context: ApplyContext) -> bytes | None:
        if command == b"refuse":
            raise CommandError("no room")
        self.items.append(command)
        return b"%d" % len(self.items)

    def query(self, request: bytes) -> bytes:
        return b",".join(self.items)


class Nested(StateMachine):
    """Saves several files, one of them empty, in subdirectories."""

    kind = "nested"

    def __init__(self) -> None:
        self.items: dict[str, bytes] = {}

    def apply(self, command: bytes, context: ApplyContext) -> bytes | None:
        self.items[f"deep/er/{len(self.items)}"] = command
        return None

    def query(self, request: bytes) -> bytes:
        return b""

    def save(self, directory: Path) -> None:
        (directory / "deep" / "er").mkdir(parents=True)
        for path, item in self.items.items():
            (directory / path).write_bytes(item)

    def load(self, directory: Path) -> None:
        paths = sorted((directory / "deep" / "er").iterdir())
        self.items = {f"deep/er/{path.name}": path.read_bytes() for path in paths}


class Silent(StateMachine):
    """Has no state, and saves no file."""

    kind = "silent"

    def apply(self, command: bytes, context: ApplyContext) -> bytes | None:
        return None

    def query(self, request: bytes) -> bytes:
        return b""

    def save(self, directory: Path) -> None:
        assert list(directory.iterdir()) == []

    def load(self, directory: Path) -> None:
        assert list(directory.iterdir()) == []


REGISTRY = MachineRegistry((*BUILT_IN, Shelf, Nested, Silent))


def values() -> list[Value]:
    """A log with machines, sessions, kept results, refusals and a withdrawal."""
    first, second = SessionId(1, 5), SessionId(1, 6)

    def batch(number: int, machine: str, *commands: bytes, session: SessionId = first) -> Value:
        open_from = max(1, number - 3)
        return Value(number * 1_000, (CommandBatch(session, open_from, number, machine, commands),))

    return [
        Value(
            0,
            (
                MachineMount("map", "kv", 1),
                MachineMount("lines", "log", 1),
                MachineMount("shelf", "shelf", 1),
                MachineMount("nested", "nested", 1),
                MachineMount("silent", "silent", 1),
                SessionOpen("first"),
                SessionOpen("second"),
            ),
        ),
        Value(0, (MasterRecord(Ballot(3, 11, 2)),)),
        batch(1, "map", *(kv.encode_put(f"key{n}", bytes([n]) * 20) for n in (5, 3, 4))),
        batch(4, "map", kv.encode_delete("key4"), kv.encode_put("", b""), b"no command"),
        batch(1, "lines", b"one", b"", b"three", session=second),
        batch(7, "shelf", b"a", b"refuse", b"b"),
        batch(10, "nested", b"", b"content"),
        batch(12, WITHDRAWAL, b""),
        batch(13, "map", kv.encode_cas("key3", b"again", 1), kv.encode_put("é\0", b"\xff")),
        batch(15, "silent", b"x"),
        batch(16, "missing", b"x"),
        Value(20_000, ()),
    ]


def make_host(through: int, registry: MachineRegistry = REGISTRY) -> MachineHost:
    host = MachineHost(registry, group=GROUP)
    for instance_id, value in enumerate(values()[:through], 1):
        host.apply(instance_id, value)
    return host


def make_cut(instance_id: int) -> Cut:
    chain = bytes([instance_id]) * 16
    return Cut(instance_id, chain, chain[::-1], Ballot(3, 11, 2), CONFIGURATION)


def place_on(disk: Disk, tables: TableCodec | None = None) -> CheckpointPlace:
    return CheckpointPlace(disk, tables or PlainTables(), GENESIS, GROUP, FOLDER)


def empty_place(tables: TableCodec | None = None) -> tuple[SimulatedDisk, CheckpointPlace]:
    disk = SimulatedDisk()
    disk.make_folder(FOLDER)
    return disk, place_on(disk, tables)


def save(place: CheckpointPlace, *instances: int) -> CheckpointFolder:
    """Open the folder and save the host as of these instances."""
    folder = CheckpointFolder.open(place)
    for instance_id in instances:
        folder.save(make_host(instance_id), make_cut(instance_id))
    return folder


DIGESTS = {instance_id: make_host(instance_id).digest() for instance_id in range(1, 13)}
