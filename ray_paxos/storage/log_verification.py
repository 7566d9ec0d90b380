"""Checks one group's chosen log on a disk: every byte, every chain, and the journal's votes.

What is compared, beyond what every reader compares anyway (checksums and the value chain):

1. Names, ranges, cluster and group of each file, also of those that lie inside others.
2. The chain over results continues from row to footer and from file to file, as far as it is
   known: rows that were sealed while applying was stopped have none.
3. The chains that a checkpoint of the member's names at its instance are the log's there.
4. A vote of the member's own acceptor at or above the ballot at which an instance is sealed is
   for the sealed value. Whatever was chosen at a ballot is what every higher ballot proposes
   (P2c), so another value means that one of the two files is wrong.
5. No ballot of the member's own is of a later incarnation than its proposer's folder knows: one
   that was set back would give a ballot twice.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass

from ray_paxos.core.ballot import Ballot
from ray_paxos.core.checkpoint import Cut
from ray_paxos.core.learner_messages import ChosenValue
from ray_paxos.core.messages import Vote
from ray_paxos.core.records import SealedInstance
from ray_paxos.core.values import EMPTY_CHAIN
from ray_paxos.errors import DamageError
from ray_paxos.storage.findings import Findings
from ray_paxos.storage.member_files import list_segments
from ray_paxos.storage.segment_format import SegmentHeader, read_instances
from ray_paxos.storage.segments import (
    MERGED,
    SegmentPlace,
    SegmentReader,
    open_segment,
    read_header,
)


@dataclass(slots=True)
class LogCheck:
    """What a group's log was found to hold.

    Attributes:
        first: First instance of the log; 0 where it holds none.
        last: Its last instance.
        segments: How many files make it up.
        instances: How many instances were read, those of covered files included.
        without_results: Of how many the results are not known.
        is_whole: Whether the files add up to one log without a fault.
    """

    first: int = 0
    last: int = 0
    segments: int = 0
    instances: int = 0
    without_results: int = 0
    is_whole: bool = False


@dataclass(frozen=True, slots=True)
class Expected:
    """What other files of the member say about instances of a log.

    Attributes:
        votes: What its acceptor voted for, by instance; empty where that is not known.
        cuts: Those of its checkpoints, by instance.
    """

    votes: Mapping[int, Vote]
    cuts: Mapping[int, Cut]


class OwnBallots:
    """The latest incarnation of a member's proposer that its files show."""

    def __init__(self, member_id: int) -> None:
        """Know of none yet."""
        self._member_id = member_id
        self.incarnation = 0
        self.path = ""

    def note(self, ballot: Ballot | None, path: str) -> None:
        """A ballot was found in a file."""
        if (
            ballot is not None
            and ballot.member_id == self._member_id
            and ballot.incarnation > self.incarnation
        ):
            self.incarnation = ballot.incarnation
            self.path = path


def check_log(
    place: SegmentPlace, expected: Expected, own: OwnBallots, findings: Findings
) -> LogCheck:
    """Check all published segments of a group.

    Args:
        place: Where they lie.
        expected: What other files say.
        own: Takes in the ballots that are found.
        findings: Takes in faults and what was verified.
    """
    check = LogCheck()
    seen: set[str] = set()
    # A learner that runs may put a merged segment in the place of others meanwhile.
    while new := [path for path in list_segments(place) if path not in seen]:
        for path in new:
            _check_unless_gone(place, path, expected, own, check, findings)
        seen.update(new)
    if any(fault.path.startswith(f"{place.log}/") for fault in findings.faults):
        return check
    with findings.looking_at(place.disk, place.log):
        reader = SegmentReader(place)
        reader.refresh()
        check.segments = len(reader.segments)
        if reader.segments:
            check.first, check.last = reader.segments[0].first, reader.last
        _check_result_chains(place, reader)
        check.is_whole = True
    return check


def check_merged(
    place: SegmentPlace, path: str, expected: Expected, own: OwnBallots, findings: Findings
) -> None:
    """Check a merged segment that waits to be published; arguments as `check_log`."""
    _check_unless_gone(place, path, expected, own, LogCheck(), findings)


def check_header(place: SegmentPlace, path: str) -> SegmentHeader:
    """Whether a file is the one that its name says: range, cluster and group.

    Raises:
        DamageError: It is not.
    """
    header = read_header(place, path)
    first, last = place.parse(path.rpartition("/")[2].removeprefix(MERGED))
    if (header.first, header.last) != (first, last):
        where = place.disk.where(path)
        raise DamageError(f"{where} holds instances {header.first} to {header.last}")
    return header


def check_content(place: SegmentPlace, path: str) -> tuple[SegmentHeader, list[SealedInstance]]:
    """Read a whole segment.

    Returns:
        Its header and its instances.

    Raises:
        DamageError: A byte, a chain, the range or the owner is not what it should be.
    """
    header = check_header(place, path)
    where = place.disk.where(path)
    content = open_segment(place, path)
    if content.header != header:
        raise DamageError(f"{where}: its footer changed while it was read")
    instances = list(read_instances(content, header.first, where))
    if len(instances) != header.last - header.first + 1:
        raise DamageError(f"{where} holds {len(instances)} instances, not those of its name")
    if header.first == 1 and header.chain_before != EMPTY_CHAIN:
        raise DamageError(f"{where}: its chain does not begin at the beginning")
    if instances[-1].result_chain != header.result_chain_after:
        raise DamageError(f"{where}: instance {header.last}: its result chain is not the footer's")
    return header, instances


def _check_unless_gone(
    place: SegmentPlace,
    path: str,
    expected: Expected,
    own: OwnBallots,
    check: LogCheck,
    findings: Findings,
) -> None:
    with findings.looking_at(place.disk, path), contextlib.suppress(FileNotFoundError):
        # Whether the log is whole without it is asked of what is listed in the end.
        _check_segment(place, path, expected, own, check)
        findings.note_verified(place.disk, path)


def _check_segment(
    place: SegmentPlace,
    path: str,
    expected: Expected,
    own: OwnBallots,
    check: LogCheck,
) -> None:
    _, instances = check_content(place, path)
    check.instances += len(instances)
    for instance in instances:
        check.without_results += instance.result_chain is None
        own.note(instance.chosen.ballot, path)
        where = f"{place.disk.where(path)}: instance {instance.chosen.instance_id}"
        _check_vote(instance.chosen, expected.votes, where)
        _check_cut(instance, expected.cuts, where)


def _check_vote(chosen: ChosenValue, votes: Mapping[int, Vote], where: str) -> None:
    vote = votes.get(chosen.instance_id)
    if vote is not None and vote.ballot >= chosen.ballot and vote.value != chosen.value:
        raise DamageError(
            f"{where}: chosen at ballot {ballot_text(chosen.ballot)}, and the journal has a vote "
            f"for another value at {ballot_text(vote.ballot)}"
        )


def _check_cut(instance: SealedInstance, cuts: Mapping[int, Cut], where: str) -> None:
    cut = cuts.get(instance.chosen.instance_id)
    if cut is None:
        return
    if cut.chain != instance.chain:
        raise DamageError(f"{where}: its chain is not that of the checkpoint of that instance")
    if instance.result_chain is not None and cut.result_chain != instance.result_chain:
        raise DamageError(f"{where}: its results are not those of the checkpoint of that instance")


def _check_result_chains(place: SegmentPlace, reader: SegmentReader) -> None:
    chain: bytes | None = None
    for segment in reader.segments:
        before = segment.header.result_chain_before
        if segment.first == 1 and before != EMPTY_CHAIN:
            where = place.disk.where(segment.path)
            raise DamageError(f"{where}: its result chain does not begin at the beginning")
        if chain is not None and before is not None and chain != before:
            where = place.disk.where(segment.path)
            raise DamageError(
                f"{where}: instance {segment.first}: its result chain does not follow"
            )
        chain = segment.header.result_chain_after


def ballot_text(ballot: Ballot) -> str:
    """A ballot as `round.member.incarnation`."""
    return f"{ballot.round}.{ballot.member_id}.{ballot.incarnation}"
