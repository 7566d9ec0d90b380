"""The models by name.

To add one (of a change of configuration, say): make it of `parts` in a file of its own, as
`prepare_models` does, and list it here.
"""

from __future__ import annotations

from ray_paxos.testing.exhaustive.lease_models import LEASE
from ray_paxos.testing.exhaustive.model import Model
from ray_paxos.testing.exhaustive.prepare_models import PREPARE, WIDE

MODELS: dict[str, tuple[Model, ...]] = {"prepare": PREPARE, "lease": LEASE, "wide": WIDE}
