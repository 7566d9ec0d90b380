"""Tables for people: drawn by rich on a terminal, and plain elsewhere.

Where standard output is no terminal there are no colours, no lines of a box and no wrapping, so
that `grep` and `awk` find what they look for. On a terminal $NO_COLOR is respected.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence

import click

WIDTH_MAX = 100_000


def is_terminal() -> bool:
    """Whether a person sees standard output as it is written."""
    return bool(sys.stdout and sys.stdout.isatty())


def show_rows(
    columns: Sequence[str], rows: Iterable[Sequence[object]], lines: Iterable[str]
) -> None:
    """Show rows as a table on a terminal, and as lines elsewhere.

    Args:
        columns: Their titles.
        rows: A cell for each column.
        lines: The same for programs, which may have come to rely on their form.
    """
    if is_terminal():
        show_table(columns, rows)
        return
    for line in lines:
        click.echo(line)


def show_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    styles: Mapping[str, str] | None = None,
) -> None:
    """Show rows as a table; elsewhere than on a terminal a plain one, of any width.

    Args:
        columns: Their titles.
        rows: A cell for each column.
        styles: The style of a cell, by its text.
    """
    # rich takes a while to import, which only those who look need to wait for.
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if is_terminal():
        console, border = Console(file=sys.stdout, highlight=False), box.SIMPLE
    else:
        console = Console(
            file=sys.stdout, highlight=False, force_terminal=False, no_color=True, width=WIDTH_MAX
        )
        border = None
    table = Table(*columns, box=border, pad_edge=False, show_edge=False)
    for row in rows:
        table.add_row(*(Text(str(cell), (styles or {}).get(str(cell), "")) for cell in row))
    with console.capture() as capture:
        console.print(table)
    click.echo("\n".join(line.rstrip() for line in capture.get().splitlines()), color=True)
