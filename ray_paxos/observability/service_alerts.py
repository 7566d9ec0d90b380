"""Alerts about who serves: masters, members and their roles, and how far each member is."""

from __future__ import annotations

from ray_paxos.observability import catalogue
from ray_paxos.observability.alerting import (
    CRITICAL,
    WARNING,
    Alert,
    AlertLimits,
    aggregated,
    named,
)

# Masters.


def about_masters(limits: AlertLimits) -> tuple[Alert, ...]:
    """Whether groups have one, and how often it changes."""
    known, leaderless = catalogue.MASTER_KNOWN, catalogue.GROUPS_WITHOUT_MASTER.exported_name
    # Many groups together begin as many reigns at once where one member takes over from another.
    reigns = named(catalogue.REIGNS)
    of_members = "max by (cluster, member)"
    unnamed = f"{of_members} ({aggregated(known)})"
    seeing = f"count by (cluster) ({of_members} ({leaderless}) > 0 and {unnamed} >= 0)"
    return (
        Alert(
            "PaxosGroupWithoutMaster",
            f"avg by (cluster, group) (max by (cluster, member, group) ({named(known)})) < 0.5",
            30,
            CRITICAL,
            "Group {{ $labels.group }} of {{ $labels.cluster }} has no master",
            "Most members that answer know nobody who leads group {{ $labels.group }} of "
            "{{ $labels.cluster }}: it takes no command and answers no linearizable read. Nothing "
            "that was acknowledged is lost. A group needs a majority of its voters: see by "
            "`ray-paxos status {{ $labels.cluster }}` which members do not serve, and start their "
            "nodes. If all serve, look at the network between them and at their logs.",
        ),
        Alert(
            "PaxosGroupsWithoutMaster",
            f"{seeing} >= 2\nor {seeing} == count by (cluster) ({unnamed})",
            30,
            CRITICAL,
            "Groups of {{ $labels.cluster }} have no master",
            "{{ $value }} members of {{ $labels.cluster }} take part in groups in which nobody "
            "leads. These groups take no commands; nothing that was acknowledged is lost. Find "
            "them, and the members that do not serve, by `ray-paxos status {{ $labels.cluster }}`.",
        ),
        Alert(
            "PaxosElectionsTooOften",
            f"sum by (cluster, group) (increase({reigns}[{limits.election_window_s}s])) "
            f"> {limits.elections_max}",
            0,
            WARNING,
            "Group {{ $labels.group }} of {{ $labels.cluster }} changes its master too often",
            'Group {{ $labels.group }} of {{ $labels.cluster }} had {{ $value | printf "%.0f" }} '
            f"reigns within {limits.election_window_s} s. Each costs its clients about a second. "
            "Masters step down where their disk or their network stalls, or where a process gets "
            "no processor: look at fsync times, at the load of the nodes, and at the reasons of "
            "the events MasterStopped in the proposers' logs. If nothing can be mended, raise "
            "proposer.election_timeout_ms.",
        ),
    )


# Members and roles.


def about_members(limits: AlertLimits) -> tuple[Alert, ...]:
    """Whether they are there and serve, and how far they are."""
    serving = catalogue.ROLE_SERVING.exported_name
    applied, lag = catalogue.APPLIED, catalogue.LAG.exported_name
    was_there = f"max_over_time({serving}[{limits.gone_window_s}s])"
    of_member = "max by (cluster, member, group)"
    is_alive = f"and on (cluster) max by (cluster) ({serving})"
    stopped = catalogue.GROUPS_STOPPED.exported_name
    return (
        Alert(
            "PaxosClusterGone",
            f"max by (cluster) ({was_there}) unless max by (cluster) ({serving})",
            60,
            CRITICAL,
            "Cluster {{ $labels.cluster }} is gone",
            "No member of {{ $labels.cluster }} tells anything: it was stopped, its nodes are "
            "gone, Prometheus reaches none of them, or observing was switched off "
            "(`ray-paxos observe off {{ $labels.cluster }}`). If it was not on purpose: look at "
            "`ray status` and at the targets of Prometheus, and start the cluster again from its "
            "configuration (`ray-paxos up`); it goes on with what its disks hold.",
        ),
        Alert(
            "PaxosMemberGone",
            f"max by (cluster, member) ({was_there})\n"
            f"unless max by (cluster, member) ({serving})\n{is_alive}",
            60,
            WARNING,
            "Member {{ $labels.member }} of {{ $labels.cluster }} is gone",
            "No role of member {{ $labels.member }} of {{ $labels.cluster }} tells anything: its "
            "process ended or hangs, its node is down, or Prometheus does not reach it. Groups go "
            "on as long as a majority of their voters is there. Start its node again; if its disk "
            "is lost, replace the member (`ray-paxos members replace`). After a removal on purpose "
            f"this ends by itself within {limits.gone_window_s} s.",
        ),
        Alert(
            "PaxosRoleGone",
            f"max by (cluster, member, role) ({was_there})\n"
            f"unless max by (cluster, member, role) ({serving})\n"
            f"and on (cluster, member) max by (cluster, member) ({serving})",
            60,
            WARNING,
            "The {{ $labels.role }} of {{ $labels.member }} of {{ $labels.cluster }} is gone",
            "Other roles of member {{ $labels.member }} tell something, and its "
            "{{ $labels.role }} does not: its process ended or hangs. Ray starts one that ended "
            "again; if this stays, look at its log and end the process if it hangs.",
        ),
        Alert(
            "PaxosRoleNotServing",
            f"max by (cluster, member, role) ({serving}) == 0",
            60,
            WARNING,
            "The {{ $labels.role }} of {{ $labels.member }} of {{ $labels.cluster }} does not "
            "serve",
            "It is up, and is not open yet or has stopped; `ray-paxos status "
            "{{ $labels.cluster }}` says why. Damage in what an acceptor has voted wants the "
            "member replaced; a failed write wants its disk looked at, and then the process ended, "
            "which Ray starts again.",
        ),
        Alert(
            "PaxosGroupStopped",
            f"max by (cluster, member, role) ({stopped}) > 0",
            0,
            CRITICAL,
            "Groups are stopped in the {{ $labels.role }} of {{ $labels.member }} of "
            "{{ $labels.cluster }}",
            "The {{ $labels.role }} does not serve {{ $value }} of its groups, since what it holds "
            "of them cannot be used. `ray-paxos status {{ $labels.cluster }}` says which and why.",
        ),
        Alert(
            "PaxosLag",
            f"max by (cluster, group) ({named(applied)})\n"
            f"- on (cluster, group) group_right () {of_member} ({named(applied)})\n"
            f"> {limits.lag_instances}\n"
            f"or {of_member} ({lag}) > {limits.lag_instances}",
            60,
            WARNING,
            "{{ $labels.member }} is behind in group {{ $labels.group }} of {{ $labels.cluster }}",
            'It has {{ $value | printf "%.0f" }} instances less than the furthest member. It '
            "catches up by itself where it can: if the number does not fall, see whether applying "
            "has stopped there, whether its disk is slow or full, and whether the network to it "
            "works. Until then stale reads there are old, and its vote alone is of use.",
        ),
    )
