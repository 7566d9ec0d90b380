"""The models by name.

To add one: make it of `parts` in a file of its own, as `prepare_models` does, and list it here.
"""

from __future__ import annotations

from ray_paxos.testing.exhaustive.lease_models import LEASE
from ray_paxos.testing.exhaustive.membership_lease_models import OUTLIVED, WIDE_OUTLIVED
from ray_paxos.testing.exhaustive.membership_models import MEMBERSHIP, WIDE_MEMBERSHIP
from ray_paxos.testing.exhaustive.membership_order_models import ORDERS, PARTS, WIDE_ORDERS
from ray_paxos.testing.exhaustive.model import Model
from ray_paxos.testing.exhaustive.prepare_models import PREPARE, WIDE

MODELS: dict[str, tuple[Model, ...]] = {
    "prepare": PREPARE,
    "lease": LEASE,
    "membership": (*MEMBERSHIP, ORDERS, PARTS, OUTLIVED),
    "wide": (*WIDE, *WIDE_MEMBERSHIP, *WIDE_ORDERS, WIDE_OUTLIVED),
}
