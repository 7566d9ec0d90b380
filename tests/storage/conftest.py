"""Fixtures of the storage tests."""

from __future__ import annotations

import pytest

from ray_paxos.storage.parquet import ParquetCodec
from ray_paxos.storage.segment_format import SegmentCodec
from ray_paxos.testing.codec import PlainCodec

CODECS = (PlainCodec(block_bytes=100), ParquetCodec(block_bytes=100))


@pytest.fixture(params=CODECS, ids=lambda codec: type(codec).__name__)
def codec(request) -> SegmentCodec:
    """Both file formats, with blocks so small that a segment has several."""
    chosen: SegmentCodec = request.param
    return chosen
