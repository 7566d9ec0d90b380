"""What a person should know of a running cluster, in sentences, the gravest first.

```
 rank  what                                                            who acts
 ────  ──────────────────────────────────────────────────────────────  ─────────────────────────
  0    a member that will never vote again: no folder, a damaged       replace the member
       journal
  1    a role or a group that stopped: it serves nothing               mend what the reason names
  2    results that differ, damage that is not repaired, a full disk   mostly mends itself
  3    a role that does not answer, or is not open yet                 mostly mends itself
  4    a log that is shorter than it was, checkpoints that do not      mends itself; look at it if
       come about, what lies set aside                                 it stays
  5    what was learned on one member's word                           nobody
```

All of it comes from what the roles say of themselves (`RoleStatus`); nothing is asked here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from ray_paxos.core.settings import CheckpointerSettings
from ray_paxos.errors import DamageError, ForeignFolderError
from ray_paxos.observability.status import MemberStatus, RoleStatus

LATE_CHECKPOINTS = 3
"""So many times what makes a checkpoint due may be sealed after the last one before it is told."""


class FolderTrouble(NamedTuple):
    """Why a member's roles find no folder.

    Attributes:
        is_gone: Whether there is none; otherwise it cannot be used.
        why: For a person.
    """

    is_gone: bool
    why: str


class Alarm(NamedTuple):
    """One sentence, and how grave it is: 0 is the gravest."""

    rank: int
    text: str


def replacing(member: str) -> str:
    """What to do about a member that never votes again."""
    return f"replace the member: `ray-paxos members replace {member}`"


def member_alarms(
    member: MemberStatus, settings: CheckpointerSettings, trouble: FolderTrouble | None = None
) -> tuple[Alarm, ...]:
    """What there is to know of one member, the gravest first.

    Args:
        member: What its roles say.
        settings: When a checkpoint is due.
        trouble: With its folder; None where there is none, or nobody has looked.
    """
    found = list(_folder_alarms(member, trouble))
    for name, role in member.roles.items():
        is_told = name == "acceptor" and any(alarm.rank == 0 for alarm in found)
        found += () if is_told or trouble is not None else _role_alarms(name, role)
    learners = member.roles["learner"].groups or {}
    votes = member.roles["acceptor"].groups or {}
    checkpoints = member.roles["checkpointer"].groups or {}
    for group in sorted({*learners, *votes, *checkpoints}):
        learner, checkpointer = learners.get(group, {}), checkpoints.get(group, {})
        alarms = (
            *_learner_alarms(learner),
            *_vote_alarms(votes.get(group, {}), learner),
            *_checkpointer_alarms(checkpointer, settings),
        )
        found += [Alarm(rank, f"group {group}: {text}") for rank, text in alarms]
    return tuple(sorted(set(found), key=lambda alarm: alarm.rank))


def cluster_alarms(
    members: Mapping[str, Iterable[Alarm]], leaderless: Iterable[int]
) -> tuple[str, ...]:
    """All of a cluster's, with the names of the members, the gravest first.

    Args:
        members: Alarms of each.
        leaderless: Groups that no member serves as the master.
    """
    found = [
        Alarm(rank, f"{name}: {text}") for name, alarms in members.items() for rank, text in alarms
    ]
    found += [Alarm(1, f"group {group} has no master") for group in leaderless]
    return tuple(alarm.text for alarm in sorted(found, key=lambda alarm: alarm.rank))


def _folder_alarms(member: MemberStatus, trouble: FolderTrouble | None) -> Iterator[Alarm]:
    """Whether it can vote at all."""
    acceptor = member.roles["acceptor"]
    if trouble is not None and trouble.is_gone:
        yield Alarm(
            0,
            f"{trouble.why}. With it went what this member has voted and promised, so it never "
            f"votes again under its old name. Bring back the very disk, or "
            f"{replacing(member.name)}",
        )
    elif trouble is not None:
        yield Alarm(
            0,
            f"it does not take part, since its folder cannot be used: {trouble.why}. If that "
            f"cannot be mended, {replacing(member.name)}",
        )
    elif acceptor.error == DamageError.__name__:
        yield Alarm(
            0,
            f"the acceptor does not vote, since what it has voted and promised is damaged: "
            f"{acceptor.reason}. {_sentence(replacing(member.name))}",
        )
    elif acceptor.error == ForeignFolderError.__name__:
        yield Alarm(
            0, f"the acceptor does not vote, in a folder that is not its: {acceptor.reason}"
        )


def _role_alarms(name: str, role: RoleStatus) -> Iterator[Alarm]:
    if role.phase == "stopped":
        yield Alarm(1, f"the {name} stopped: {role.reason}")
    elif role.phase == "gone":
        yield Alarm(3, f"the {name} does not answer: {role.reason}")
    elif role.phase == "opening":
        yield Alarm(3, f"the {name} is not open yet{f': {role.reason}' if role.reason else ''}")
    for group, reason in (role.stopped_groups or {}).items():
        yield Alarm(1, f"group {group}: stopped in the {name}: {reason}")


def _learner_alarms(learner: Mapping[str, Any]) -> Iterator[Alarm]:
    stopped = learner.get("stopped")
    if stopped:
        yield Alarm(1, f"applying stopped: {stopped}")
    if learner.get("storage_full"):
        yield Alarm(2, "its learner makes nothing more durable until its disk has room")
    for text in learner.get("alarms", ()):
        if text != stopped:
            yield Alarm(2, text)
    chunks = learner.get("overdue_chunks", 0)
    if chunks:
        parts = f"{chunks} parts of the log were" if chunks > 1 else "1 part of the log was"
        yield Alarm(5, f"{parts} learned on one member's word, which no second one has confirmed")


def _vote_alarms(votes: Mapping[str, Any], learner: Mapping[str, Any]) -> Iterator[Alarm]:
    if votes.get("storage_full"):
        yield Alarm(2, "its acceptor votes on nothing more until its disk has room")
    floor, durable = votes.get("floor", 0), learner.get("durable_through")
    if durable is not None and durable < floor - 1:
        yield Alarm(
            4,
            f"its log ends at instance {durable}, and its acceptor holds no votes below instance "
            f"{floor}: it has lost what lies between, and learns it again from other members",
        )


def _checkpointer_alarms(
    checkpointer: Mapping[str, Any], settings: CheckpointerSettings
) -> Iterator[Alarm]:
    for text in checkpointer.get("alarms", ()):
        yield Alarm(4, f"the checkpointer says: {text}")
    newest = max(checkpointer.get("checkpoints", ()), default=0)
    behind = checkpointer.get("sealed_through", 0) - newest
    if behind > LATE_CHECKPOINTS * settings.checkpoint_instances:
        yield Alarm(
            4,
            f"its newest checkpoint is {behind:,} instances old; its log grows until there is one",
        )
    found = checkpointer.get("damaged_files", 0)
    if found:
        yield Alarm(
            4,
            f"{found} damaged files were found on its disk since its checkpointer started; what "
            "is not repaired is listed by itself",
        )


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
