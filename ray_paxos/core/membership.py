"""What a membership entry makes of a configuration; pure, and the same at every member.

```
            ADD                    PROMOTE
 no member ─────▶ follower ──────────────────▶ voter
     ▲               │  ▲         DEMOTE         │
     └───────────────┘  └────────────────────────┤
          REMOVE                  REMOVE         │
     ▲───────────────────────────────────────────┘
```

One member changes at a time, so that majorities of two consecutive configurations always meet: a
value, a promise or a lease that a majority of the one gave is known in any majority of the other
(Ongaro's thesis, section 4.2.1). The entry at instance i rules from i + 1 on.

Every step gives the member a replica_id of its own: what an earlier replica at that member has
promised, granted or reported counts for nothing of the new one's.
"""

from __future__ import annotations

from collections.abc import Iterable

from ray_paxos.core.genesis import Configuration, MemberSpec, Voter
from ray_paxos.core.values import MembershipEntry, MembershipKind


def change_refused(configuration: Configuration, entry: MembershipEntry) -> str:
    """Why an entry does nothing under this configuration; empty where it changes it."""
    member_id = entry.member_id
    is_voter = configuration.voter(member_id) is not None
    is_follower = configuration.follower(member_id) is not None
    if entry.expected_config_id != configuration.config_id:
        return (
            f"the configuration to be changed is {entry.expected_config_id}, the group is at "
            f"{configuration.config_id}"
        )
    match entry.kind:
        case MembershipKind.ADD if is_voter or is_follower:
            return f"member {member_id} has the group already"
        case MembershipKind.PROMOTE if is_voter:
            return f"member {member_id} votes already"
        case MembershipKind.PROMOTE if not is_follower:
            return f"member {member_id} has not the group"
        case MembershipKind.DEMOTE if not is_voter:
            return f"member {member_id} does not vote"
        case MembershipKind.REMOVE if not (is_voter or is_follower):
            return f"member {member_id} has not the group"
        case MembershipKind.DEMOTE | MembershipKind.REMOVE if (
            is_voter and len(configuration.voters) == 1
        ):
            return f"member {member_id} is the last voter"
    return ""


def changed(
    configuration: Configuration, entry: MembershipEntry, instance_id: int
) -> Configuration:
    """The configuration after an entry.

    Args:
        configuration: Before it.
        entry: What the instance chose.
        instance_id: Which instance; above the configuration's own.

    Returns:
        Another one, of that instance; or `configuration` itself where `change_refused` says why.
    """
    if change_refused(configuration, entry):
        return configuration
    voters, followers = list(configuration.voters), list(configuration.followers)
    replica_id, member_id = configuration.next_replica_id, entry.member_id
    for among in (voters, followers):
        among[:] = [each for each in among if each.member_id != member_id]
    if entry.kind is MembershipKind.PROMOTE:
        voters.append(Voter(member_id, replica_id))
    elif entry.kind is not MembershipKind.REMOVE:
        followers.append(Voter(member_id, replica_id))
    return Configuration(
        instance_id,
        _sorted(voters),
        _sorted(followers),
        replica_id,
        _joined(configuration.joined, entry),
    )


def _joined(before: tuple[MemberSpec, ...], entry: MembershipEntry) -> tuple[MemberSpec, ...]:
    """Names of members outside the genesis, after an entry that changes the configuration."""
    joined = {each.member_id: each for each in before}
    if entry.kind is MembershipKind.ADD and entry.name:
        joined[entry.member_id] = MemberSpec(entry.name, entry.member_id)
    elif entry.kind is MembershipKind.REMOVE:
        joined.pop(entry.member_id, None)
    return tuple(joined[member_id] for member_id in sorted(joined))


def _sorted(among: Iterable[Voter]) -> tuple[Voter, ...]:
    return tuple(sorted(among))
