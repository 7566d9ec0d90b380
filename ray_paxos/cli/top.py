"""`ray-paxos top`: a live view of a running cluster in the terminal.

On a terminal the picture is drawn anew after each look, on the alternate screen, and keys change
what is shown. Elsewhere pictures are printed one below the other. Looking changes nothing at the
cluster; see `actors.watching`.

What it costs, with three fused members of 100 groups on two cores that had other work, too: one
picture 28 ms of processor here and 8 ms at the members together, done after 61 ms; one
`ray-paxos status` 20 ms and 33 ms, done after 66 ms (`tests/ray/watch_bench.py`).
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

import click

from ray_paxos.cli.help_text import epilog
from ray_paxos.cli.running_cluster import address_option, open_to_watch
from ray_paxos.cli.statuses import statuses
from ray_paxos.cli.top_options import SORTS, TopOptions, group_of, shown_view

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from ray_paxos.observability.cluster_view import ClusterView

INTERVAL_MAX_S = 3_600.0
PLAIN_WIDTH = 160
UNHEALTHY = "unhealthy"
USUAL_SCREEN = b"\x1b[?1049l\x1b[?25h"
"""With a cursor, for the shell while this stands."""
OTHER_SCREEN = b"\x1b[?1049h\x1b[?25l"

Looking: TypeAlias = Callable[[], "ClusterView"]


def _checked_interval(context: click.Context, option: click.Parameter, value: float) -> float:
    if math.isnan(value):
        raise click.BadParameter("it is no number", ctx=context, param=option)
    return value


@click.command(
    epilog=epilog(
        "top demo",
        "top demo --once",
        "top demo --only unhealthy --sort lag",
        "top demo --group 1 --count 10 --interval-s 5",
        failed="no such cluster runs, or it is gone while it is watched",
    )
)
@click.argument("cluster")
@click.option(
    "--interval-s",
    type=click.FloatRange(min=0, min_open=True, max=INTERVAL_MAX_S),
    default=1.0,
    show_default=True,
    callback=_checked_interval,
    help="From one look to the next.",
)
@click.option("--once", is_flag=True, help="One picture, of two looks, and end.")
@click.option("--count", type=click.IntRange(min=1), help="So many pictures, and end.")
@click.option("--group", type=int, help="Show this group's detail only.")
@click.option(
    "--sort",
    type=click.Choice(SORTS),
    default=SORTS[0],
    show_default=True,
    help="By what groups and members are sorted, as far as they have it; those that are not well "
    "come first.",
)
@click.option(
    "--filter",
    "text",
    metavar="TEXT",
    default="",
    help="Only members, groups and events that contain this text.",
)
@click.option("--only", type=click.Choice([UNHEALTHY]), help="Only what is not well.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document a look, each in a line.")
@address_option
def top(
    cluster: str,
    interval_s: float,
    once: bool,
    count: int | None,
    group: int | None,
    sort: str,
    text: str,
    only: str | None,
    as_json: bool,
    address: str | None,
) -> None:
    """Watch a running cluster: members, groups, masters, rates, lag, disk, and what is wrong.

    On a terminal it is live, and `h` shows its keys; elsewhere pictures are printed, one a look.
    """
    with statuses():
        look = looking_at(cluster, address)
        pictures = 1 if once else count
        options = TopOptions(
            sort=sort, filter=text, is_unhealthy_only=only == UNHEALTHY, group=group
        )
        if as_json:
            _print_documents(look, options, interval_s, pictures)
        elif once or not (sys.stdin.isatty() and sys.stdout.isatty()):
            _print_pictures(look, options, interval_s, pictures)
        else:
            _show_live(look, options, interval_s, pictures)


def looking_at(cluster: str, address: str | None) -> Looking:
    """What looks at a running cluster, each time it is called.

    Raises:
        ClusterNotFoundError: No cluster of that name runs.
        ClusterError: There is no Ray cluster, or the cluster does not answer.
    """
    from ray_paxos.actors.watching import Watching

    return Watching(open_to_watch(cluster, address)).look


# Without a terminal.


def _print_documents(
    look: Looking, options: TopOptions, interval_s: float, count: int | None
) -> None:
    """Print one document a look, after the first look, likewise."""
    shown_view(look(), options)
    made = 0
    while count is None or made < count:
        time.sleep(interval_s)
        click.echo(json.dumps(shown_view(look(), options).to_dict()))
        made += 1


def _print_pictures(
    look: Looking, options: TopOptions, interval_s: float, count: int | None
) -> None:
    """Print one picture a look; the first look is only what the second one is compared with."""
    first = look()
    if options.group is not None:
        group_of(first, options.group)
    made = 0
    while count is None or made < count:
        time.sleep(interval_s)
        if made:
            click.echo()
        click.echo(picture(look(), options), nl=False, color=True)
        made += 1


def picture(view: ClusterView, options: TopOptions) -> str:
    """One picture as text: plain where standard output is no terminal, and as long as it gets."""
    console = new_console()
    options = replace(options, is_ascii=_is_ascii(console))
    with console.capture() as capture:
        console.print(_shown(view, options, console, console.width))
    return "".join(f"{line.rstrip()}\n" for line in capture.get().splitlines())


def new_console() -> Console:
    """Of standard output; without a terminal of a width that holds everything, or $COLUMNS."""
    from rich.console import Console

    if sys.stdout.isatty():
        return Console(file=sys.stdout, highlight=False)
    width = shutil.get_terminal_size((PLAIN_WIDTH, 24)).columns
    return Console(
        file=sys.stdout, highlight=False, force_terminal=False, no_color=True, width=width
    )


def _is_ascii(console: Console) -> bool:
    return not console.encoding.startswith("utf")


def _shown(
    view: ClusterView, options: TopOptions, console: Console, width: int, height: int | None = None
) -> RenderableType:
    """What is drawn, with "?" for each character that the output's encoding does not have."""
    from ray_paxos.cli.encodable import Encodable
    from ray_paxos.cli.top_view import frame

    return Encodable(frame(view, options, width=width, height=height), console.encoding)


# On a terminal.


def _show_live(look: Looking, options: TopOptions, interval_s: float, count: int | None) -> None:
    from rich.live import Live

    from ray_paxos.cli.keys import Keys
    from ray_paxos.cli.top_controls import Left, press

    console = new_console()
    options = replace(options, has_keys=True, is_ascii=_is_ascii(console))
    view = look()
    if options.group is not None:
        group_of(view, options.group)

    def draw() -> None:
        nonlocal options
        if options.group not in (None, *(group.group for group in view.groups)):
            # It was dropped meanwhile.
            options = replace(options, group=None)
        size = console.size
        live.update(_shown(view, options, console, size.width, size.height), refresh=True)

    def write(sequence: bytes) -> None:
        # A signal's handler may have broken into the console's own writing.
        if console.is_alt_screen:
            with contextlib.suppress(OSError):
                os.write(sys.stdout.fileno(), sequence)

    made = 1
    with (
        Keys(
            sys.stdin.fileno(),
            on_stop=lambda: write(USUAL_SCREEN),
            on_continue=lambda: write(OTHER_SCREEN),
        ) as keys,
        Live(console=console, screen=True, auto_refresh=False, transient=True) as live,
    ):
        try:
            while True:
                draw()
                if count is not None and made >= count:
                    return
                end = time.monotonic() + interval_s
                while (left_s := end - time.monotonic()) > 0:
                    for key in keys.pressed(left_s):
                        options = press(key, options, view)
                    draw()
                view = look()
                made += 1
        except (Left, KeyboardInterrupt, EOFError):
            return
