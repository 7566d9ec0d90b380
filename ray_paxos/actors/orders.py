"""Orders that a driver gives the master of a group: one call to a member, and what it answers."""

from __future__ import annotations

import time
from typing import Any, TypeAlias

from ray_paxos.actors.administration import Administration, ask_all
from ray_paxos.actors.answers import state_of
from ray_paxos.core.client_messages import MasterTransferred, Redirected, Refused, TransferMaster
from ray_paxos.core.genesis import Genesis
from ray_paxos.core.membership_messages import ChangeMembership, MembershipChanged
from ray_paxos.core.messages import Address, Envelope, RoleName
from ray_paxos.core.wire import decode_envelopes, encode_envelopes

PAUSE_S = 0.05
"""Before an order is given again."""
ORDER_TRY_S = 3.0
Order: TypeAlias = TransferMaster | ChangeMembership
Answer: TypeAlias = MasterTransferred | MembershipChanged | Refused | Redirected
_ANSWERS = (MasterTransferred, MembershipChanged, Refused, Redirected)


def give_order(
    administration: Administration,
    genesis: Genesis,
    *,
    member: str,
    group: int,
    address: Address,
    order: Order,
    deadline: float,
) -> Answer | str:
    """Give one member an order for the master of a group.

    Args:
        administration: Of the cluster.
        genesis: The cluster's.
        member: Whom to ask.
        group: Whose master.
        address: Of whoever gives it; the same for a repetition.
        order: The order.
        deadline: Until when to wait for the answer, and no longer than one try, by
            `time.monotonic`.

    Returns:
        The answer; or why there was none, for a person: then the order may be carried out all the
        same.
    """
    envelope = Envelope(genesis.hash(), group, address, 0, 0, 0, order)
    batch = encode_envelopes((envelope,))

    def call() -> Any:
        return administration.call(member, RoleName.PROPOSER, "submit", batch)

    patience_s = min(max(deadline - time.monotonic(), 0.0), ORDER_TRY_S)
    answer = ask_all({member: call}, patience_s)[member]
    if isinstance(answer, Exception):
        return f"member {member}: {answer}"
    state = state_of(answer)
    if state is not None:
        return f"member {member}: {state}"
    for reply in decode_envelopes(answer):
        if isinstance(reply.message, _ANSWERS):
            return reply.message
    return f"member {member} gave no answer"
