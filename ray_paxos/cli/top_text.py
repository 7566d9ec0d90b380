"""How `ray-paxos top` writes numbers, times and the last minutes: short, and always alike."""

from __future__ import annotations

import time
from collections.abc import Sequence

from ray_paxos.observability.cluster_view import SpanView
from ray_paxos.observability.rates import HISTORY_MS

UNKNOWN = "-"
DAY_MS = 86_400_000
BLOCKS = "▁▂▃▄▅▆▇█"
ASCII_BLOCKS = "_.-~=+*#"
GAP = " "
_BYTE_UNITS = ("B", "KB", "MB", "GB", "TB", "PB")


def printable(text: str) -> str:
    """A text of somebody else's in which nothing gives orders to a terminal, or ends a line."""
    return "".join(each if each.isprintable() else "?" for each in text)


def count_text(count: int | None) -> str:
    """`12,345`; `-` for unknown."""
    return UNKNOWN if count is None else f"{count:,}"


def rate_text(per_s: float | None) -> str:
    """How many a second: `0.3`, `45`, `12,345`; `-` for unknown."""
    if per_s is None:
        return UNKNOWN
    if 0 < per_s < 10:
        return f"{per_s:.1f}"
    return f"{per_s:,.0f}"


def milliseconds_text(ms: float | None) -> str:
    """`0.25 ms`, `12 ms`, `1.5 s`; `-` for unknown."""
    if ms is None:
        return UNKNOWN
    if ms >= 1_000:
        return f"{ms / 1_000:.1f} s"
    return f"{ms:.0f} ms" if ms >= 100 else f"{ms:.3g} ms"


def bytes_text(count: int | None) -> str:
    """`512 B`, `1.4 GB`; `-` for unknown."""
    if count is None:
        return UNKNOWN
    value, unit = float(count), 0
    while value >= 999.5 and unit < len(_BYTE_UNITS) - 1:
        value, unit = value / 1_000, unit + 1
    return f"{value:.0f} B" if unit == 0 else f"{value:.3g} {_BYTE_UNITS[unit]}"


def clock_text(at_ms: int | None, now_ms: int) -> str:
    """A time by the watcher's own clock, with the day where that is another one; empty for None."""
    if at_ms is None:
        return ""
    at = time.localtime(at_ms / 1_000)
    form = "%H:%M:%S" if abs(now_ms - at_ms) < DAY_MS else "%Y-%m-%d %H:%M:%S"
    return time.strftime(form, at)


def duration_text(duration_ms: int) -> str:
    """`5 s`, `3 min`, `2 h`, `4 days`: whole ones of the greatest unit that fits twice."""
    seconds = max(duration_ms, 0) // 1_000
    for unit, name in ((86_400, "days"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * unit:
            return f"{seconds // unit} {name}"
    return f"{seconds} s"


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
