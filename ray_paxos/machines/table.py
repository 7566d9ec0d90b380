"""State machines whose state is a table: their checkpoints are readable by other programs.

Such a machine says which columns its state has, gives its rows and takes them back. It knows no
file format: storage writes the rows as Parquet, the simulator in a plain form.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar, Literal, TypeAlias

import msgspec

from ray_paxos.machines.base import StateMachine

ColumnKind: TypeAlias = Literal["string", "bytes", "int", "bool"]
Row: TypeAlias = tuple[Any, ...]
"""One item for each column, in their order: str, bytes, int or bool as its kind says, or None."""


class Column(msgspec.Struct, frozen=True, array_like=True):
    """One column of a table.

    Attributes:
        name: Unique in the table.
        kind: `string` (text), `bytes`, `int` (64 bits, signed) or `bool`.
        is_nullable: Whether None may stand in it.
    """

    name: str
    kind: ColumnKind
    is_nullable: bool = False


class TableMachine(StateMachine):
    """A machine that is saved as a table; its `save` and `load` are not called.

    Attributes:
        columns: What each row holds. Part of the state's format: change it with `version` only.
    """

    columns: ClassVar[tuple[Column, ...]]

    @abstractmethod
    def rows(self) -> Iterator[Row]:
        """The whole state, row by row, in an order that depends on the state alone.

        Read twice over while a checkpoint is made: to write it, and to compare it with what was
        written. The state does not change meanwhile.
        """

    @abstractmethod
    def restore(self, rows: Iterable[Row]) -> None:
        """Replace the whole state by the rows that `rows` gave.

        Args:
            rows: In the same order; can be gone through once. They come while the file is read,
                so that a large table is in memory once and not twice.
        """
