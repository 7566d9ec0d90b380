"""The checkpointer's shell, with the archiver beside it.

Nobody waits for a checkpointer, so its threads go behind all others of the machine. With a member
that comes back under some 40,000 commands/s on two cores the load's p50 was 28 to 47 ms at
niceness 5, and 15 to 29 at 19; with journals that overwrite zeros 11 to 18 at 19, and 13 at 10,
which starves a checkpointer less on a busy machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ray_paxos.actors.archiving import ArchiverThread
from ray_paxos.actors.errands import Delivery, Errand
from ray_paxos.actors.log_shell import LogShell
from ray_paxos.actors.shell import Arrival, member_folder
from ray_paxos.actors.spec import ClusterSpec, decode_spec
from ray_paxos.core.checkpointer import Checkpointer
from ray_paxos.core.genesis import Genesis
from ray_paxos.core.messages import RoleName
from ray_paxos.core.role import GroupRouter
from ray_paxos.machines.registry import MachineRegistry
from ray_paxos.storage.archive_address import parse_address
from ray_paxos.storage.archive_opening import open_archive
from ray_paxos.storage.archiver import Archiver
from ray_paxos.storage.disk import LocalDisk
from ray_paxos.storage.identity import read_identity
from ray_paxos.storage.member_files import FileFormats
from ray_paxos.storage.opening import OpenedRole, open_checkpointer


class CheckpointerShell(LogShell):
    """Makes checkpoints, merges, scrubs, archives and serves others, for one member."""

    role = RoleName.CHECKPOINTER
    niceness = 10
    _archiver: ArchiverThread | None = None

    def close(self) -> None:
        """Stop cleanly; what is not archived by now is archived by the next life."""
        if self._archiver is not None:
            self._archiver.close()
        super().close()

    def _handle(
        self, opened: OpenedRole, brought: Sequence[Delivery | Arrival], errand: Errand
    ) -> None:
        super()._handle(opened, brought, errand)
        if self._archiver is not None:
            # Segments and checkpoints that are new are archived, too.
            self._archiver.look()

    def _started(self, opened: OpenedRole) -> None:
        super()._started(opened)
        if decode_spec(self._encoded_spec).archive is not None:
            self._archiver = ArchiverThread(self._make_archiver)

    def _make_archiver(self) -> Archiver:
        """In the archiver's thread: an archive in a bucket is asked for its region."""
        from ray_paxos.storage.parquet import ParquetCodec
        from ray_paxos.storage.parquet_tables import ParquetTables

        spec = decode_spec(self._encoded_spec)
        assert spec.archive is not None, "there is one"
        disk = LocalDisk(member_folder(spec, self._member))
        return Archiver(
            open_archive(parse_address(spec.archive)),
            disk,
            FileFormats(ParquetCodec(), ParquetTables()),
            read_identity(disk),
            checkpoints_kept=spec.checkpointer.checkpoints_kept,
        )

    def _open_folder(
        self, spec: ClusterSpec, genesis: Genesis, member_id: int, disk: LocalDisk
    ) -> OpenedRole:
        from ray_paxos.storage.parquet import ParquetCodec
        from ray_paxos.storage.parquet_tables import ParquetTables

        return open_checkpointer(
            disk,
            genesis,
            member_id,
            settings=spec.checkpointer,
            codec=ParquetCodec(),
            tables=ParquetTables(),
            registry=MachineRegistry(),
            now_ns=self._clock(),
            introduce=self._switchboard.introduce,
        )

    def _describe_groups(self, opened: OpenedRole) -> dict[int, dict[str, Any]]:
        assert isinstance(opened.role, GroupRouter)
        described: dict[int, dict[str, Any]] = {}
        for group, checkpointer in opened.role.roles.items():
            assert isinstance(checkpointer, Checkpointer)
            described[group] = {
                "checkpoints": list(checkpointer.schedule.instances),
                "sealed_through": checkpointer.sealed_through,
                "scrubbed_files": checkpointer.scrubbing.files,
                "damaged_files": checkpointer.scrubbing.found,
                "received_bytes": checkpointer.fetch.received_bytes,
                "alarms": list(checkpointer.alarms),
            }
            if self._archiver is not None:
                described[group]["archive"] = self._archiver.describe(group)
                described[group]["alarms"] += self._archiver.alarms(group)
        return described
