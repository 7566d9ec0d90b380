"""Measures a member's disk, and gives what its roles have counted to Ray's metrics, now and then.

One thread a process, behind all others: nobody waits for it. With observing off there is none.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Sequence
from pathlib import Path

from ray_paxos.actors.background import be_nicer
from ray_paxos.actors.metrics_export import MetricsExport
from ray_paxos.actors.shell import Shell, member_folder
from ray_paxos.actors.spec import ClusterSpec, decode_spec
from ray_paxos.errors import WireFormatError
from ray_paxos.observability import catalogue
from ray_paxos.observability.report import decode_report
from ray_paxos.observability.samples import Sample, samples_of
from ray_paxos.observability.settings import ObservingSettings

DISK_INTERVAL_S = 30.0
"""From one look at the disk to the next: a member of 100 groups has some thousand files."""
NICENESS = 10

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
        self._is_closing = threading.Event()

    def begin(self) -> None:
        """Start the thread; it ends with the process, or with `close`."""
        threading.Thread(target=self._run, name="ray_paxos-observing", daemon=True).start()

    def close(self) -> None:
        """End the thread, soon."""
        self._is_closing.set()

    def _run(self) -> None:
        be_nicer(NICENESS)
        try:
            spec = decode_spec(self._encoded_spec)
        except WireFormatError as error:
            # No role opens either, and each says so.
            _logger.debug("nothing is observed: %s", error)
            return
        settings = spec.observing
        if not settings.is_on:
            return
        cluster = spec.decoded_genesis().cluster
        export = MetricsExport(cluster, self._member, settings)
        rounds, has_failed = 0, False
        while not self._is_closing.wait(settings.export_interval_s):
            try:
                if rounds % max(1, round(DISK_INTERVAL_S / settings.export_interval_s)) == 0:
                    self._look_at_disk(spec)
                if settings.exports_metrics:
                    export.export(self._samples(settings))
            except Exception:
                # A mistake of ours, or of what exports: the next round may do without it.
                if not has_failed:
                    _logger.exception("%s: a mistake in observing, which is a bug", self._member)
                has_failed = True
            rounds += 1

    def _samples(self, settings: ObservingSettings) -> list[Sample]:
        samples: list[Sample] = []
        for shell in self._shells:
            state, report = shell.report()
            samples += samples_of(state, decode_report(report), settings)
        return samples

    def _look_at_disk(self, spec: ClusterSpec) -> None:
        folder = member_folder(spec, self._member)
        for shell in self._shells:
            role = shell.role.name.lower()
            try:
                free = os.statvfs(folder)
                used = bytes_below(folder / role)
            except OSError as error:
                # There is no folder yet, or no more; the role itself says what is wrong with it.
                _logger.debug("%s: %s", folder, error)
                continue
            shell.set_gauge(catalogue.DISK_BYTES, used, role)
            shell.set_gauge(catalogue.DISK_FREE_BYTES, free.f_bavail * free.f_frsize)


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
