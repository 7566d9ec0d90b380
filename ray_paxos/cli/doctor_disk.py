"""Checks of the disk that the data is to lie on, and of what lies there already.

Each is a pure function of facts.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from ray_paxos.cli.doctor_facts import Facts, Finding, FolderFacts, Status
from ray_paxos.config.disk_bound import disk_bound

GIGABYTE = 1_000_000_000
SYNC_MS_EXPECTED = 0.2
SYNC_MS_MAX = 4.0
"""A lone command waits for about five calls of 0.8 ms, one after the other, and for one fdatasync
of 0.2 ms (design, section 12). Above five calls' worth the disk, and not Ray, says how fast it is.
"""

VOLATILE = ("tmpfs", "ramfs", "devtmpfs")
LAYERED = ("overlay", "aufs")
NETWORK = (
    *("nfs", "nfs4", "cifs", "smb3", "9p", "virtiofs", "ceph", "glusterfs", "lustre", "beegfs"),
    *("gpfs", "afs", "ocfs2", "gfs2"),
)


def check_data_dir(facts: Facts) -> Iterator[Finding]:
    """Whether the data directory is there, or can be made, and takes files."""
    disk = facts.disk
    if disk.error:
        change = f"give this user {disk.place}, or another folder: data_dir or $RAY_PAXOS_HOME"
        yield Finding(Status.PROBLEM, f"{disk.data_dir}: {disk.error}", change)
    elif disk.place == disk.data_dir:
        yield Finding(Status.OK, f"{disk.data_dir} takes files")
    else:
        yield Finding(Status.OK, f"{disk.data_dir} can be made below {disk.place}")


def check_free_space(facts: Facts) -> Iterator[Finding]:
    """Free space against what the configuration lets the members of this node take."""
    disk = facts.disk
    if disk.free_bytes is None:
        change = "look at it yourself: `df`"
        yield Finding(Status.WARNING, f"{disk.place}: free space cannot be told", change)
        return
    bound = disk_bound(facts.configuration, 0)
    most, least = bound.total * facts.members_here, bound.journal * facts.members_here
    found = (
        f"{_gigabytes(disk.free_bytes)} free; {facts.members_here} members here take up to "
        f"{_gigabytes(most)}, {_gigabytes(least)} of it for votes, and their checkpoints"
    )
    if disk.free_bytes < least:
        change = "make room: with a full disk a member does not vote"
        yield Finding(Status.PROBLEM, found, change)
    elif disk.free_bytes < most:
        change = "make room, or let the log keep less: learner.log_bytes_max, learner.hold_count"
        yield Finding(Status.WARNING, found, change)
    else:
        yield Finding(Status.OK, found)


def check_file_system(facts: Facts) -> Iterator[Finding]:
    """Whether what is written there outlives the machine, and is this machine's alone."""
    disk = facts.disk
    kind = disk.file_system
    where = f"{disk.place} is on {kind}, mounted at {disk.mount_point}"
    if not kind:
        yield Finding(Status.WARNING, f"{disk.place}: the file system's type cannot be told")
    elif kind in VOLATILE:
        change = "a data_dir on a disk: votes that a restart forgets lose acknowledged commands"
        yield Finding(Status.WARNING, f"{where}: it is memory, gone with the machine", change)
    elif kind in LAYERED:
        change = "mount a volume there: a member whose folder is gone has to be replaced"
        yield Finding(Status.WARNING, f"{where}: it goes with the container", change)
    elif kind in NETWORK or kind.startswith("fuse"):
        change = (
            "a disk of the node's own; else make sure that fsync reaches the server's disk, and "
            "that flock holds between hosts"
        )
        yield Finding(Status.WARNING, f"{where}: what is durable there others decide", change)
    else:
        yield Finding(Status.OK, where)


def check_sync(facts: Facts) -> Iterator[Finding]:
    """How long the disk takes to make a vote durable."""
    disk = facts.disk
    if not disk.sync_ms:
        yield Finding(Status.WARNING, "fdatasync was not measured: no file could be written")
        return
    middle, stall_ms = statistics.median(disk.sync_ms), facts.configuration.proposer.disk_stall_ms
    found = (
        f"append and fdatasync take {middle:.2f} ms (p50 of {len(disk.sync_ms)}; the longest "
        f"{max(disk.sync_ms):.2f} ms)"
    )
    if middle >= stall_ms:
        change = f"a quicker disk: no member leads whose disk needs {stall_ms:g} ms (disk_stall_ms)"
        yield Finding(Status.PROBLEM, found, change)
    elif middle > SYNC_MS_MAX:
        change = (
            f"a quicker disk, or batches: every command waits for it. {SYNC_MS_EXPECTED} ms is "
            f"usual; above {SYNC_MS_MAX:g} ms it takes longer than all calls of a command"
        )
        yield Finding(Status.WARNING, found, change)
    else:
        yield Finding(Status.OK, found)


def check_lock(facts: Facts) -> Iterator[Finding]:
    """Whether flock keeps a second process out of a folder."""
    excludes = facts.disk.lock_excludes
    if excludes is None:
        yield Finding(Status.WARNING, "flock was not tried: no file could be written")
    elif excludes:
        yield Finding(Status.OK, "a second one of the same file is refused")
    else:
        change = "a local disk: two processes of one member would both vote"
        yield Finding(Status.PROBLEM, "flock does not keep a second process out", change)


def check_folders(facts: Facts) -> Iterator[Finding]:
    """What earlier clusters have left in the data directory."""
    if facts.folders is None:
        yield Finding(Status.WARNING, f"{facts.disk.data_dir} cannot be listed")
        return
    own = [f for f in facts.folders if f.held_below == facts.configuration.cluster]
    wrong = [finding for folder in own for finding in _check_folder(folder)]
    yield from wrong
    for folder in facts.folders:
        if folder.release_problem and folder not in own:
            change = "the release that made it, for that cluster"
            yield Finding(Status.WARNING, folder.release_problem, change)
    clusters = {f.cluster_id: f for f in own if f.cluster_id and f.cluster == f.held_below}
    if len(clusters) > 1:
        listed = ", ".join(f"{name} ({f.member})" for name, f in sorted(clusters.items()))
        change = "move away those of the cluster that is not wanted"
        yield Finding(Status.PROBLEM, f"members of several clusters lie here: {listed}", change)
    strangers = sorted(
        {f.member for f in own} - {member.name for member in facts.configuration.members}
    )
    if strangers and facts.path:
        change = (
            "nothing, if they are meant: what is on disk is started as it is, whatever members "
            "the file names; else another `cluster` or data_dir"
        )
        found = f"here lie members that {facts.path} does not name: {', '.join(strangers)}"
        yield Finding(Status.WARNING, found, change)
    others = sorted({f.held_below for f in facts.folders} - {facts.configuration.cluster})
    if not wrong:
        mine = f"{len(own)} members of cluster {facts.configuration.cluster}"
        rest = f"; other clusters: {', '.join(others)}" if others else ""
        yield Finding(Status.OK, (mine if facts.path else f"{len(facts.folders)} members") + rest)


def _check_folder(folder: FolderFacts) -> Iterator[Finding]:
    if folder.cluster and folder.cluster != folder.held_below:
        found = f"{folder.path} is of cluster {folder.cluster}"
        change = f"move it to where that cluster's members lie, or away from {folder.held_below}"
        yield Finding(Status.PROBLEM, found, change)
    elif folder.release_problem:
        change = "install that release, or a newer one"
        yield Finding(Status.PROBLEM, folder.release_problem, change)
    elif folder.problem:
        change = f"`ray-paxos log verify {folder.path}`; of a disk that was moved: `log adopt`"
        yield Finding(Status.PROBLEM, folder.problem, change)


def _gigabytes(count: int) -> str:
    return f"{count / GIGABYTE:,.1f} GB"
