"""A host's state as the files of a checkpoint, and back.

The host's own small state is one msgpack record, the sessions are many, each after its length, so
that they are written and read one by one. A machine that is a table is written through the
`TableCodec`; any other writes what it likes into a folder of its own.

Machines are the users' code. Whatever one raises here concerns the checkpoint of its group alone
(R12): it becomes a `CheckpointError` that names it, but for the disk's own errors.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from itertools import zip_longest
from pathlib import Path

import msgspec

from ray_paxos.core.checkpoint import HOST_FILE, SESSIONS_FILE, Manifest, machine_folder
from ray_paxos.core.genesis import MachineSpec
from ray_paxos.errors import CheckpointError, DamageError, PaxosError, StorageError
from ray_paxos.machines.base import StateMachine
from ray_paxos.machines.batches import exception_text
from ray_paxos.machines.host import HostState, MachineHost
from ray_paxos.machines.registry import MachineRegistry
from ray_paxos.machines.sessions import SessionState
from ray_paxos.machines.table import TableMachine
from ray_paxos.storage.disk import Disk
from ray_paxos.storage.table_format import TableCodec

_LENGTH_BYTES = 8
_PIECE_BYTES = 1 << 20

_encode = msgspec.msgpack.Encoder().encode
_decode_state: Callable[[bytes], HostState] = msgspec.msgpack.Decoder(HostState).decode
_decode_session: Callable[[bytes], SessionState] = msgspec.msgpack.Decoder(SessionState).decode


def write_state(disk: Disk, tables: TableCodec, folder: str, host: MachineHost) -> None:
    """Write a host's whole state below a folder that is there and empty; not yet durable.

    Args:
        disk: Where.
        tables: The format of tables.
        folder: The checkpoint's.
        host: Must not change meanwhile.

    Raises:
        ApplyStoppedError: Applying has stopped on the host.
        CheckpointError: A machine failed.
        OSError: The disk refuses.
    """
    state = host.state
    _write_pieces(disk, f"{folder}/{HOST_FILE}", iter((_encode(state),)))
    _write_pieces(disk, f"{folder}/{SESSIONS_FILE}", _framed_sessions(host))
    for position, (spec, machine) in enumerate(host.machines):
        with (
            disk.staging(f"{folder}/{machine_folder(position)}") as directory,
            _of_machine(spec, "saved"),
        ):
            if isinstance(machine, TableMachine):
                tables.write(directory / _table(tables), machine.columns, machine.rows())
            else:
                machine.save(directory)


def compare_tables(disk: Disk, tables: TableCodec, folder: str, host: MachineHost) -> None:
    """Read every table back and compare its rows with the machine's.

    Raises:
        StorageError: One does not read back as it was written.
        CheckpointError: A machine failed.
        OSError: The disk refuses.
    """
    for position, (spec, machine) in enumerate(host.machines):
        if not isinstance(machine, TableMachine):
            continue
        path = f"{folder}/{machine_folder(position)}"
        where = disk.where(f"{path}/{_table(tables)}")
        with disk.checkout(path) as directory, _of_machine(spec, "read back"):
            rows = tables.read(directory / _table(tables), machine.columns, where)
            for found, row in zip_longest(rows, machine.rows()):
                if found != row:
                    raise StorageError(f"{where} does not read back as it was written")


def read_state(
    disk: Disk, tables: TableCodec, folder: str, manifest: Manifest, registry: MachineRegistry
) -> MachineHost:
    """The host whose state lies below a folder, in files that agree with the manifest.

    Raises:
        CheckpointError: A machine failed, or its kind and version are not registered.
        DamageError: The files contradict the manifest or each other.
        OSError: The disk refuses.
    """
    machines = [registry.make(spec) for spec in manifest.machines]
    where = disk.where(f"{folder}/{HOST_FILE}")
    try:
        state = _decode_state(disk.read(f"{folder}/{HOST_FILE}"))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DamageError(f"{where}: not the state of a group ({error})") from error
    instance_id = manifest.cut.instance_id
    if (state.applied_through, state.mounted) != (instance_id, manifest.machines):
        raise DamageError(f"{where} is not of the checkpoint of instance {instance_id}")
    for position in range(len(machines)):
        path = f"{folder}/{machine_folder(position)}"
        if not disk.is_folder(path):
            raise DamageError(f"{disk.where(path)} is missing")
    with disk.checkout(folder) as directory:
        for position, (spec, machine) in enumerate(zip(state.mounted, machines, strict=True)):
            _load(disk, tables, f"{folder}/{machine_folder(position)}", directory, spec, machine)
        sessions = _read_sessions(
            directory / SESSIONS_FILE, disk.where(f"{folder}/{SESSIONS_FILE}")
        )
        return MachineHost.restore(
            registry,
            group=manifest.group,
            state=state,
            sessions=sessions,
            machines=machines,
            configuration=manifest.cut.configuration,
        )


def _load(
    disk: Disk,
    tables: TableCodec,
    folder: str,
    checkpoint: Path,
    spec: MachineSpec,
    machine: StateMachine,
) -> None:
    directory = checkpoint / folder.rpartition("/")[2]
    with _of_machine(spec, "loaded"):
        if isinstance(machine, TableMachine):
            where = disk.where(f"{folder}/{_table(tables)}")
            machine.restore(tables.read(directory / _table(tables), machine.columns, where))
        else:
            machine.load(directory)


@contextlib.contextmanager
def _of_machine(spec: MachineSpec, what: str) -> Iterator[None]:
    try:
        yield
    except (OSError, PaxosError):
        raise
    except (Exception, SystemExit) as error:
        # Machines are the users' code; `exit()` in one would end all groups of this process.
        raise CheckpointError(
            f"machine {spec.name!r} of kind {spec.kind!r} version {spec.version} cannot be {what}: "
            f"{exception_text(error)}"
        ) from error


def _table(tables: TableCodec) -> str:
    return f"table{tables.suffix}"


def _framed_sessions(host: MachineHost) -> Iterator[bytes]:
    for session in host.export_sessions():
        encoded = _encode(session)
        yield len(encoded).to_bytes(_LENGTH_BYTES, "big") + encoded


def _read_sessions(path: Path, where: str) -> Iterator[SessionState]:
    with path.open("rb") as file:
        while header := file.read(_LENGTH_BYTES):
            try:
                yield _decode_session(file.read(int.from_bytes(header, "big")))
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise DamageError(f"{where}: not the sessions of a group ({error})") from error


def _write_pieces(disk: Disk, path: str, parts: Iterator[bytes]) -> None:
    """Write a new file, some parts at a time."""
    file = disk.create(path)
    try:
        piece = bytearray()
        for part in parts:
            piece += part
            if len(piece) >= _PIECE_BYTES:
                file.write(bytes(piece))
                piece.clear()
        file.write(bytes(piece))
    finally:
        file.close()
