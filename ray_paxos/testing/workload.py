"""What simulated clients ask for: commands of the built-in machines, good and bad, and reads."""

from __future__ import annotations

import random

from ray_paxos.machines.kv import encode_cas, encode_delete, encode_get, encode_put
from ray_paxos.machines.log import encode_length
from ray_paxos.testing.options import ClientOptions

KEYS = tuple(f"key-{i}" for i in range(6))
KV_MACHINE = "kv"
LOG_MACHINE = "log"


class Workload:
    """Draws one client's commands; no two puts write the same value."""

    def __init__(self, client_id: int, options: ClientOptions, random: random.Random) -> None:
        """Draw for one client."""
        self._client_id = client_id
        self._options = options
        self._random = random
        self._drawn = 0

    def draw(self) -> tuple[str, tuple[bytes, ...]]:
        """A machine, and some commands for it."""
        count = self._random.randint(1, self._options.batch_max)
        kind = self._random.random()
        if kind < 0.02:
            return "absent", (b"for a machine that is not mounted",)
        if kind < 0.35:
            return LOG_MACHINE, tuple(self._unique() for _ in range(count))
        return KV_MACHINE, tuple(self._draw_kv() for _ in range(count))

    def draw_unique(self) -> tuple[str, tuple[bytes, ...]]:
        """As `draw`, but no two of these commands are the same."""
        count = self._random.randint(1, self._options.batch_max)
        if self._random.random() < 0.5:
            return LOG_MACHINE, tuple(self._unique() for _ in range(count))
        return KV_MACHINE, tuple(self._draw_write() for _ in range(count))

    def _draw_write(self) -> bytes:
        key = KEYS[self._random.randrange(len(KEYS))]
        if self._random.random() < 0.6:
            return encode_put(key, self._unique())
        return encode_cas(key, self._unique(), self._random.randrange(8))

    def _draw_kv(self) -> bytes:
        key = KEYS[self._random.randrange(len(KEYS))]
        kind = self._random.random()
        if kind < 0.5:
            return encode_put(key, self._unique())
        if kind < 0.65:
            return encode_get(key)
        if kind < 0.75:
            return encode_delete(key)
        if kind < 0.98:
            return encode_cas(key, self._unique(), self._random.randrange(8))
        return b"not a command"

    def _unique(self) -> bytes:
        self._drawn += 1
        padding = b"." * self._random.randrange(60)
        return b"%x-%d" % (self._client_id, self._drawn) + padding

    def draw_read(self) -> tuple[str, bytes]:
        """A machine, and a query for it."""
        if self._random.random() < 0.3:
            return LOG_MACHINE, encode_length()
        return KV_MACHINE, encode_get(KEYS[self._random.randrange(len(KEYS))])
