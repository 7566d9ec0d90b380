"""What `submit_commands.py` tells at its end: a JSON document, and the same for a person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from job_console import JobConsole
from submission import Submitted


class MemberDigest(Protocol):
    """How far a member has applied, and a hash over its state there."""

    @property
    def applied_instance_id(self) -> int:
        """The last instance it applied."""

    @property
    def digest(self) -> str:
        """Hexadecimal."""


@dataclass
class SubmissionReport:
    """Everything that is told.

    Attributes:
        cluster: Its name.
        log_dir: The chosen log of the first member that answers, on its node; None if none does.
        outcome: Of the commands.
        members: All members of the cluster; None for one that did not answer in time.
        skipped_lines: Bad lines passed over; None where none may be.
        errors: What went wrong, for a person, in the order in which it did.
        alarms: What the cluster's status tells a person, the gravest first.
    """

    cluster: str
    log_dir: str | None
    outcome: Submitted
    members: Mapping[str, MemberDigest | None]
    skipped_lines: int | None
    errors: list[str]
    alarms: Sequence[str] = ()

    @property
    def digests_equal(self) -> bool:
        """Whether every member answered, and all with the same state at the same instance."""
        seen = {
            (member.applied_instance_id, member.digest) if member else None
            for member in self.members.values()
        }
        return len(seen) == 1 and None not in seen

    @property
    def commands_per_s(self) -> float:
        """Acknowledged commands by time of the submission; 0 where it took none."""
        elapsed_s = self.outcome.elapsed_s
        return self.outcome.acknowledged / elapsed_s if elapsed_s > 0 else 0.0

    def document(self) -> dict[str, Any]:
        """The JSON document; `skipped_lines`, `errors` and `alarms` only where they apply."""
        document: dict[str, Any] = {
            "submitted": self.outcome.submitted,
            "acknowledged": self.outcome.acknowledged,
            "failed": self.outcome.failed,
            "elapsed_s": round(self.outcome.elapsed_s, 6),
            "commands_per_s": round(self.commands_per_s, 1),
            "cluster": self.cluster,
            "members": {
                name: {
                    "applied_instance_id": member.applied_instance_id if member else None,
                    "state_digest": member.digest if member else None,
                }
                for name, member in self.members.items()
            },
            "digests_equal": self.digests_equal,
            "log_dir": self.log_dir,
        }
        if self.skipped_lines is not None:
            document["skipped_lines"] = self.skipped_lines
        if self.errors:
            document["errors"] = self.errors
        if self.alarms:
            document["alarms"] = list(self.alarms)
        return document

    def tell(self, console: JobConsole) -> None:
        """Say it all on the console."""
        outcome = self.outcome
        console.say(
            f"{outcome.submitted:,} commands submitted, {outcome.acknowledged:,} acknowledged, "
            f"{outcome.failed:,} failed in {outcome.elapsed_s:.2f} s "
            f"({self.commands_per_s:,.0f} commands/s)"
        )
        if self.skipped_lines:
            console.warn(f"{self.skipped_lines:,} bad lines were passed over")
        width = max((len(name) for name in self.members), default=0)
        for name, member in self.members.items():
            if member is None:
                console.say(f"  {name:<{width}}  no answer")
            else:
                console.say(
                    f"  {name:<{width}}  applied through instance "
                    f"{member.applied_instance_id:,}, state {member.digest}"
                )
        if self.digests_equal:
            console.say("all members hold the same state")
        else:
            console.error("not all members are known to hold the same state")
        if self.log_dir is not None:
            console.say(f"chosen log (Parquet): {self.log_dir}")
        for alarm in self.alarms:
            console.warn(alarm)
        for error in self.errors:
            console.error(error)
