"""The last 15 minutes as a line of bars."""

from __future__ import annotations

from collections.abc import Sequence

from ray_paxos.observability.cluster_view import SpanView
from ray_paxos.observability.rates import HISTORY_MS

BLOCKS = "▁▂▃▄▅▆▇█"
ASCII_BLOCKS = "_.-~=+*#"
GAP = " "


def sparkline(history: Sequence[SpanView], width: int, *, is_ascii: bool = False) -> str:
    """The last 15 minutes as a line of bars, up to the highest rate among them.

    Args:
        history: The oldest first.
        width: How many bars.
        is_ascii: Whether they are drawn without blocks.

    Returns:
        A blank stands for a time that nobody tells of.
    """
    if not history or width < 1:
        return GAP * max(width, 0)
    blocks = ASCII_BLOCKS if is_ascii else BLOCKS
    end_ms = history[-1].end_ms
    bars: list[float | None] = [None] * width
    for span in history:
        place = width - 1 - (end_ms - span.end_ms) * width // HISTORY_MS
        if 0 <= place < width:
            known = bars[place]
            bars[place] = max(known or 0.0, span.commands_per_s)
    highest = max((bar for bar in bars if bar is not None), default=0.0)
    return "".join(
        GAP if bar is None else blocks[_level(bar, highest, len(blocks))] for bar in bars
    )


def _level(bar: float, highest: float, levels: int) -> int:
    """Only nothing is drawn as nothing."""
    if bar <= 0 or highest <= 0:
        return 0
    return max(1, min(levels - 1, round(bar / highest * (levels - 1))))
