"""What the keys of `ray-paxos top` do: a key and what is shown, in; what is shown then, out."""

from __future__ import annotations

from dataclasses import replace

from ray_paxos.cli.keys import BACKSPACE, ENTER, ESCAPE
from ray_paxos.cli.top_options import SORTS, TopOptions, shown_groups
from ray_paxos.observability.cluster_view import ClusterView

FILTER_MAX = 100


class Left(Exception):
    """The person has seen enough."""


def press(key: str, options: TopOptions, view: ClusterView) -> TopOptions:
    """One key.

    Args:
        key: As `keys.Keys` gives it.
        options: What is shown.
        view: Of which cluster.

    Returns:
        What is to be shown then; the same for a key that does nothing here.

    Raises:
        Left: It is to end.
    """
    if options.typed is not None:
        return _typed(key, options, options.typed)
    if key == "q":
        raise Left
    if options.is_help:
        return replace(options, is_help=False)
    if key in ("h", "?"):
        return replace(options, is_help=True)
    if key in ("up", "down"):
        return _chosen(options, view, 1 if key == "down" else -1)
    if options.group is not None:
        return replace(options, group=None) if key in (ESCAPE, BACKSPACE, ENTER) else options
    if key in ("s", "right", "left"):
        return replace(options, sort=_next_sort(options.sort, -1 if key == "left" else 1))
    if key == "/":
        return replace(options, typed=options.filter)
    if key == "u":
        return replace(options, is_unhealthy_only=not options.is_unhealthy_only)
    if key == ENTER:
        shown = shown_groups(view, options)
        numbers = [group.group for group in shown]
        first = numbers[0] if numbers else None
        return replace(options, group=options.chosen if options.chosen in numbers else first)
    if key == ESCAPE:
        return replace(options, filter="", chosen=None, is_unhealthy_only=False)
    return options


def _typed(key: str, options: TopOptions, typed: str) -> TopOptions:
    """A key while a filter is typed: it is applied as it grows."""
    if key == ENTER:
        return replace(options, typed=None)
    if key == ESCAPE:
        return replace(options, typed=None, filter="")
    if key == BACKSPACE:
        typed = typed[:-1]
    elif len(key) == 1 and len(typed) < FILTER_MAX:
        typed += key
    return replace(options, typed=typed, filter=typed)


def _chosen(options: TopOptions, view: ClusterView, step: int) -> TopOptions:
    """The group after the chosen one, or before it; in the detail that one is shown then."""
    shown = [group.group for group in shown_groups(view, options)]
    if not shown:
        return options
    if options.chosen in shown:
        place = max(0, min(len(shown) - 1, shown.index(options.chosen) + step))
    else:
        place = 0
    chosen = shown[place]
    return replace(options, chosen=chosen, group=None if options.group is None else chosen)


def _next_sort(sort: str, step: int) -> str:
    return SORTS[(SORTS.index(sort) + step) % len(SORTS)]
