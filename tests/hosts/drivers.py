"""Drivers on hosts, as tests see them: orders and their answers, series and their operations."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hosts import Hosts

PROGRAM = Path(__file__).with_name("driver_program.py")
ORDER_S = 200.0
NOTE_CHARACTERS = 3_000


class OrderError(Exception):
    """A driver could not do what it was told; says what ray_paxos said."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One write or read of a series.

    Attributes:
        start_ns: When it began, on the machine's monotonic clock.
        end_ns: When its outcome was known.
        value: What was written or read; None where it failed.
        error: Why.
    """

    start_ns: int
    end_ns: int
    value: int | None = None
    error: str = ""


@dataclass
class Series:
    """What a series has told so far; changed under its driver's condition only.

    Attributes:
        operations: In order.
        begun: Of writes: the values, by when they began.
    """

    operations: list[Operation] = field(default_factory=list)
    begun: list[tuple[int, int]] = field(default_factory=list)


class RunningSeries:
    """A series of operations on a host, which goes on until it is ended."""

    def __init__(self, driver: HostDriver, number: int, what: str) -> None:
        """Watch a series that its driver was told to begin."""
        self.host = driver.host
        self._driver = driver
        self._number = number
        self._what = what

    def __repr__(self) -> str:
        return f"{self._what} on {self.host}"

    @property
    def told(self) -> Series:
        """A copy of what is known."""
        return self._driver.series(self._number)

    @property
    def operations(self) -> list[Operation]:
        """Those that are over, in order."""
        return self.told.operations

    def wait_for(
        self, condition: Callable[[list[Operation]], bool], timeout_s: float, what: str
    ) -> None:
        """Wait until its operations fulfil a condition."""
        self._driver.wait(lambda: condition(self.told.operations), timeout_s, f"{self}: {what}")

    def wait_for_success(self, after_ns: int, timeout_s: float, count: int = 1) -> Operation:
        """Wait until so many operations that began after a moment have succeeded; the first."""

        def successes(operations: list[Operation]) -> list[Operation]:
            return [o for o in operations if o.start_ns >= after_ns and o.value is not None]

        what = f"{count} more to succeed"
        self.wait_for(lambda operations: len(successes(operations)) >= count, timeout_s, what)
        return successes(self.operations)[0]

    def wait_for_outcomes(self, after_ns: int, timeout_s: float, count: int) -> None:
        """Wait until so many operations that began after a moment are over, well or badly."""

        def are_over(operations: list[Operation]) -> bool:
            return sum(o.start_ns >= after_ns for o in operations) >= count

        self.wait_for(are_over, timeout_s, f"{count} more to be over")

    def end(self) -> None:
        """Let it end, if it has not ended with its driver; what it told stays."""
        if self._driver.is_running:
            self._driver.order("end", series=self._number)


class HostDriver:
    """A driver on a host, attached to that host's Ray node."""

    def __init__(self, hosts: Hosts, host: str) -> None:
        """Start it, and wait until it is connected."""
        self.host = host
        self._numbers = itertools.count(1)
        self._changed = threading.Condition()
        self._answers: dict[int, dict[str, Any]] = {}
        self._series: dict[int, Series] = {}
        self._is_over = False
        self._notes = hosts.folder(host) / f"driver-{time.monotonic_ns()}.txt"
        with self._notes.open("w") as notes:
            self._process = hosts.start_program(
                host,
                *(sys.executable, str(PROGRAM)),
                *(hosts.gcs_address, hosts.network.address(host)),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=notes,
            )
        self._reader = threading.Thread(target=self._take_lines, daemon=True)
        self._reader.start()
        self._answer_to(0, ORDER_S, "connect")

    @property
    def is_running(self) -> bool:
        """Whether it can be told anything."""
        return not self._is_over

    # Orders.

    def order(self, do: str, *, timeout_s: float = ORDER_S, **fields: Any) -> Any:
        """Have something done, and wait for what comes of it.

        Raises:
            OrderError: ray_paxos refused, or failed.
        """
        return self._answer_to(self._tell(do, fields), timeout_s, do)

    def write(self, cluster: str, key: str, *, timeout_s: float = 60.0) -> RunningSeries:
        """Begin to write 1, 2, ... to a key."""
        return self._begin("write", cluster=cluster, key=key, timeout_s=timeout_s)

    def read(
        self, cluster: str, key: str, consistency: str, *, timeout_s: float = 1.0
    ) -> RunningSeries:
        """Begin to read a key."""
        return self._begin(
            "read", cluster=cluster, key=key, consistency=consistency, timeout_s=timeout_s
        )

    def _begin(self, do: str, **fields: Any) -> RunningSeries:
        number = next(self._numbers)
        with self._changed:
            self._series[number] = Series()
        self._tell(do, {**fields, "series": number})
        what = " ".join((fields.get("consistency", ""), do)).strip()
        running = RunningSeries(self, number, what)
        running.wait_for(lambda operations: bool(operations), ORDER_S, "to begin")
        return running

    def _tell(self, do: str, fields: dict[str, Any]) -> int:
        number = next(self._numbers)
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"order": number, "do": do, **fields}) + "\n")
        self._process.stdin.flush()
        return number

    def _answer_to(self, number: int, timeout_s: float, what: str) -> Any:
        self.wait(lambda: number in self._answers, timeout_s, what)
        with self._changed:
            answer = self._answers.pop(number)
        if "error" in answer:
            raise OrderError(f"{what} on {self.host}: {answer['error']}")
        return answer["result"]

    # What it tells.

    def series(self, number: int) -> Series:
        """A copy of what a series has told."""
        with self._changed:
            told = self._series[number]
            return Series(list(told.operations), list(told.begun))

    def wait(self, condition: Callable[[], bool], timeout_s: float, what: str) -> None:
        """Wait for something that it tells."""
        with self._changed:
            self._changed.wait_for(lambda: condition() or self._is_over, timeout_s)
            if not condition():
                why = "it has ended" if self._is_over else f"not within {timeout_s:g} s"
                raise AssertionError(f"the driver on {self.host}, {what}: {why}\n{self.notes}")

    @property
    def notes(self) -> str:
        """The end of what it wrote to standard error."""
        return self._notes.read_text(errors="replace")[-NOTE_CHARACTERS:]

    def _take_lines(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._changed:
                self._take(json.loads(line))
                self._changed.notify_all()
        with self._changed:
            self._is_over = True
            self._changed.notify_all()

    def _take(self, told: dict[str, Any]) -> None:
        if "order" in told:
            self._answers[told["order"]] = told
            return
        series = self._series[told["series"]]
        if "begun" in told:
            series.begun.append((told["start_ns"], told["begun"]))
        else:
            series.operations.append(
                Operation(
                    told["start_ns"], told["end_ns"], told.get("value"), told.get("error", "")
                )
            )

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        self._reader.join()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
