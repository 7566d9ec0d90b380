"""How one seed's world is made: each seed draws which faults it plays, and how hard.

A run that plays everything at once at medium strength finds less than many runs that each play a
few things hard ("swarm testing"), so rates are drawn from lists that contain 0, and each kind of
fault is in or out. Limits of the roles are drawn small, so that windows fill, pages turn, journal
files roll and segments merge within a few hundred commands.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

from ray_paxos.core.settings import (
    MILLISECOND_NS,
    AcceptorSettings,
    CheckpointerSettings,
    LearnerSettings,
    ProposerSettings,
)

MICROSECOND_NS = 1_000
SECOND_NS = 1_000_000_000

FAULT_KINDS = (
    "cut in two",
    "isolated member",
    "one-way cut",
    "partial cut",
    "killed role",
    "killed in a write",
    "killed master",
    "killed member",
    "clean restart",
    "power loss of a member",
    "power loss of all",
    "paused process",
    "paused member",
    "transferred master",
    "clock jump",
    "failing fsync",
    "slow disk",
    "full disk",
    "damaged file",
    "bad network",
    "stray message",
    "changed members",
)


@dataclass(frozen=True)
class NetworkOptions:
    """Rates (0 to 1, of messages) and times of the network.

    Attributes:
        loss: Never arrive.
        duplication: Arrive twice.
        delay_min_ns: The least a message between members takes,
        delay_spread_ns: and up to how much more, evenly spread.
        straggling: Take up to `straggle_max_ns` more.
        straggle_max_ns: See `straggling`.
        local_straggling: As `straggling`, between processes of one member.
        local_straggle_max_ns: See `local_straggling`.
        local_duplication: As `duplication`, between processes of one member.
        lossy_kind: Messages of this class get lost at the rate `lossy_rate` on top.
        lossy_rate: See `lossy_kind`.
    """

    loss: float = 0.0
    duplication: float = 0.0
    delay_min_ns: int = 100 * MICROSECOND_NS
    delay_spread_ns: int = MILLISECOND_NS
    straggling: float = 0.0
    straggle_max_ns: int = 0
    local_straggling: float = 0.0
    local_straggle_max_ns: int = 0
    local_duplication: float = 0.0
    lossy_kind: str = ""
    lossy_rate: float = 0.0


@dataclass(frozen=True)
class DiskOptions:
    """How disks behave.

    Attributes:
        sync_min_ns: The least a sync takes,
        sync_spread_ns: and up to how much more.
        writes_wait: While a sync runs, later writes wait in the process instead of going to the
            page cache at once: both happen in real shells.
        slow_factor: How much longer a sync takes on a slow disk.
    """

    sync_min_ns: int = 100 * MICROSECOND_NS
    sync_spread_ns: int = MILLISECOND_NS
    writes_wait: bool = False
    slow_factor: int = 50


@dataclass(frozen=True)
class ClientOptions:
    """How clients work.

    Attributes:
        count: Clients, spread over the groups.
        pipeline_max: Requests of one client on their way at once.
        batch_max: Commands in one request.
        think_ns: Between two requests of one client, at most.
        timeout_ns: Without an answer for so long, all that is open is sent again.
        calling_share: So many of them are of the real kind, with deadlines (`calling_client`).
    """

    count: int = 3
    pipeline_max: int = 3
    batch_max: int = 6
    think_ns: int = 20 * MILLISECOND_NS
    timeout_ns: int = 400 * MILLISECOND_NS
    calling_share: float = 0.4


@dataclass(frozen=True)
class Options:
    """One seed's world.

    Attributes:
        members: Members A, B, C ...: all of them vote in every group at first.
        followers: So many more members follow every group at first.
        spares: So many more members have no group at first,
        joiners: and so many more are not of the genesis, and have none at first, either.
        groups: Groups 0 to `groups` - 1.
        drift_ppm: Each machine's clock is fast or slow by up to this, in parts in a million.
        fault_kinds: What is played.
        fault_interval_ns: About every so often.
        fault_length_ns: A fault that ends by itself lasts up to this.
        journal_bytes: A journal file is rolled at this size.
        journal_files: Above so many live files the votes are copied.
        learner_saves: A machine is too big for two copies: checkpoints are the learners'.
        recipes: What clients play beside (`recipe_games`); nothing unless a run asks for it.
    """

    members: int
    followers: int = 0
    spares: int = 0
    joiners: int = 0
    groups: int = 2
    drift_ppm: int = 0
    fault_kinds: tuple[str, ...] = ()
    fault_interval_ns: int = 400 * MILLISECOND_NS
    fault_length_ns: int = 800 * MILLISECOND_NS
    journal_bytes: int = 64_000
    journal_files: int = 4
    learner_saves: bool = False
    recipes: tuple[str, ...] = ()
    network: NetworkOptions = field(default_factory=NetworkOptions)
    disk: DiskOptions = field(default_factory=DiskOptions)
    clients: ClientOptions = field(default_factory=ClientOptions)
    proposer: ProposerSettings = field(default_factory=ProposerSettings)
    acceptor: AcceptorSettings = field(default_factory=AcceptorSettings)
    learner: LearnerSettings = field(default_factory=LearnerSettings)
    checkpointer: CheckpointerSettings = field(default_factory=CheckpointerSettings)

    def summary(self) -> str:
        """Everything that differs from the defaults, on one line."""
        return _differences(self, type(self)(self.members))


def _differences(options: object, defaults: object) -> str:
    parts = []
    for part in dataclasses.fields(options):  # type: ignore[arg-type]
        found, usual = getattr(options, part.name), getattr(defaults, part.name)
        if part.name == "members":
            parts.append(f"members={found}")
        elif found == usual:
            continue
        elif dataclasses.is_dataclass(found):
            parts.append(f"{part.name}({_differences(found, usual)})")
        elif part.name == "recipes":
            parts.append("recipes=" + "+".join(found))
        elif part.name == "fault_kinds":
            parts.append("faults=" + "+".join(kind.replace(" ", "-") for kind in found))
        else:
            parts.append(f"{part.name}={found}")
    return " ".join(parts)
