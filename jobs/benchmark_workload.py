"""What a benchmark does: operations of a workload, without end, the same for the same seed.

`put`, `get` and `mixed` (half and half, keys chosen evenly) are known here. `ycsb-a` to `ycsb-f`
are YCSB's core workloads, read from `configs/workloads` with YCSB's own names for everything;
`benchmark_keys` chooses their keys. Values have `--value-size` bytes, where YCSB's have ten fields
of 100.
"""

from __future__ import annotations

import enum
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import msgspec
import yaml

from benchmark_keys import Distribution, Keys, key_name
from ray_paxos.errors import ConfigurationError

FOLDER = Path(__file__).resolve().parent.parent / "configs" / "workloads"
NAMES = ("put", "get", "mixed", *(f"ycsb-{letter}" for letter in "abcdef"))
RECORDS = 10_000
STATE_BYTES_MAX = 50_000_000
"""Of the values of all records, where `--records` does not say how many there are."""
VALUES = 32
"""So many different values are written."""


class Kind(enum.Enum):
    """What an operation does."""

    READ = "read"
    UPDATE = "update"
    INSERT = "insert"
    SCAN = "scan"
    READ_MODIFY_WRITE = "readmodifywrite"


class Operation(NamedTuple):
    """One operation.

    Attributes:
        kind: What it does.
        key: To which key; of a scan the first one.
        value: What is written; empty where nothing is.
        length: Of a scan: how many keys.
    """

    kind: Kind
    key: str
    value: bytes = b""
    length: int = 0


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file of configs/workloads."""

    recordcount: int
    readproportion: float
    updateproportion: float
    scanproportion: float
    insertproportion: float
    readmodifywriteproportion: float
    requestdistribution: Distribution
    maxscanlength: int = 100
    scanlengthdistribution: str = "uniform"


@dataclass(frozen=True)
class Workload:
    """What is done, and to which keys.

    Attributes:
        name: As `--workload` calls it.
        records: Keys that are there before it begins.
        shares: Of each kind of operation; together 1.
        distribution: How keys are chosen.
        scan_length_max: Lengths of scans are even from 1 to this.
    """

    name: str
    records: int
    shares: dict[Kind, float]
    distribution: Distribution = "uniform"
    scan_length_max: int = 100

    @property
    def reads(self) -> bool:
        """Whether keys have to be there before."""
        return any(kind not in (Kind.UPDATE, Kind.INSERT) for kind in self.shares)

    @property
    def writes(self) -> bool:
        """Whether it adds to the log."""
        return any(kind not in (Kind.READ, Kind.SCAN) for kind in self.shares)

    @property
    def inserts(self) -> bool:
        """Whether it adds keys."""
        return Kind.INSERT in self.shares

    def operations(self, value_bytes: int, rng: random.Random) -> Iterator[Operation]:
        """Its operations, without end."""
        keys = Keys(self.records, self.distribution, rng)
        values = make_values(value_bytes, rng)
        kinds, weights = list(self.shares), list(self.shares.values())
        while True:
            kind = kinds[0] if len(kinds) == 1 else rng.choices(kinds, weights)[0]
            if kind is Kind.INSERT:
                yield Operation(kind, key_name(keys.insert()), rng.choice(values))
            elif kind is Kind.SCAN:
                length = rng.randint(1, self.scan_length_max)
                yield Operation(kind, key_name(keys.choose()), length=length)
            elif kind is Kind.READ:
                yield Operation(kind, key_name(keys.choose()))
            else:
                yield Operation(kind, key_name(keys.choose()), rng.choice(values))

    def initial(self, value_bytes: int, rng: random.Random) -> Iterator[Operation]:
        """What is written before it begins: every record once."""
        values = make_values(value_bytes, rng)
        for number in range(self.records):
            yield Operation(Kind.INSERT, key_name(number), rng.choice(values))


def make_values(value_bytes: int, rng: random.Random) -> list[bytes]:
    """Values that do not compress."""
    return [rng.randbytes(value_bytes) for _ in range(VALUES)]


def load_workload(name: str, value_bytes: int, records: int | None = None) -> Workload:
    """A workload by its name.

    Args:
        name: One of `NAMES`.
        value_bytes: Of each value; of large ones there are fewer.
        records: How many keys; by default the file's, or 10,000.

    Raises:
        ConfigurationError: There is no such workload, or its file is wrong.
    """
    if name not in NAMES:
        raise ConfigurationError(f"--workload: found {name!r}; allowed: {', '.join(NAMES)}")
    count = max(1, min(RECORDS, STATE_BYTES_MAX // max(1, value_bytes)))
    if not name.startswith("ycsb-"):
        shares = {
            "put": {Kind.UPDATE: 1.0},
            "get": {Kind.READ: 1.0},
            "mixed": {Kind.READ: 0.5, Kind.UPDATE: 0.5},
        }[name]
        return Workload(name, records or count, shares)
    return _read(FOLDER / f"{name}.yaml", name, records)


def _read(path: Path, name: str, records: int | None) -> Workload:
    try:
        file = msgspec.convert(yaml.safe_load(path.read_text(encoding="utf-8")), _File)
    except (OSError, yaml.YAMLError, msgspec.ValidationError) as error:
        raise ConfigurationError(f"{path}: {error}") from error
    given = {
        Kind.READ: file.readproportion,
        Kind.UPDATE: file.updateproportion,
        Kind.INSERT: file.insertproportion,
        Kind.SCAN: file.scanproportion,
        Kind.READ_MODIFY_WRITE: file.readmodifywriteproportion,
    }
    if abs(sum(given.values()) - 1.0) > 1e-9 or min(given.values()) < 0:
        raise ConfigurationError(f"{path}: the proportions must be 0 or more, and 1 together")
    if file.recordcount < 1 or file.maxscanlength < 1:
        raise ConfigurationError(f"{path}: recordcount and maxscanlength must be 1 or more")
    if file.scanlengthdistribution != "uniform":
        raise ConfigurationError(f"{path}: scanlengthdistribution: allowed: uniform")
    shares = {kind: share for kind, share in given.items() if share > 0}
    return Workload(
        name, records or file.recordcount, shares, file.requestdistribution, file.maxscanlength
    )
