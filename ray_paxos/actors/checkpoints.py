"""Having all members of a running cluster make a checkpoint of a group, and waiting for it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial

from ray_paxos.actors.administration import ANSWER_TIMEOUT_S, Administration, ask_all, messages_in
from ray_paxos.core.checkpoint_messages import CheckpointDue, TakeCheckpoint
from ray_paxos.core.messages import RoleName
from ray_paxos.errors import CheckpointError, ClusterError

PAUSE_S = 0.02
PAUSE_MAX_S = 0.2


def take_checkpoints(administration: Administration, group: int, deadline: float) -> dict[str, int]:
    """Have every member that answers make a checkpoint of what it has learned by now.

    Args:
        administration: Of the cluster.
        group: Which group.
        deadline: Until when to wait, by `time.monotonic`.

    Returns:
        By member, the instance of its newest checkpoint; 0 where nothing was ever chosen. A member
        whose learner does not serve the group is left out.

    Raises:
        CheckpointError: A member could not make it; says which, and why.
        ClusterError: No learner answers, or a member was not done in time; says which.
    """
    administration.flush((group,), deadline)
    targets: dict[str, int] = {}
    for member in administration.statuses():
        groups = member.roles["learner"].groups
        if groups is not None and group in groups:
            targets[member.name] = groups[group]["durable_through"]
    if not targets:
        raise ClusterError(f"no learner answers for group {group}")
    made: dict[str, int] = {}
    late: dict[str, str] = {}
    pause_s = PAUSE_S
    while True:
        waiting = {name: through for name, through in targets.items() if name not in made}
        late = {name: "its checkpointer does not answer" for name in waiting}
        failed = False
        for name, due in _ask(administration, group, waiting, deadline).items():
            if due.newest >= targets[name]:
                made[name] = due.newest
                del late[name]
            else:
                failed = failed or bool(due.problem)
                late[name] = due.problem or "not done yet"
        if not late:
            return {name: made[name] for name in targets}
        if time.monotonic() > deadline:
            what = "; ".join(f"{name}: {why}" for name, why in late.items())
            kind = CheckpointError if failed else ClusterError
            raise kind(f"no checkpoint of group {group} in time: {what}")
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, PAUSE_MAX_S)


def _ask(
    administration: Administration, group: int, targets: Mapping[str, int], deadline: float
) -> dict[str, CheckpointDue]:
    """What the checkpointers of these members say, of those that answer."""
    calls = {
        name: partial(
            administration.send, name, RoleName.CHECKPOINTER, group, TakeCheckpoint(through)
        )
        for name, through in targets.items()
    }
    timeout_s = min(ANSWER_TIMEOUT_S, max(deadline - time.monotonic(), PAUSE_MAX_S))
    dues: dict[str, CheckpointDue] = {}
    for name, answer in ask_all(calls, timeout_s).items():
        for message in messages_in(answer):
            if isinstance(message, CheckpointDue):
                dues[name] = message
    return dues
