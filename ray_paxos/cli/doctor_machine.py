"""Checks of the machine: versions, limits, memory, processors, clocks. Each is a pure function."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ray_paxos.cli.doctor_facts import Facts, Finding, Status

MEGABYTE = 1_000_000
MEMBER_BYTES = {"fused": 71 * MEGABYTE, "separate": 266 * MEGABYTE}
"""A member without groups takes so much memory (README, "What limits growth")."""

GROUP_BYTES = {"fused": 300_000, "separate": 500_000}
"""And so much more for each group that it has."""

GROUP_CORES = {"fused": 0.0042, "separate": 0.0051}
"""What a group at rest takes of a processor, over its three voters (the same table)."""

VOTERS_MEASURED = 3
MEMBERS_A_PROCESSOR = 1.5
"""Three members on two processors are what was measured; more of them wait for each other."""

FILES_BASE = 256
FILES_A_GROUP = 4
FILES_A_MEMBER = 16
"""Open files of one role's process, a generous estimate: Ray's own, of each group the segments and
checkpoints that are read and written, and connections to the four actors of each other member."""

GOOD_CLOCK_SOURCES = ("tsc", "kvm-clock", "arch_sys_counter", "xen", "hyperv_clocksource_tsc_page")


def version_numbers(version: str) -> tuple[int, ...]:
    """The numbers that a version begins with: `2.60.0rc1` is later than `2.59`."""
    found = re.match(r"\d+(\.\d+)*", version)
    return tuple(map(int, found.group().split("."))) if found else ()


def check_configuration(facts: Facts) -> Iterator[Finding]:
    """Whether the configuration loads, and what is doubtful in it."""
    if facts.error:
        yield Finding(
            Status.PROBLEM, facts.error, "mend the file; README has all fields and what they allow"
        )
    elif not facts.path:
        yield Finding(Status.OK, "none given: looked at with the defaults, three members")
    else:
        configuration = facts.configuration
        yield Finding(
            Status.OK,
            f"{facts.path}: cluster {configuration.cluster}, {len(configuration.members)} members, "
            f"{len(configuration.groups)} groups",
        )
        for warning in configuration.warnings:
            found, _, change = warning.rpartition(": ")
            yield Finding(Status.WARNING, found or warning, change if found else "")


def check_python(facts: Facts) -> Iterator[Finding]:
    """The interpreter's version."""
    machine = facts.machine
    if not machine.python_wanted:
        change = "install ray_paxos by pip"
        yield Finding(Status.WARNING, f"{machine.python}; the metadata names no bound", change)
    elif version_numbers(machine.python) < version_numbers(machine.python_wanted):
        found = f"{machine.python}; {machine.python_wanted} or later is needed"
        yield Finding(Status.PROBLEM, found, f"use Python {machine.python_wanted} or later")
    else:
        yield Finding(Status.OK, f"{machine.python} (at least {machine.python_wanted})")


def check_packages(facts: Facts) -> Iterator[Finding]:
    """The packages that this one needs, Ray among them."""
    packages = facts.machine.packages
    if not packages:
        found = "the metadata of ray_paxos names no packages"
        yield Finding(Status.WARNING, found, "install ray_paxos by pip")
        return
    is_right = True
    for package in packages:
        found = f"{package.name} {package.installed or 'is not installed'}"
        if version_numbers(package.installed) < version_numbers(package.wanted):
            is_right = False
            change = f"pip install '{package.name}>={package.wanted}', on every node"
            yield Finding(Status.PROBLEM, f"{found}; {package.wanted} or later is needed", change)
    if is_right:
        listed = ", ".join(f"{package.name} {package.installed}" for package in packages)
        yield Finding(Status.OK, listed)


def check_open_files(facts: Facts) -> Iterator[Finding]:
    """How many files a process may open, against members and groups."""
    machine = facts.machine
    members = len(facts.configuration.members)
    needed = FILES_BASE + FILES_A_GROUP * facts.groups_each + FILES_A_MEMBER * members
    found = (
        f"ulimit -n is {machine.open_files:,}; a role of one of {members} members with "
        f"{facts.groups_each:,} groups takes up to {needed:,}"
    )
    if machine.open_files >= needed:
        yield Finding(Status.OK, found)
        return
    change = f"`ulimit -n {needed:,}`".replace(",", "") + " before Ray is started, on every node"
    if machine.open_files_hard < needed:
        change += f"; the hard limit is {machine.open_files_hard:,}: raise it first (limits.conf)"
    yield Finding(Status.PROBLEM, found, change)


def check_memory(facts: Facts) -> Iterator[Finding]:
    """Memory against the members of this node."""
    machine, roles = facts.machine, facts.configuration.roles
    each = MEMBER_BYTES[roles] + facts.groups_each * GROUP_BYTES[roles]
    needed = facts.members_here * each
    here = f"{facts.members_here} members here take {_megabytes(needed)} at rest ({roles} roles)"
    if machine.memory_bytes is None or machine.available_bytes is None:
        yield Finding(Status.WARNING, f"{here}; how much there is cannot be told")
        return
    found = f"{here}; there are {_megabytes(machine.memory_bytes)}"
    change = "fewer members or groups a node, or more memory"
    if roles == "separate":
        change = f"`roles: fused` takes a quarter; or {change}"
    if machine.memory_bytes < needed:
        yield Finding(Status.PROBLEM, found, change)
    elif machine.available_bytes < needed:
        found += f", of which {_megabytes(machine.available_bytes)} are free"
        yield Finding(Status.WARNING, found, change)
    else:
        yield Finding(Status.OK, found)


def check_processors(facts: Facts) -> Iterator[Finding]:
    """Processors against the members of this node, and against its groups at rest."""
    processors, roles = facts.machine.processors, facts.configuration.roles
    members = facts.members_here
    rest = members * facts.groups_each * GROUP_CORES[roles] / VOTERS_MEASURED
    found = (
        f"{processors:g} for {members} members here, whose groups take {rest:.2f} of one at rest"
    )
    if rest > processors / 2:
        change = "fewer groups a node, or more processors: commands are left too little"
        yield Finding(Status.WARNING, found, change)
    elif members > MEMBERS_A_PROCESSOR * processors:
        change = "fewer members a node, or more processors: an election may come of each wait"
        yield Finding(Status.WARNING, found, change)
    else:
        yield Finding(Status.OK, found)


def check_clock(facts: Facts) -> Iterator[Finding]:
    """CLOCK_BOOTTIME, which leases are kept by, and what the kernel counts it with."""
    machine = facts.machine
    if not machine.has_boottime:
        change = "run on Linux, outside of a sandbox that hides it: leases are kept by it"
        yield Finding(Status.PROBLEM, "CLOCK_BOOTTIME cannot be read", change)
    elif not machine.clock_source:
        found = "CLOCK_BOOTTIME; the kernel does not say what it counts it with"
        yield Finding(Status.OK, found)
    elif machine.clock_source in GOOD_CLOCK_SOURCES:
        yield Finding(Status.OK, f"CLOCK_BOOTTIME, by {machine.clock_source}")
    else:
        yield Finding(
            Status.WARNING,
            f"CLOCK_BOOTTIME, by {machine.clock_source}: slow to read; the kernel takes it where "
            "it does not trust the processors' own counter",
            "choose a better one of /sys/devices/system/clocksource/clocksource0/"
            "available_clocksource, or raise acceptor.clock_drift_ppm on all members",
        )


def _megabytes(count: int) -> str:
    return f"{count / MEGABYTE:,.0f} MB"
