"""Parquet footers as bytes: several files are made one without decoding a single page.

A Parquet file is the pages of its row groups, and a footer that says where each page is:

```
PAR1 | pages of row group 0 | pages of row group 1 | ... | footer | its length | PAR1
```

So the pages of files that were written alike, one after the other, and a footer with the row
groups of all of them, their positions moved, are one file. pyarrow reads and writes rows, and gives
no hand on the footer. It is a Thrift struct in the compact protocol: this module takes it apart,
keeps every field that it does not know as it stands, and changes the positions alone.

Measured (CPython 3.11, one core, rows of 130 bytes): see `segment_merging`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

MAGIC = b"PAR1"
_TAIL_BYTES = 8

# Types of the compact protocol.
_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = range(1, 13)
_INTEGERS = (_I16, _I32, _I64)
_LONG_LIST = 15

# Numbers of fields, by their names in parquet.thrift.
_NUM_ROWS, _ROW_GROUPS, _KEY_VALUE_METADATA = 3, 4, 5
_KEY, _VALUE = 1, 2
_COLUMNS, _GROUP_ROWS, _GROUP_FILE_OFFSET, _ORDINAL = 1, 3, 5, 7
_CHUNK_FILE_OFFSET, _META_DATA, _OFFSET_INDEX, _COLUMN_INDEX = 2, 3, 4, 6
_PAGE_OFFSETS = (9, 10, 11)
_BLOOM_FILTER = 14

_Field: TypeAlias = tuple[int, Any]
_Struct: TypeAlias = dict[int, _Field]
"""By the number of the field, ascending: its type, and its content."""


class FooterError(ValueError):
    """A footer is not one that this module takes apart."""


def join_files(files: Sequence[bytes], metadata: Mapping[str, str]) -> bytes:
    """One file with the row groups of several, in their order.

    Args:
        files: Whole Parquet files that were written alike.
        metadata: The key-value metadata of the new one, in place of theirs.

    Raises:
        FooterError: A footer is of a form that is not known, or the schemas differ.

    Guarantee: the pages are the very bytes of the files.
    """
    pieces: list[bytes | memoryview] = [MAGIC]
    footers: list[_Struct] = []
    groups: list[_Struct] = []
    offset = 0
    for data in files:
        footer, pages_end = _read_footer(data)
        footers.append(footer)
        for group in _content(footer, _ROW_GROUPS)[1]:
            _move(group, offset)
            group[_ORDINAL] = (_I16, len(groups))
            groups.append(dict(sorted(group.items())))
        pieces.append(memoryview(data)[len(MAGIC) : pages_end])
        offset += pages_end - len(MAGIC)
    joined = _common(footers)
    joined[_NUM_ROWS] = (_I64, sum(_content(group, _GROUP_ROWS) for group in groups))
    joined[_ROW_GROUPS] = (_LIST, (_STRUCT, groups))
    pairs = [
        {_KEY: (_BINARY, key.encode()), _VALUE: (_BINARY, value.encode())}
        for key, value in metadata.items()
    ]
    joined[_KEY_VALUE_METADATA] = (_LIST, (_STRUCT, pairs))
    written = _encode_struct(dict(sorted(joined.items())))
    return b"".join((*pieces, written, len(written).to_bytes(4, "little"), MAGIC))


def _common(footers: Sequence[_Struct]) -> _Struct:
    """What all footers say beside their rows: version, schema, writer, order of columns."""
    changing = (_NUM_ROWS, _ROW_GROUPS, _KEY_VALUE_METADATA)
    common = [{n: field for n, field in f.items() if n not in changing} for f in footers]
    if any(each != common[0] for each in common):
        raise FooterError("the files to be joined were not written alike")
    return common[0]


def _move(group: _Struct, offset: int) -> None:
    """Let a row group's pages lie `offset` bytes further on."""
    for chunk in _content(group, _COLUMNS)[1]:
        meta = _content(chunk, _META_DATA)
        if _OFFSET_INDEX in chunk or _COLUMN_INDEX in chunk or _BLOOM_FILTER in meta:
            raise FooterError("there is more in the file than the pages of row groups")
        for number in _PAGE_OFFSETS:
            _shift(meta, number, offset)
        _shift(chunk, _CHUNK_FILE_OFFSET, offset)
    _shift(group, _GROUP_FILE_OFFSET, offset)


def _shift(fields: _Struct, number: int, offset: int) -> None:
    # Zero stands for "not told": nothing lies before the magic number.
    if number in fields and fields[number][1]:
        kind, position = fields[number]
        fields[number] = (kind, position + offset)


def _content(fields: _Struct, number: int) -> Any:
    try:
        return fields[number][1]
    except KeyError as error:
        raise FooterError(f"field {number} is missing") from error


def _read_footer(data: bytes) -> tuple[_Struct, int]:
    """A file's footer, and where it begins."""
    end = len(data) - _TAIL_BYTES
    if end < len(MAGIC) or data[:4] != MAGIC or data[-4:] != MAGIC:
        raise FooterError("not a whole Parquet file")
    start = end - int.from_bytes(data[end : end + 4], "little")
    if start < len(MAGIC):
        raise FooterError("a footer longer than its file")
    reader = _Reader(data[start:end])
    try:
        footer = reader.struct()
    except IndexError as error:
        raise FooterError("a footer without its end") from error
    if reader.position != end - start:
        raise FooterError("something lies behind the footer")
    return footer, start


class _Reader:
    """Takes a struct of the compact protocol apart."""

    def __init__(self, data: bytes) -> None:
        self.position = 0
        self._data = data

    def struct(self) -> _Struct:
        """All fields up to the mark that ends a struct."""
        fields: _Struct = {}
        number = 0
        while head := self._byte():
            kind = head & 0x0F
            number = number + (head >> 4) if head >> 4 else self._zigzag()
            fields[number] = (kind, self._value(kind))
        return fields

    def _value(self, kind: int) -> Any:
        if kind in _INTEGERS:
            return self._zigzag()
        if kind == _BINARY:
            return self._take(self._varint())
        if kind == _STRUCT:
            return self.struct()
        if kind in (_LIST, _SET):
            return self._list()
        if kind in (_TRUE, _FALSE):
            return kind == _TRUE
        if kind == _BYTE:
            return self._byte()
        if kind == _DOUBLE:
            return self._take(8)
        raise FooterError(f"a field of type {kind}")

    def _list(self) -> tuple[int, list[Any]]:
        head = self._byte()
        kind, count = head & 0x0F, head >> 4
        if count == _LONG_LIST:
            count = self._varint()
        if kind in (_TRUE, _FALSE):
            return kind, [self._byte() for _ in range(count)]
        return kind, [self._value(kind) for _ in range(count)]

    def _byte(self) -> int:
        self.position += 1
        return self._data[self.position - 1]

    def _take(self, count: int) -> bytes:
        self.position += count
        if self.position > len(self._data):
            raise FooterError("a footer without its end")
        return self._data[self.position - count : self.position]

    def _varint(self) -> int:
        value = shift = 0
        while (byte := self._byte()) & 0x80:
            value |= (byte & 0x7F) << shift
            shift += 7
        return value | byte << shift

    def _zigzag(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)


def _encode_struct(fields: _Struct) -> bytes:
    written = bytearray()
    _write_struct(written, fields)
    return bytes(written)


def _write_struct(written: bytearray, fields: _Struct) -> None:
    before = 0
    for number, (kind, content) in fields.items():
        told = kind if kind not in (_TRUE, _FALSE) else _TRUE if content else _FALSE
        if 0 < number - before < 16:
            written.append((number - before) << 4 | told)
        else:
            written.append(told)
            _write_zigzag(written, number)
        before = number
        if kind not in (_TRUE, _FALSE):
            _write_value(written, kind, content)
    written.append(0)


def _write_value(written: bytearray, kind: int, content: Any) -> None:
    if kind in _INTEGERS:
        _write_zigzag(written, content)
    elif kind == _BINARY:
        _write_varint(written, len(content))
        written += content
    elif kind == _STRUCT:
        _write_struct(written, content)
    elif kind in (_LIST, _SET):
        element, items = content
        count = len(items)
        written.append(min(count, _LONG_LIST) << 4 | element)
        if count >= _LONG_LIST:
            _write_varint(written, count)
        for item in items:
            if element in (_TRUE, _FALSE):
                written.append(item)
            else:
                _write_value(written, element, item)
    elif kind == _BYTE:
        written.append(content)
    else:
        written += content


def _write_varint(written: bytearray, value: int) -> None:
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)


def _write_zigzag(written: bytearray, value: int) -> None:
    _write_varint(written, value << 1 if value >= 0 else (-value << 1) - 1)
