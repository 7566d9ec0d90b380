"""What a checkpoint is: the cut, and the manifest that lists and checks everything in it.

A manifest is a JSON text that a person can read, with a CRC32C over the rest as its last field.
Decoding builds the text anew from what was found and compares every byte, so that even a changed
space is damage. Each file of the checkpoint stands in it with its size and its CRC32C: who trusts
the manifest can tell for every byte of every file whether it is the one that was saved.

Manifests come from other members, too, and say where files are to be written. So decoding lets
only paths through that stay in the checkpoint's own folder, under the names that a checkpoint has
(`check_file_path`), and bounds how many there are.

```
manifest.json           last of all: with it the folder is a checkpoint
host.msgpack            log time, master, mounted machines, limits of the sessions
sessions.msgpack        the sessions
machine-0000/...        a folder for each machine, in the order of mounting
```
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TypeAlias

import google_crc32c
import msgspec

from ray_paxos.core.ballot import Ballot
from ray_paxos.core.genesis import Configuration, MachineSpec, MemberSpec, Voter
from ray_paxos.errors import DamageError

MANIFEST_FORMAT = 1
MANIFEST = "manifest.json"
UNFINISHED_MANIFEST = "_manifest.json"
HOST_FILE = "host.msgpack"
SESSIONS_FILE = "sessions.msgpack"

MANIFEST_BYTES_MAX = 8_000_000
FILES_MAX = 10_000
PATH_BYTES_MAX = 400
PATH_DEPTH_MAX = 16

_MACHINE_FOLDER = "machine-"
_MACHINE_DIGITS = 4
_NAME_BYTES_MAX = 255

_Json: TypeAlias = dict[str, object]


class CheckpointFile(msgspec.Struct, frozen=True, array_like=True):
    """One file of a checkpoint: its path in the checkpoint's folder, its bytes and their CRC32C."""

    path: str
    size: int
    crc32c: int


class Cut(msgspec.Struct, frozen=True, array_like=True):
    """Where in a group's log a checkpoint was taken, and what the log had come to there.

    Attributes:
        instance_id: The last instance whose effects are in it.
        chain: Value chain after it.
        result_chain: Result chain after it.
        ballot: The highest at which anything through it was chosen: a learner that goes on from
            here must not take itself to know less of later reigns than it shows.
        configuration: In force after it.
    """

    instance_id: int
    chain: bytes
    result_chain: bytes
    ballot: Ballot
    configuration: Configuration


class Manifest(msgspec.Struct, frozen=True, array_like=True):
    """All that a checkpoint holds.

    Attributes:
        genesis: Hash of the cluster's genesis.
        group: Whose state.
        cut: Where it was taken.
        machines: In the order of mounting: the first one's files are in `machine-0000/`.
        files: Ascending by path; each path once.
    """

    genesis: bytes
    group: int
    cut: Cut
    machines: tuple[MachineSpec, ...]
    files: tuple[CheckpointFile, ...]

    @property
    def byte_count(self) -> int:
        """Bytes of all files together."""
        return sum(file.size for file in self.files)

    def file(self, path: str) -> CheckpointFile | None:
        """The file of that path, or None where the checkpoint has none."""
        return next((file for file in self.files if file.path == path), None)


def machine_folder(position: int) -> str:
    """The folder of the machine that was mounted at this position, from 0."""
    return f"{_MACHINE_FOLDER}{position:0{_MACHINE_DIGITS}}"


def check_file_path(path: str, where: str) -> None:
    """Let only a path through that leads to a file inside the folder it is relative to.

    Args:
        path: Parts with `/` between them.
        where: What names it, for the message.

    Raises:
        DamageError: It is absolute, leaves the folder, has an empty part, a backslash or a NUL, is
            not UTF-8, or is too long or too deep.
    """
    parts = path.split("/")
    is_harmless = (
        all(part not in ("", ".", "..") for part in parts)
        and not any(character in path for character in "\\\0")
        and len(parts) <= PATH_DEPTH_MAX
        and _is_short(path, PATH_BYTES_MAX)
        and all(_is_short(part, _NAME_BYTES_MAX) for part in parts)
    )
    if not is_harmless:
        raise DamageError(f"{where}: {path[:PATH_BYTES_MAX]!r} is no path inside its folder")


def encode_manifest(manifest: Manifest) -> bytes:
    """The text of a manifest.

    Raises:
        DamageError: It is none that `decode_manifest` would let through.
    """
    _check_files(manifest, "a manifest")
    data = _checked_text(_to_json(manifest))
    if len(data) > MANIFEST_BYTES_MAX:
        raise DamageError(f"a manifest of {len(data)} bytes is over {MANIFEST_BYTES_MAX}")
    return data


def decode_manifest(data: bytes, where: str, *, genesis: bytes, group: int) -> Manifest:
    """Read a manifest back.

    Args:
        data: All of its text.
        where: Its path, or who sent it, for messages.
        genesis: Hash of the genesis of the cluster that it must be of.
        group: The group that it must be of.

    Returns:
        The manifest; its paths are safe to write to below the checkpoint's folder.

    Raises:
        DamageError: Any byte is not what was written; it is of a newer format, of another cluster
            or group; or it names a file that no checkpoint has.
    """
    found = _read_text(data, where)
    if found.get("format") != MANIFEST_FORMAT:
        known = f"this release reads format {MANIFEST_FORMAT}"
        raise DamageError(f"{where}: a checkpoint of format {found.get('format')}; {known}")
    try:
        manifest = _from_json(found)
    except (KeyError, TypeError, ValueError) as error:
        raise DamageError(f"{where}: not a manifest ({error})") from error
    if manifest.genesis != genesis:
        raise DamageError(f"{where}: a checkpoint of another cluster")
    if manifest.group != group:
        raise DamageError(f"{where}: a checkpoint of group {manifest.group}")
    _check_files(manifest, where)
    return manifest


def _check_files(manifest: Manifest, where: str) -> None:
    """The files are those of a checkpoint, each once, and none is also a folder."""
    if len(manifest.files) > FILES_MAX:
        raise DamageError(f"{where}: {len(manifest.files)} files, over {FILES_MAX}")
    paths = [file.path for file in manifest.files]
    folders = {machine_folder(position) for position in range(len(manifest.machines))}
    for path in paths:
        check_file_path(path, where)
        top, slash, _ = path.partition("/")
        if path not in (HOST_FILE, SESSIONS_FILE) and not (slash and top in folders):
            raise DamageError(f"{where}: {path!r} is no file of a checkpoint")
    if paths != sorted(set(paths)):
        raise DamageError(f"{where}: its paths are not ascending, each once")
    for path in paths:
        if not _folders_above(path).isdisjoint(paths):
            raise DamageError(f"{where}: {path!r} is inside a file")
    if HOST_FILE not in paths or SESSIONS_FILE not in paths:
        raise DamageError(f"{where}: {HOST_FILE} or {SESSIONS_FILE} is not in it")
    if any(file.size < 0 or file.crc32c < 0 for file in manifest.files):
        raise DamageError(f"{where}: a file of less than no bytes")


def _folders_above(path: str) -> set[str]:
    parts = path.split("/")
    return {"/".join(parts[:end]) for end in range(1, len(parts))}


def _is_short(text: str, bytes_max: int) -> bool:
    try:
        return len(text.encode()) <= bytes_max
    except UnicodeEncodeError:
        # A name that is not UTF-8 on disk: the manifest's text could not hold it.
        return False


# The text.


def _to_json(manifest: Manifest) -> _Json:
    cut = manifest.cut
    joined = [[each.name, each.member_id] for each in cut.configuration.joined]
    return {
        "format": MANIFEST_FORMAT,
        "genesis_hash": manifest.genesis.hex(),
        "group": manifest.group,
        "instance_id": cut.instance_id,
        "chain": cut.chain.hex(),
        "result_chain": cut.result_chain.hex(),
        "ballot": [cut.ballot.round, cut.ballot.member_id, cut.ballot.incarnation],
        "config_id": cut.configuration.config_id,
        "voters": _pairs(cut.configuration.voters),
        "followers": _pairs(cut.configuration.followers),
        "replicas_given": cut.configuration.replicas_given,
        # Only where there are any: an earlier release, which knows none, reads all others.
        **({"joined": joined} if joined else {}),
        "machines": [[spec.name, spec.kind, spec.version] for spec in manifest.machines],
        "files": [[file.path, file.size, f"{file.crc32c:08x}"] for file in manifest.files],
    }


def _pairs(among: Iterable[Voter]) -> list[list[int]]:
    return [[each.member_id, each.replica_id] for each in among]


def _from_json(found: _Json) -> Manifest:
    def number(name: str) -> int:
        return msgspec.convert(found[name], int)

    def binary(name: str) -> bytes:
        return bytes.fromhex(msgspec.convert(found[name], str))

    files = msgspec.convert(found["files"], tuple[tuple[str, int, str], ...])
    return Manifest(
        binary("genesis_hash"),
        number("group"),
        Cut(
            number("instance_id"),
            binary("chain"),
            binary("result_chain"),
            msgspec.convert(found["ballot"], Ballot),
            Configuration(
                number("config_id"),
                msgspec.convert(found["voters"], tuple[Voter, ...]),
                msgspec.convert(found["followers"], tuple[Voter, ...]),
                number("replicas_given"),
                msgspec.convert(found.get("joined", ()), tuple[MemberSpec, ...]),
            ),
        ),
        msgspec.convert(found["machines"], tuple[MachineSpec, ...]),
        tuple(CheckpointFile(path, size, int(crc32c, 16)) for path, size, crc32c in files),
    )


def _read_text(data: bytes, where: str) -> _Json:
    if len(data) > MANIFEST_BYTES_MAX:
        raise DamageError(f"{where}: {len(data)} bytes, over {MANIFEST_BYTES_MAX}")
    try:
        fields = json.loads(data)
        if not isinstance(fields, dict):
            raise DamageError(f"{where}: not what was written there")
        checked: _Json = {name: value for name, value in fields.items() if name != "crc32c"}
        is_whole = _checked_text(checked) == data
    except (ValueError, RecursionError) as error:
        raise DamageError(f"{where}: not readable ({error})") from error
    if not is_whole:
        raise DamageError(f"{where}: wrong checksum")
    return checked


def _checked_text(fields: _Json) -> bytes:
    return _text({**fields, "crc32c": f"{google_crc32c.value(_text(fields)):08x}"})


def _text(fields: _Json) -> bytes:
    """One line a field, and one a file: thousands of files stay readable."""
    lines = [f"{_compact(name)}: {_value(value)}" for name, value in fields.items()]
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()


def _value(value: object) -> str:
    if isinstance(value, list) and value and all(isinstance(item, list) for item in value):
        return "[\n" + ",\n".join(_items(value)) + "\n]"
    return _compact(value)


def _items(values: Iterable[object]) -> list[str]:
    return [f"  {_compact(value)}" for value in values]


def _compact(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
