"""What `ray-paxos top` shows, drawn by rich: a view of a cluster in, a picture out.

```
 cluster, rates, latency, the last 15 minutes
 what is wrong, and since when
 members
 groups        unhealthy ones first, as many as fit
 events        the last ones
 keys
```

Nothing is asked and nothing is waited for here. Only rows that fit are made: a cluster may have a
thousand groups.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.segment import Segment
from rich.text import Text

from ray_paxos.cli.top_options import (
    TopOptions,
    group_of,
    group_order,
    member_order,
    shown_events,
    shown_groups,
    shown_members,
)
from ray_paxos.cli.top_sparkline import sparkline
from ray_paxos.cli.top_tables import (
    HELP,
    STYLES,
    WIDE,
    groups_table,
    help_table,
    members_table,
    positions_table,
    since_text,
    wrong_lines,
)
from ray_paxos.observability.cluster_view import ClusterView, GroupView, Health
from ray_paxos.observability.event_record import EventRecord
from ray_paxos.observability.text import (
    clock_text,
    count_text,
    milliseconds_text,
    printable,
    rate_text,
)

EVENTS_SHOWN = 8
EVENTS_OF_GROUP_SHOWN = 30
WRONG_SHOWN = 8
GROUPS_MIN = 3
KEYS = "q quit   s sort   / filter   u unhealthy only   up, down choose   enter detail   h help"
KEYS_OF_DETAIL = "q quit   up, down other group   esc back   h help"
LEVELS = {"ERROR": "bold red", "WARNING": "yellow"}


def frame(
    view: ClusterView, options: TopOptions, *, width: int, height: int | None = None
) -> RenderableType:
    """One picture.

    Args:
        view: What is shown.
        options: How.
        width: Columns that there are.
        height: Lines that there are; None for as many as are wanted.

    Raises:
        ConfigurationError: The group whose detail is wanted is none of the cluster's.
    """
    parts = _Parts(view, options, width, height)
    if options.is_help:
        parts.add(help_table(), len(HELP))
    elif options.group is not None:
        _add_detail(parts, group_of(view, options.group))
    else:
        _add_overview(parts)
    return parts.together()


class _Parts:
    """The picture as it is put together, with the lines that are left."""

    def __init__(
        self, view: ClusterView, options: TopOptions, width: int, height: int | None
    ) -> None:
        self.view = view
        self.options = options
        self.width = width
        self.left = height
        self._height = height
        self._parts: list[RenderableType] = []
        self._end = _footer(options)
        for line in _head(view, options, width):
            self.add(line, 1)
        if self._end is not None:
            self.take(1)

    def take(self, lines: int) -> None:
        """So many lines are used."""
        if self.left is not None:
            self.left -= lines

    def fits(self, lines: int) -> int:
        """How many of so many lines there is room for."""
        return lines if self.left is None else max(min(lines, self.left), 0)

    def add(self, part: RenderableType, lines: int) -> None:
        """Put something below; nothing where there is no room left."""
        if self.left is None or self.left > 0:
            self._parts.append(part)
            self.take(lines)

    def add_title(self, text: str) -> None:
        """Put a title below an empty line; nothing where nothing would follow it."""
        if self.left is None or self.left > 2:
            self._parts += ["", Text(text, style="bold", no_wrap=True, overflow="ellipsis")]
            self.take(2)

    def together(self) -> RenderableType:
        """The picture; what was wrapped into more lines than there are is cut off at its end."""
        return _Cropped(Group(*self._parts), self._end, self._height)


@dataclass(frozen=True, slots=True)
class _Cropped:
    """The first lines of something, and a last one below."""

    body: RenderableType
    end: RenderableType | None
    height: int | None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        body = console.render_lines(self.body, options, pad=False)
        end = [] if self.end is None else console.render_lines(self.end, options, pad=False)
        if self.height is not None:
            body = body[: max(self.height - len(end), 0)]
        lines = [*body, *end]
        for number, line in enumerate(lines):
            yield from line
            if number < len(lines) - 1 or self.height is None:
                yield Segment.line()


# What stands above everything.


def _head(view: ClusterView, options: TopOptions, width: int) -> list[Text]:
    worst = max((group.health for group in view.groups), key=lambda h: h.rank, default=Health.OK)
    down = [member.name for member in view.members if not member.is_up]
    head = Text(no_wrap=True, overflow="ellipsis")
    head.append(f"cluster {view.cluster}", "bold")
    head.append(f"   {clock_text(view.at_ms, view.at_ms)}   ")
    if worst is Health.OK and not down:
        head.append(f"all {len(view.groups):,} groups work, {len(view.members)} members are up")
        head.stylize("green", head.plain.rindex("all"))
    else:
        bad = sum(group.health is not Health.OK for group in view.groups)
        which = f" (worst: {worst.value})" if width >= WIDE and bad else ""
        head.append(
            f"{len(down)} of {len(view.members)} members down, "
            f"{bad:,} of {len(view.groups):,} groups not well{which}",
            STYLES[worst] if worst is not Health.OK else "bold yellow",
        )
    rates = Text(no_wrap=True, overflow="ellipsis")
    # At the first look there is nothing to compare with, but the last ten seconds are known.
    is_first = view.commands_per_s is None and len(view.history) > 0
    told = view.history[-1] if is_first else view
    rates.append(f"{rate_text(told.commands_per_s)} commands/s", "bold")
    rates.append(f"   p50 {milliseconds_text(told.p50_ms)}   p99 {milliseconds_text(told.p99_ms)}")
    highest = max((span.commands_per_s for span in view.history), default=0.0)
    label = f" 15 min, max {rate_text(highest)}/s"
    room = max(6, min(90, width - len(rates.plain) - len(label) - 3))
    rates.append("   ")
    rates.append(sparkline(view.history, room, is_ascii=options.is_ascii), "cyan")
    rates.append(label)
    lines = [head, rates]
    if view.hops_p99_ms and width >= WIDE:
        hops = "   ".join(f"{h} {milliseconds_text(ms)}" for h, ms in view.hops_p99_ms.items())
        lines.append(Text(f"p99 by hop: {hops}", "dim", no_wrap=True, overflow="ellipsis"))
    return lines


def _footer(options: TopOptions) -> Text | None:
    if options.typed is not None:
        return Text(f"/{options.typed}_", style="reverse", no_wrap=True, overflow="ellipsis")
    if not options.has_keys:
        return None
    keys = KEYS_OF_DETAIL if options.group is not None else KEYS
    return Text(keys, style="dim", no_wrap=True, overflow="ellipsis")


# All of it.


def _add_overview(parts: _Parts) -> None:
    view, options = parts.view, parts.options
    _add_wrong(parts)
    members = shown_members(view, options)
    how = _how(options, member_order(options), len(members), len(view.members))
    parts.add_title(f"members ({how})")
    shown = members[: parts.fits(len(members) + 1)]
    parts.add(members_table(view, shown, parts.width), len(shown) + 1)
    groups = shown_groups(view, options)
    events = list(islice(shown_events(view, options), EVENTS_SHOWN))
    # Events get what the groups leave, and a few lines in any case.
    reserved = 0 if parts.left is None else min(len(events), EVENTS_SHOWN, parts.left // 4) + 2
    _add_groups(parts, groups, reserved)
    _add_events(parts, events)


def _add_wrong(parts: _Parts) -> None:
    wrong = wrong_lines(parts.view)
    if not wrong:
        return
    parts.add_title("what is wrong")
    limit = parts.fits(WRONG_SHOWN if parts.left is None or parts.left > 30 else 5)
    for text, style in wrong[:limit]:
        line = Text(no_wrap=False)
        line.append("! ", style)
        line.append(text)
        parts.add(line, -(-len(line.plain) // parts.width))
    if len(wrong) > limit:
        parts.add(Text(f"! and {len(wrong) - limit:,} more"), 1)


def _how(options: TopOptions, order: str, shown: int, count: int) -> str:
    """How many are shown, in which order, and what is left out."""
    what = [f"sorted by {order}"]
    what += [f"with {options.filter!r}"] if options.filter else []
    what += ["not well only"] if options.is_unhealthy_only else []
    return f"{shown:,} of {count:,}; {', '.join(what)}"


def _add_groups(parts: _Parts, groups: Sequence[GroupView], reserved: int) -> None:
    view, options = parts.view, parts.options
    how = _how(options, group_order(options), len(groups), len(view.groups))
    parts.add_title(f"groups ({how})")
    room = len(groups)
    if parts.left is not None:
        room = max(min(parts.left - reserved - 1, room), min(GROUPS_MIN, room, parts.left - 1))
    if room < len(groups):
        # The line that says how many there are beside them.
        room = max(room - 1, 0)
    shown = groups[_first_shown(groups, options.chosen, room) :][:room]
    parts.add(groups_table(view, shown, options, parts.width), len(shown) + 1)
    left = [group for group in groups if group not in shown] if room < len(groups) else []
    if left:
        bad = sum(group.health is not Health.OK for group in left)
        well = "all of them well" if not bad else f"{bad:,} of these not well"
        parts.add(Text(f"and {len(left):,} more, {well}", "dim"), 1)


def _first_shown(groups: Sequence[GroupView], chosen: int | None, room: int) -> int:
    """From which one on they are shown, so that the chosen one is among them."""
    position = next((i for i, group in enumerate(groups) if group.group == chosen), 0)
    return max(0, position - room + 1)


def _add_events(parts: _Parts, events: Sequence[EventRecord]) -> None:
    if not events:
        return
    parts.add_title("last events")
    for event in events[: parts.fits(len(events))]:
        where = f"{event.member}/{event.role}"
        line = Text(no_wrap=True, overflow="ellipsis")
        line.append(f"{clock_text(event.at_ms, parts.view.at_ms)}  {where}  ", "dim")
        line.append(printable(event.text), LEVELS.get(event.level, ""))
        parts.add(line, 1)


# One group.


def _add_detail(parts: _Parts, group: GroupView) -> None:
    view = parts.view
    title = Text(no_wrap=True, overflow="ellipsis")
    title.append(f"group {group.group}", "bold")
    title.append("   ")
    title.append(group.health.value, STYLES[group.health])
    title.append(f" {since_text(view, group.since_ms)}")
    parts.add("", 1)
    parts.add(title, 1)
    if group.risk:
        parts.add(Text(printable(f"! {group.risk}")), -(-(len(group.risk) + 2) // parts.width))
    facts = (
        f"master {group.master or 'none'}, {group.voters_up} of {len(group.voters)} voters up "
        f"({group.majority} needed), voters since instance {group.config_id}"
    )
    counts = (
        f"{rate_text(group.commands_per_s)} commands/s, "
        f"{count_text(group.queued_requests)} queued, "
        f"{count_text(group.sessions)} sessions, applied {count_text(group.applied)}"
    )
    for text in (facts, counts):
        parts.add(Text(text, no_wrap=True, overflow="ellipsis"), 1)
    parts.add("", 1)
    parts.add(positions_table(group), len(group.positions) + 1)
    for name, position in group.positions.items():
        if position.stopped:
            parts.add(Text(printable(f"! {name} stopped: {position.stopped}")), 2)
    _add_events(parts, list(islice(shown_events(view, parts.options), EVENTS_OF_GROUP_SHOWN)))
