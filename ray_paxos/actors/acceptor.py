"""The acceptor actor, with `roles: separate`; see `acceptor_shell`."""

from __future__ import annotations

from typing import ClassVar

import ray

from ray_paxos.actors.acceptor_shell import AcceptorShell
from ray_paxos.actors.role import GROUPS, READS, RoleActor


class AcceptorActor(RoleActor[AcceptorShell]):
    """Votes for one member, in all its groups."""

    shell_class = AcceptorShell
    concurrency_groups: ClassVar[dict[str, int]] = {**GROUPS, READS: 2}

    @ray.method(concurrency_group=READS)
    def read(self, batch: bytes) -> bytes:
        """Answer a client's quorum reads, as `AcceptorShell.read`."""
        return self._shell.read(batch)
