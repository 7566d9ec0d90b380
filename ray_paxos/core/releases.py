"""Which releases run one cluster side by side: the cluster version.

A cluster has one version, a number that group 0 holds (`core.wanted`) and that only rises. It says
in which forms its members speak, write and apply.

Rules:

1. A release knows the cluster versions from `oldest` to `newest`. It reads what any of them brought
   in, and makes only what the version that it goes by allows: messages, log entries, files, and
   versions of state machines.
2. The version is raised by an operator, once all members have said that they know the next one.
   Until then members of both releases run side by side, and each may go back to the one before.
3. Members tell each other: every batch of messages names the version that it was made under
   (`core.wire`), and whoever receives a later one goes by it, too. One that does not know it
   refuses the batch by name.
4. A member keeps what it has heard on its disk, and a release that does not know it does not open
   the folder. Whoever has not heard yet goes by an older one, which all others know.
5. Clients, whose releases nobody counts, are answered in the version in which they ask, and ask in
   the oldest that their release knows.
"""

from __future__ import annotations

from dataclasses import dataclass

from ray_paxos.errors import ReleaseError


@dataclass(frozen=True, slots=True)
class Release:
    """What one release of this package knows.

    Attributes:
        oldest: The first cluster version that it knows.
        newest: The last one.
    """

    oldest: int
    newest: int

    def __str__(self) -> str:
        """For a person."""
        if self.oldest == self.newest:
            return f"cluster version {self.oldest}"
        return f"cluster versions {self.oldest} to {self.newest}"

    def knows(self, version: int) -> bool:
        """Whether a process of this release can take part under a cluster version."""
        return self.oldest <= version <= self.newest

    def check(self, version: int, what: str) -> None:
        """Make sure that it knows a cluster version.

        Args:
            version: Of the cluster.
            what: What goes by it, for the message.

        Raises:
            ReleaseError: It does not.
        """
        if not self.knows(version):
            raise ReleaseError(
                f"{what}: cluster version {version}; this release knows {self}. Use the release "
                "that the cluster's members run"
            )


OLDEST = 1
NEWEST = 1
THIS_RELEASE = Release(OLDEST, NEWEST)
