"""The command line of a chaos run, and everything of it that is checked before anything starts."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

from chaos_disks import check_disks
from chaos_group import GroupPlan, WorkLimits
from chaos_hosts import labels_of
from chaos_nodes import NODES_MAX, pinned_configuration
from chaos_plan import (
    OF_DISKS,
    OF_RECONCILERS,
    FaultKind,
    check_members,
    check_nodes,
    parse_kinds,
)
from chaos_settings import ChaosPlan
from chaos_workloads import WorkloadKind, WorkloadOptions, check_workload
from hosts import missing_for_hosts
from job_console import JobConsole
from job_files import STANDARD_OUTPUT, check_folder, check_output
from job_groups import choose_group, machine_of_kind
from ray_paxos.config import ClusterConfiguration, load_configuration
from ray_paxos.errors import ConfigurationError
from report_page import check_page

GAP_LIMIT_S = 6.0
RESTART_GAP_LIMIT_S = 12.0
LEASE_S = 2.0
"""The lease that these two limits are for; by what a lease is longer they are higher."""
DAY_MS = 86_400_000
CLIENTS_MIN = 2
"""On each of many groups: a read that takes its time is to be no silence of the group."""


@dataclass(frozen=True)
class Options:
    """The command line, as `--help` describes it."""

    config: str
    faults: str
    seconds: float
    clients: int
    seed: int
    json: str | None
    history: str | None
    report: str | None
    figures: str | None
    group: int | None
    groups: bool
    nodes: int | None
    hosts: bool
    keep: bool
    address: str | None
    rate: float
    fault_interval_s: float
    gap_limit_s: float | None
    restart_gap_limit_s: float | None
    command_timeout_s: float
    read_timeout_s: float
    check_limit_s: float
    workload: str = WorkloadKind.KV.value


def make_plan(options: Options, console: JobConsole) -> ChaosPlan:
    """Check everything that can be checked before a cluster is started.

    Raises:
        ConfigurationError: Something is wrong; nothing has happened.
    """
    configuration = load_configuration(options.config)
    for warning in configuration.warnings:
        console.warn(f"{options.config}: {warning}")
    kinds = parse_kinds(options.faults)
    check_members(kinds, len(configuration.members))
    check_nodes(kinds, options.nodes, has_hosts=options.hosts)
    _check_options(options, kinds, configuration)
    if options.hosts:
        configuration = pinned_configuration(configuration, labels_of(configuration))
    elif options.nodes is not None:
        configuration = pinned_configuration(configuration)
    configuration = observed_configuration(controlled_configuration(configuration, kinds))
    gap_limit_s, restart_limit_s = options.gap_limit_s, options.restart_gap_limit_s
    more_s = max(configuration.proposer.lease_ms / 1_000 - LEASE_S, 0.0)
    if more_s and (gap_limit_s is None or restart_limit_s is None):
        console.say(f"the lease is {more_s:g} s longer than {LEASE_S:g} s: so are limits of gaps")
    return ChaosPlan(
        configuration=configuration,
        groups=_plan_groups(options, configuration),
        is_of_many=options.groups,
        kinds=kinds,
        seconds=options.seconds,
        interval_s=options.fault_interval_s,
        limits=WorkLimits(
            options.rate, options.command_timeout_s, options.read_timeout_s, options.seed
        ),
        gap_limit_s=GAP_LIMIT_S + more_s if gap_limit_s is None else gap_limit_s,
        restart_gap_limit_s=RESTART_GAP_LIMIT_S + more_s
        if restart_limit_s is None
        else restart_limit_s,
        check_s=options.check_limit_s,
        address=options.address,
        nodes=options.nodes,
        has_hosts=options.hosts,
        is_ordered=configuration.controller.runs or bool(OF_RECONCILERS & set(kinds)),
        keep=options.keep,
        json=options.json,
        history=options.history,
        report=options.report,
        figures=options.figures,
        workload=WorkloadKind(options.workload),
    )


def controlled_configuration(
    configuration: ClusterConfiguration, kinds: Collection[FaultKind]
) -> ClusterConfiguration:
    """A configuration whose controller undoes none of what the run does."""
    controller = configuration.controller
    runs = controller.runs or FaultKind.KILL_CONTROLLER in kinds
    calm = {"runs": runs, "spreads": False, "grows": False, "replace_after_ms": DAY_MS}
    return configuration.model_copy(update={"controller": controller.model_copy(update=calm)})


def observed_configuration(configuration: ClusterConfiguration) -> ClusterConfiguration:
    """A configuration whose members write their events to files, for the checks."""
    observability = configuration.observability.model_copy(update={"event_files": True})
    return configuration.model_copy(update={"observability": observability})


def _check_options(
    options: Options, kinds: Collection[FaultKind], configuration: ClusterConfiguration
) -> None:
    for name, number in vars(options).items():
        if isinstance(number, float) and not math.isfinite(number):
            raise ConfigurationError(f"--{name.replace('_', '-')}: found {number}")
    check_output(options.json, "--json")
    check_output(options.history, "--history")
    check_page(options.report, "--report")
    check_folder(options.figures, "--figures")
    if options.history == STANDARD_OUTPUT:
        raise ConfigurationError("--history: a file is needed")
    if options.groups and options.group is not None:
        raise ConfigurationError("--groups and --group: give one of them")
    if options.nodes is None and not options.hosts:
        return
    if options.nodes is not None and options.hosts:
        raise ConfigurationError("--nodes and --hosts: give one of them")
    if options.address is not None or options.keep:
        raise ConfigurationError(
            f"{'--hosts' if options.hosts else '--nodes'}: that Ray cluster is the job's own and "
            "ends with it; allowed: neither --address nor --keep"
        )
    members = len(configuration.members)
    if options.nodes is not None and not members <= options.nodes <= NODES_MAX:
        raise ConfigurationError(
            f"--nodes: found {options.nodes}; allowed: one for each of the {members} members, to "
            f"{NODES_MAX}"
        )
    if options.hosts and members > NODES_MAX:
        raise ConfigurationError(f"--hosts: found {members} members; allowed: up to {NODES_MAX}")
    if OF_DISKS & set(kinds):
        check_disks()
    reason = missing_for_hosts() if options.hosts else ""
    if reason:
        raise ConfigurationError(f"--hosts: they cannot be made here: {reason}")


def _plan_groups(options: Options, configuration: ClusterConfiguration) -> tuple[GroupPlan, ...]:
    """What is done with each group: clients are dealt to them, and each has at least two."""
    groups = [choose_group(configuration, options.group)]
    workload = WorkloadKind(options.workload)
    check_workload(
        WorkloadOptions(
            workload, options.clients, options.groups, options.history, len(configuration.groups)
        ),
        groups[0],
    )
    if workload is not WorkloadKind.KV:
        # Recipes find their machines by themselves.
        return (GroupPlan(groups[0].group, "", "", options.clients),)
    if options.groups:
        groups = sorted(configuration.groups, key=lambda group: group.group)
    plans = []
    first = 1
    for number, group in enumerate(groups):
        share = (options.clients - number + len(groups) - 1) // len(groups)
        clients = max(share, CLIENTS_MIN) if options.groups else share
        kv = machine_of_kind(group, "kv", "a chaos run")
        log = machine_of_kind(group, "log", "a chaos run")
        plans.append(GroupPlan(group.group, kv, log, clients, first))
        first += clients
    return tuple(plans)
