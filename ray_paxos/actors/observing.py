"""Measures a member's disk, and gives what its roles have counted to Ray's metrics, now and then.

Rules:

1. One thread a process, which ends once all of its roles are closed.
2. It tells of those roles that observe, as configured or as they were switched. While none of them
   does it looks at no disk, exports nothing, and waits for an event: then it costs nothing. When
   the last one stops, what was exported is ended at once.
3. Of the time from one export to the next only what passes while something is observed counts. So
   who switches often has as many exports in the time that is observed as who never does. Nor has
   he more looks at the disk: what was measured a moment ago is told again.
4. It is no nicer than others: describing groups takes a role's turn, for some 4 us a group, and who
   waits for the turn must not wait for a thread that the scheduler puts last.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from ray_paxos.actors.metrics_export import MetricsExport
from ray_paxos.actors.shell import Shell, member_folder
from ray_paxos.actors.spec import ClusterSpec, decode_spec
from ray_paxos.errors import WireFormatError
from ray_paxos.observability import catalogue
from ray_paxos.observability.samples import Sample, samples_of
from ray_paxos.observability.settings import ObservingSettings

DISK_INTERVAL_S = 30.0
"""From one look at the disk to the next: a member of 100 groups has some thousand files."""

NO_EVENTS = 1 << 62
"""Above the number of any event."""

_logger = logging.getLogger(__name__)


class Observing:
    """The thread of one process."""

    def __init__(self, encoded_spec: bytes, member: str, shells: Sequence[Shell]) -> None:
        """Do nothing yet.

        Args:
            encoded_spec: The cluster's.
            member: Whose roles these are.
            shells: Of the roles of this process.
        """
        self._encoded_spec = encoded_spec
        self._member = member
        self._shells = tuple(shells)
        self._changed = threading.Event()
        """A role was switched, or closed."""
        self._disk: dict[Shell, tuple[int, int] | None] = {}
        """Bytes of a role's files and free ones beside them; None where nothing could be read."""
        self._disk_s = 0.0
        self._has_mistake = False

    def begin(self) -> None:
        """Start the thread; it ends with the process, or with the roles."""
        for shell in self._shells:
            shell.tell_changes(self._changed.set)
        threading.Thread(target=self._run, name="ray_paxos-observing", daemon=True).start()

    def _run(self) -> None:
        try:
            spec = decode_spec(self._encoded_spec)
        except WireFormatError as error:
            # No role opens either, and each says so.
            _logger.debug("nothing is observed: %s", error)
            return
        settings = spec.observing
        export = MetricsExport(spec.decoded_genesis().cluster, self._member, settings)
        has_exported, left_s = False, settings.export_interval_s
        while True:
            # Before anything is looked at: what changes from here on ends the wait.
            self._changed.clear()
            if all(shell.is_closed for shell in self._shells):
                break
            observed = [each for each in self._shells if _observes(each, settings)]
            if not observed:
                if has_exported:
                    export.export([])
                has_exported = False
                self._changed.wait()
                continue
            began_s = time.monotonic()
            is_changed = self._changed.wait(left_s)
            left_s = max(left_s - (time.monotonic() - began_s), 0.0)
            if is_changed:
                continue
            left_s = settings.export_interval_s
            with self._mistakes_told():
                self._tell_disk(spec, observed)
            with self._mistakes_told():
                if settings.exports_metrics:
                    export.export(self._samples(settings, observed))
            has_exported = True
        # At once, where gauges that nobody sets any more would stand for another while.
        export.export([])

    def _samples(self, settings: ObservingSettings, observed: Sequence[Shell]) -> list[Sample]:
        samples: list[Sample] = []
        for shell in observed:
            with self._mistakes_told():
                state, report = shell.told(events_after=NO_EVENTS)
                samples += samples_of(state, report, settings)
        return samples

    @contextlib.contextmanager
    def _mistakes_told(self) -> Iterator[None]:
        """A mistake of ours, or of what exports, ends here: the rest may do without it."""
        try:
            yield
        except Exception:
            if not self._has_mistake:
                _logger.exception("%s: a mistake in observing, which is a bug", self._member)
            self._has_mistake = True

    def _tell_disk(self, spec: ClusterSpec, observed: Sequence[Shell]) -> None:
        """Have the roles tell of it; an observer that was off has forgotten what it was told."""
        now_s = time.monotonic()
        if now_s >= self._disk_s + DISK_INTERVAL_S or not self._disk.keys() >= set(observed):
            self._disk_s = now_s
            self._look_at_disk(spec, observed)
        for shell in observed:
            measured = self._disk[shell]
            if measured is not None:
                used, free = measured
                shell.set_gauge(catalogue.DISK_BYTES, used, shell.role.name.lower())
                shell.set_gauge(catalogue.DISK_FREE_BYTES, free)

    def _look_at_disk(self, spec: ClusterSpec, observed: Sequence[Shell]) -> None:
        folder = member_folder(spec, self._member)
        for shell in observed:
            self._disk[shell] = None
            try:
                free = os.statvfs(folder)
                used = bytes_below(folder / shell.role.name.lower())
            except OSError as error:
                # There is no folder yet, or no more; the role itself says what is wrong with it.
                _logger.debug("%s: %s", folder, error)
                continue
            self._disk[shell] = used, free.f_bavail * free.f_frsize


def _observes(shell: Shell, settings: ObservingSettings) -> bool:
    switched = shell.switched
    return settings.is_on if switched is None else switched


def bytes_below(folder: Path) -> int:
    """Bytes of all files in a folder and below it; what vanishes meanwhile counts nothing.

    Raises:
        OSError: The folder itself cannot be read.
    """
    total = 0
    waiting = [os.fspath(folder)]
    is_first = True
    while waiting:
        path = waiting.pop()
        try:
            entries = list(os.scandir(path))
        except FileNotFoundError:
            if is_first:
                raise
            continue
        is_first = False
        for entry in entries:
            try:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                else:
                    total += entry.stat(follow_symlinks=False).st_size
            except FileNotFoundError:
                continue
    return total
