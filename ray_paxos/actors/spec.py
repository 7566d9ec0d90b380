"""What a role actor is made from: plain bytes, the same for every actor of a cluster.

A detached actor outlives the driver that made it and keeps the code it was made with, so nothing
between the two relies on pickled classes: the constructor takes this record in its own versioned
form, and `describe` of any actor gives it back to drivers that attach later.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import TYPE_CHECKING

import msgspec

from ray_paxos.core.genesis import Genesis, MemberSpec, decode_genesis
from ray_paxos.core.releases import OLDEST
from ray_paxos.core.settings import (
    AcceptorSettings,
    CheckpointerSettings,
    ControllerSettings,
    LearnerSettings,
    ProposerSettings,
)
from ray_paxos.errors import WireFormatError
from ray_paxos.observability.settings import ObservingSettings

if TYPE_CHECKING:
    from ray_paxos.config import ClusterConfiguration

SPEC_FORMAT = 1


class ClusterSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A running cluster: its genesis, and what its actors were told.

    Attributes:
        format: Of this record.
        genesis: Encoded.
        data_dir: As configured; each member's node resolves it for itself.
        proposer: Settings of every group's proposer.
        acceptor: Of every member's acceptor.
        learner: Of every group's learner.
        checkpointer: Of every group's checkpointer.
        log_level: Least severity that actors write to their logs.
        priorities: By member_id, of the members that have another one than 1.
        archive: Address of the archive; None for none.
        roles: Whether each member's four roles are actors of their own (`separate`), or one
            (`fused`).
        controller: Of the controller.
        pins: By member of the genesis, the labels and the custom resource (empty for none) of the
            node that has its disk, as the operator gave them.
        joined: Members outside the genesis that were known when the actor was made, its own among
            them where it is one.
        cluster_version: Under which it was made; a member may have heard of a later one since.
        observing: What roles count, time and remember.
    """

    format: int
    genesis: bytes
    data_dir: str | None
    proposer: ProposerSettings
    acceptor: AcceptorSettings
    learner: LearnerSettings
    checkpointer: CheckpointerSettings
    log_level: str
    priorities: dict[int, int]
    archive: str | None = None
    roles: str = "separate"
    controller: ControllerSettings = ControllerSettings()
    pins: dict[str, tuple[dict[str, str], str]] = {}
    joined: tuple[MemberSpec, ...] = ()
    cluster_version: int = OLDEST
    observing: ObservingSettings = ObservingSettings()

    def under(self, version: int) -> ClusterSpec:
        """The same, under this cluster version or the later one that it has already."""
        return msgspec.structs.replace(self, cluster_version=max(self.cluster_version, version))

    def knowing(self, members: Iterable[MemberSpec]) -> ClusterSpec:
        """The same, where these members are known, too."""
        of_genesis = {each.member_id for each in self.decoded_genesis().members}
        joined = {each.member_id: each for each in (*self.joined, *members)}
        others = tuple(each for each in joined.values() if each.member_id not in of_genesis)
        return msgspec.structs.replace(self, joined=others)

    @property
    def members(self) -> tuple[MemberSpec, ...]:
        """All members that it knows of."""
        return (*self.decoded_genesis().members, *self.joined)

    @property
    def is_fused(self) -> bool:
        """Whether the four roles of a member are one actor."""
        return self.roles == "fused"

    def encoded(self) -> bytes:
        """The form that actors are made from."""
        return msgspec.msgpack.encode(self)

    def decoded_genesis(self) -> Genesis:
        """The genesis."""
        return decode_genesis(self.genesis)


class _SpecFormat(msgspec.Struct):
    format: int


_format_decoder = msgspec.msgpack.Decoder(_SpecFormat)
_decoder = msgspec.msgpack.Decoder(ClusterSpec)


def make_spec(genesis: Genesis, configuration: ClusterConfiguration) -> ClusterSpec:
    """The spec of a cluster that starts: members by its genesis, settings by the file."""
    priorities = {member.name: member.priority for member in configuration.members}
    return ClusterSpec(
        format=SPEC_FORMAT,
        genesis=genesis.encoded(),
        data_dir=configuration.data_dir,
        proposer=configuration.proposer.settings(),
        acceptor=_acceptor_settings(configuration),
        learner=configuration.learner.settings(),
        checkpointer=configuration.checkpointer.settings(),
        log_level=configuration.logging.level,
        archive=configuration.archive,
        roles=configuration.roles,
        controller=configuration.controller.settings(),
        observing=configuration.observability.settings(),
        pins={m.name: (m.node_labels, m.resource or "") for m in configuration.members},
        priorities={
            member.member_id: priority
            for member in genesis.members
            if (priority := priorities.get(member.name, 1)) != 1
        },
    )


def _acceptor_settings(configuration: ClusterConfiguration) -> AcceptorSettings:
    settings = configuration.acceptor.settings()
    timeout_ns = configuration.proposer.settings().election_timeout_ns
    return dataclasses.replace(settings, hearsay_ns=min(settings.hearsay_ns, timeout_ns))


def decode_spec(data: bytes) -> ClusterSpec:
    """Read a spec back.

    Raises:
        WireFormatError: It was made by a release with another format.
    """
    try:
        found = _format_decoder.decode(data).format
        if found != SPEC_FORMAT:
            raise WireFormatError(f"cluster spec format {found}; this process knows {SPEC_FORMAT}")
        return _decoder.decode(data)
    except msgspec.DecodeError as error:
        raise WireFormatError(f"not a cluster spec: {error}") from error
