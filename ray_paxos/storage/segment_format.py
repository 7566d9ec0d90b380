"""What a segment of the chosen log says about itself, whatever file format carries it.

A segment holds contiguous instances in blocks. Its header, which can be read and trusted without
reading the rest, says whose it is, what it holds, and the chains at both ends; the index of blocks
says the value chain before each. So a reader that starts at any block recomputes the chain over
the values it read and knows that they are the ones that were sealed, in their order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

import msgspec

from ray_paxos.core.records import SealedInstance
from ray_paxos.core.values import EMPTY_CHAIN, extend_chain, value_hash
from ray_paxos.errors import DamageError, InvariantViolationError

SEGMENT_FORMAT = 1
# A block is read at once: it holds about this many bytes of values, and at least one instance. A
# segment that is sealed by size, with the value that made it full, is one block.
BLOCK_BYTES = 5_000_000

ReadTail = Callable[[int], bytes]
"""Gives the last so many bytes of a file, or all of a shorter one."""


class SegmentHeader(msgspec.Struct, frozen=True):
    """What a segment's footer says.

    Attributes:
        genesis: Hash of the cluster's genesis.
        group: Whose log.
        first: Its first instance.
        last: Its last.
        value_bytes: Encoded bytes of all its values.
        chain_before: Value chain up to the instance before `first`.
        chain_after: Value chain through `last`.
        result_chain_before: Result chain there; None where that was not applied when sealed.
        result_chain_after: Result chain through `last`; None likewise.
    """

    genesis: bytes
    group: int
    first: int
    last: int
    value_bytes: int
    chain_before: bytes
    chain_after: bytes
    result_chain_before: bytes | None
    result_chain_after: bytes | None


class Block(msgspec.Struct, frozen=True, array_like=True):
    """Where a block begins: its first instance, and the value chain before it."""

    first: int
    chain_before: bytes


class SegmentContent(Protocol):
    """A segment whose every byte was compared with its checksum."""

    @property
    def data(self) -> bytes:
        """The whole file."""

    @property
    def header(self) -> SegmentHeader:
        """What it holds."""

    @property
    def blocks(self) -> Sequence[Block]:
        """Its blocks, ascending."""

    def read(self, index: int) -> list[SealedInstance]:
        """The instances of one block.

        Raises:
            DamageError: They cannot be read.
        """


class SegmentCodec(Protocol):
    """A file format for segments.

    Attributes:
        suffix: Of the files' names, with the dot.
        block_bytes: Blocks are cut of about this many bytes of values.
    """

    suffix: str
    block_bytes: int

    def encode(self, header: SegmentHeader, instances: Iterable[SealedInstance]) -> bytes:
        """A whole file; `header` agrees with `instances`."""

    def join(self, header: SegmentHeader, parts: Sequence[SegmentContent]) -> bytes | None:
        """A whole file with the blocks of several, as they are; `header` agrees with them.

        Returns:
            The file; None where these cannot be put together without decoding their blocks.
        """

    def read_header(self, tail: ReadTail, where: str) -> SegmentHeader:
        """What a file says about itself, from its end alone.

        Raises:
            DamageError: That part is damaged.
        """

    def open(self, data: bytes, where: str) -> SegmentContent:
        """Read a whole file.

        Raises:
            DamageError: Any byte of it is not what was written.
        """


def header_of(
    genesis: bytes,
    group: int,
    instances: Sequence[SealedInstance],
    chain_before: bytes,
    result_chain_before: bytes | None,
) -> SegmentHeader:
    """The header of a segment that holds these instances.

    Raises:
        InvariantViolationError: The instances do not follow each other, or their chain is not
            what their values add up to.
    """
    chain = chain_before
    first = instances[0].chosen.instance_id
    for expected, instance in enumerate(instances, first):
        chain = extend_chain(chain, value_hash(instance.chosen.value))
        if instance.chosen.instance_id != expected or instance.chain != chain:
            found = instance.chosen.instance_id
            what = f"instance {found} of group {group} to be sealed as {expected}, or its chain"
            raise InvariantViolationError(f"{what} does not follow from its value")
    return SegmentHeader(
        genesis,
        group,
        first,
        instances[-1].chosen.instance_id,
        sum(len(instance.chosen.value) for instance in instances),
        chain_before,
        chain,
        EMPTY_CHAIN if first == 1 else result_chain_before,
        instances[-1].result_chain,
    )


def split_blocks(
    instances: Iterable[SealedInstance], chain_before: bytes, block_bytes: int
) -> Iterator[tuple[Block, list[SealedInstance]]]:
    """Cut instances into blocks of about `block_bytes` bytes of values."""
    block: list[SealedInstance] = []
    byte_count = 0
    for instance in instances:
        if block and byte_count + len(instance.chosen.value) > block_bytes:
            yield Block(block[0].chosen.instance_id, chain_before), block
            chain_before = block[-1].chain
            block, byte_count = [], 0
        block.append(instance)
        byte_count += len(instance.chosen.value)
    if block:
        yield Block(block[0].chosen.instance_id, chain_before), block


def read_instances(
    content: SegmentContent, from_instance: int, where: str
) -> Iterator[SealedInstance]:
    """The instances of a segment from one on, each compared with the chain.

    Raises:
        DamageError: What was read is not what was sealed.
    """
    header, blocks = content.header, content.blocks
    for index, block in enumerate(blocks):
        is_last = index + 1 == len(blocks)
        end = header.last if is_last else blocks[index + 1].first - 1
        if end < from_instance:
            continue
        instances = content.read(index)
        chain = block.chain_before
        for expected, instance in enumerate(instances, block.first):
            chain = extend_chain(chain, value_hash(instance.chosen.value))
            if instance.chosen.instance_id != expected or instance.chain != chain:
                raise DamageError(f"{where}: instance {expected} is not what was sealed")
        if chain != (header.chain_after if is_last else blocks[index + 1].chain_before):
            raise DamageError(f"{where}: block {index} does not end with its chain")
        for instance in instances:
            if instance.chosen.instance_id >= from_instance:
                yield instance
