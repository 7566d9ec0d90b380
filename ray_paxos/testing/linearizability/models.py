"""The models by name."""

from __future__ import annotations

from typing import Any

from ray_paxos.testing.linearizability.append_kv import AppendKv
from ray_paxos.testing.linearizability.cas_register import CasRegister
from ray_paxos.testing.linearizability.kv import Kv
from ray_paxos.testing.linearizability.lock import Lock
from ray_paxos.testing.linearizability.model import Model

MODELS: dict[str, Model[Any]] = {
    model.name: model for model in (CasRegister(), AppendKv(), Kv(), Lock())
}
