"""Checks a history: `python -m ray_paxos.testing.check FILE --model cas-register`.

Prints `linearizable: true`, `false` or `unknown`. Where it is false, prints the shortest prefix of
the history that no order explains: how long it is, its last event, what the state could be before
that, and the last operations of the key concerned; `--json FILE` writes all of them. Exit status: 0
for true, 1 for false, 2 for unknown (a limit was reached), 3 for wrong arguments and unreadable
files, with a message on stderr.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from ray_paxos.testing.history import History, HistoryFormatError
from ray_paxos.testing.history_formats.reading import read_histories
from ray_paxos.testing.linearizability.budget import CONFIGURATIONS_MAX, Budget
from ray_paxos.testing.linearizability.history_check import check_history
from ray_paxos.testing.linearizability.model import UnsupportedOperationError
from ray_paxos.testing.linearizability.models import MODELS
from ray_paxos.testing.linearizability.report import report_document, report_lines
from ray_paxos.testing.linearizability.search import Verdict

TIME_LIMIT_S = 60.0
EXIT_STATUS = {Verdict.TRUE: 0, Verdict.FALSE: 1, Verdict.UNKNOWN: 2}
EXIT_BAD_INPUT = 3

_SECOND_NS = 1_000_000_000
_EPILOG = """\
FILE is our own JSON lines (see ray_paxos.testing.history_formats.jsonl), a Jepsen log, or Jepsen's
operations as EDN maps. Several files, of our own form and with times of one clock, are merged.

exit status: 0 linearizable, 1 not, 2 unknown (a limit was reached), 3 wrong arguments or input
"""


class _Parser(argparse.ArgumentParser):
    """argparse exits with 2 on wrong arguments, which here means unknown."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(EXIT_BAD_INPUT, f"{self.prog}: error: {message}\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m ray_paxos.testing.check",
        description="Check whether a history is linearizable.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    models = "; ".join(f"{name}: {model.about}" for name, model in MODELS.items())
    parser.add_argument("files", metavar="FILE", nargs="+", type=Path, help="the history")
    parser.add_argument(
        "--model", required=True, choices=MODELS, help=f"what the objects promise ({models})"
    )
    parser.add_argument(
        "--time-limit",
        metavar="S",
        type=_parse_seconds,
        default=TIME_LIMIT_S,
        help=f"seconds until the verdict is unknown ({TIME_LIMIT_S:g})",
    )
    parser.add_argument(
        "--configurations-max",
        metavar="N",
        type=_parse_count,
        default=CONFIGURATIONS_MAX,
        help="configurations, of 300 bytes each, that the search of one key may hold "
        f"({CONFIGURATIONS_MAX})",
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="write what was found to FILE")
    return parser


def _parse_seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no time: give seconds, 0 or more")
    return seconds


def _parse_count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number: give 1 or more")
    return int(text)


def main(
    arguments: Sequence[str] | None = None,
    # A command lives in the real world: here the clock comes in.
    clock_ns: Callable[[], int] = time.perf_counter_ns,
) -> int:
    """Run the command line; returns the exit status.

    Args:
        arguments: Of the command; None for those of the process.
        clock_ns: A monotonic clock, in nanoseconds.

    Raises:
        SystemExit: With status 3 on wrong arguments.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.json is not None and not options.json.absolute().parent.is_dir():
        parser.error(f"argument --json: {options.json}: its folder does not exist")
    budget_ns = int(options.time_limit * _SECOND_NS)
    started_ns = clock_ns()
    try:
        history = read_histories(options.files)
        budget = Budget(clock_ns, budget_ns, options.configurations_max)
        result = check_history(history, MODELS[options.model], budget)
    except UnsupportedOperationError as error:
        return _refuse(_with_place(error, options.files, history))
    except HistoryFormatError as error:
        return _refuse(str(error))
    _print("".join(f"{line}\n" for line in report_lines(result, history)))
    if options.json is not None:
        seconds = (clock_ns() - started_ns) / _SECOND_NS
        document = {
            "files": list(map(str, options.files)),
            **report_document(result, history),
            "seconds": round(seconds, 6),
            "time_limit_s": options.time_limit,
        }
        try:
            options.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            return _refuse(f"--json {options.json}: cannot be written: {error.strerror}")
    return EXIT_STATUS[result.verdict]


def _print(text: str) -> None:
    """Write to stdout; a reader that has gone, such as `head -1`, does not change the status."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        # What is still buffered goes nowhere, or the interpreter would fail on it when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _with_place(error: UnsupportedOperationError, files: Sequence[Path], history: History) -> str:
    """The error with the file and the line that it is about."""
    operation = error.operation
    # A wrong argument is wrong from the invocation on, a wrong result only in the response.
    positions = [operation.invoked_at, operation.responded_at]
    lines = [str(history.lines[p]) for p in positions if p is not None and history.lines]
    where = f"{files[0]}, line {' or '.join(lines)}" if lines else ", ".join(map(str, files))
    return f"{where}: {error}"


def _refuse(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return EXIT_BAD_INPUT


if __name__ == "__main__":
    sys.exit(main())
