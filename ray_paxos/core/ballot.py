"""Ballots: the totally ordered numbers under which proposers ask and acceptors answer."""

from __future__ import annotations

import msgspec


class Ballot(msgspec.Struct, frozen=True, order=True, array_like=True):
    """One life of one proposer, in one attempt to lead ("Paxos Made Simple", section 2.2).

    Compared by all three fields in this order, so two ballots are equal only if they are the same
    attempt of the same life of the same member. The incarnation is raised durably each time the
    proposer's folder is opened, before its first message: a proposer that forgot its round over a
    restart can never use one ballot for two values.

    Attributes:
        round: Chosen by the proposer, above every round it has heard of; from 1.
        member_id: The proposer's member.
        incarnation: Of the proposer's folder, from 1.
    """

    round: int
    member_id: int
    incarnation: int
