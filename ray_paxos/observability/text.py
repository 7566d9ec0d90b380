"""How numbers, times and names are written for people: short, and everywhere alike."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

UNKNOWN = "-"
NAMES_MAX = 7
"""More names than that are counted, not listed."""
DAY_MS = 86_400_000
_BYTE_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def printable(text: str) -> str:
    """A text of somebody else's in which nothing gives orders to a terminal, or ends a line."""
    return "".join(each if each.isprintable() else "?" for each in text)


# Names.


def names(members: Sequence[str], *, last: str = ", ") -> str:
    """Names as a list in a sentence; the first ones where there are many.

    Args:
        members: The names.
        last: What stands before the last one.
    """
    if len(members) > NAMES_MAX:
        return f"{', '.join(members[:NAMES_MAX])} and {len(members) - NAMES_MAX:,} more"
    *others, final = members or ("",)
    return f"{', '.join(others)}{last}{final}" if others else final


def numbers(groups: Iterable[int]) -> str:
    """Numbers of groups, ranges put together: `0-3, 7`."""
    ranges: list[list[int]] = []
    for group in sorted(groups):
        if ranges and group == ranges[-1][1] + 1:
            ranges[-1][1] = group
        else:
            ranges.append([group, group])
    return names([str(low) if low == high else f"{low}-{high}" for low, high in ranges])


def groups_text(groups: Sequence[int]) -> str:
    """`group 1`, `groups 0-3, 7`."""
    return f"{'group' if len(groups) == 1 else 'groups'} {numbers(groups)}"


# Numbers.


def count_text(count: int | None, what: str = "") -> str:
    """`12,345`, `1 other`, `2 others`; `-` for unknown.

    Args:
        count: How many.
        what: One of them; empty for the number alone.
    """
    number = UNKNOWN if count is None else f"{count:,}"
    if not what:
        return number
    return f"{number} {what}" if count == 1 else f"{number} {what}s"


def rate_text(per_s: float | None) -> str:
    """How many a second: `0.3`, `45`, `12,345`; `-` for unknown."""
    if per_s is None:
        return UNKNOWN
    if 0 < per_s < 10:
        return f"{per_s:.1f}"
    return f"{per_s:,.0f}"


def bytes_text(count: int | None) -> str:
    """`512 B`, `12 kB`, `1.4 GB`; `-` for unknown."""
    if count is None:
        return UNKNOWN
    value, unit = float(count), 0
    while value >= 999.5 and unit < len(_BYTE_UNITS) - 1:
        value, unit = value / 1_000, unit + 1
    return f"{value:.0f} B" if unit == 0 else f"{_three_digits(value)} {_BYTE_UNITS[unit]}"


# Times.


def milliseconds_text(ms: float | None) -> str:
    """How long something took: `0.04 ms`, `12 ms`, `1.25 s`; `-` for unknown."""
    if ms is None:
        return UNKNOWN
    return f"{_three_digits(ms)} ms" if ms < 999.5 else f"{_three_digits(ms / 1_000)} s"


def duration_text(duration_ms: int) -> str:
    """For how long something is so: `5 s`, `3 min`, `2 h`, `4 days`.

    Whole ones of the greatest unit that fits twice.
    """
    seconds = max(duration_ms, 0) // 1_000
    for unit, name in ((86_400, "days"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * unit:
            return f"{seconds // unit} {name}"
    return f"{seconds} s"


def clock_text(at_ms: int | None, now_ms: int, *, has_ms: bool = False) -> str:
    """A time by the clock of whoever looks, with the day where that is another one.

    Args:
        at_ms: In milliseconds since 1970; None for empty text.
        now_ms: The time now, likewise.
        has_ms: Whether it is told to the millisecond.
    """
    if at_ms is None:
        return ""
    at = time.localtime(at_ms // 1_000)
    form = "%H:%M:%S" if abs(now_ms - at_ms) < DAY_MS else "%Y-%m-%d %H:%M:%S"
    text = time.strftime(form, at)
    return f"{text}.{at_ms % 1_000:03d}" if has_ms else text


def _three_digits(value: float) -> str:
    """As many digits as tell something; what is far below a thousandth is nothing."""
    if value >= 99.95:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value >= 0.000_5 else "0"
