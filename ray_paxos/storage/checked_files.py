"""Small files that a person can read and that no flipped bit can change unnoticed.

Each is one JSON object with its fields in order and, last, a CRC32C over the rest. Reading builds
the text anew from what was found and compares every byte, so that even a changed space is damage.
Replacing writes another file, syncs it, renames it into place and syncs the folder: after a crash
there is the old one or the new one, whole.
"""

from __future__ import annotations

import json
from typing import TypeAlias

import google_crc32c

from ray_paxos.errors import DamageError
from ray_paxos.storage.disk import Disk

Fields: TypeAlias = dict[str, str | int]

UNFINISHED = ".unfinished"


def encode_fields(fields: Fields) -> bytes:
    """The text of a checked file."""
    return _text({**fields, "crc32c": f"{google_crc32c.value(_text(fields)):08x}"})


def decode_fields(data: bytes, where: str) -> Fields:
    """Read the text of a checked file.

    Args:
        data: All of the file.
        where: Its path, for the message.

    Raises:
        DamageError: Not one byte may differ from what was written.
    """
    try:
        fields = json.loads(data)
        if not isinstance(fields, dict):
            raise DamageError(f"{where}: not what was written there")
        checked: Fields = {name: value for name, value in fields.items() if name != "crc32c"}
        whole = encode_fields(checked) == data
    except ValueError as error:
        raise DamageError(f"{where}: not readable ({error})") from error
    if not whole:
        raise DamageError(f"{where}: wrong checksum")
    return checked


def read_fields(disk: Disk, path: str) -> Fields:
    """Read a checked file.

    Raises:
        DamageError: It is damaged.
        FileNotFoundError: There is none.
    """
    return decode_fields(disk.read(path), disk.where(path))


def replace_fields(disk: Disk, path: str, fields: Fields) -> None:
    """Write a checked file in the place of what was there, durably.

    Guarantee: durable on return; after a crash before that, the old file or the new one.
    """
    prepare_fields(disk, path, fields)
    publish_fields(disk, path)


def prepare_fields(disk: Disk, path: str, fields: Fields) -> None:
    """Do all of `replace_fields` that needs room on the disk; what was there stays in place."""
    unfinished = path + UNFINISHED
    if disk.exists(unfinished):
        disk.unlink(unfinished)
    file = disk.create(unfinished)
    try:
        file.write(encode_fields(fields))
        file.sync()
    finally:
        file.close()


def publish_fields(disk: Disk, path: str) -> None:
    """Put in place what `prepare_fields` wrote, durably."""
    disk.rename(path + UNFINISHED, path)
    disk.sync_folder(path.rpartition("/")[0])


def _text(fields: Fields) -> bytes:
    return json.dumps(fields, indent=1, ensure_ascii=False).encode() + b"\n"
