"""Which key an operation is about, as YCSB's core generators choose it.

| distribution | generator of YCSB | what it prefers |
|---|---|---|
| `uniform` | `UniformLongGenerator` | nothing |
| `zipfian` | `ScrambledZipfianGenerator` | few keys, scattered over all of them by a hash |
| `latest` | `SkewedLatestGenerator` | the keys that were inserted last |

The plain Zipfian generator under both is that of Gray et al., "Quickly Generating Billion-Record
Synthetic Databases" (SIGMOD 1994): one power a choice, no table. Its skew is YCSB's 0.99.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Literal

Distribution = Literal["uniform", "zipfian", "latest"]

THETA = 0.99
SCRAMBLED_ITEMS = 10_000_000_000
SCRAMBLED_ZETA = 26.46902820178302
"""Sum of 1 / i ** THETA over that many items; YCSB's constant."""

_FNV_OFFSET = 0xCBF29CE484222325
_FNV_PRIME = 1_099_511_628_211
_MASK = (1 << 64) - 1


def fnv_hash(number: int) -> int:
    """YCSB's hash of a number: FNV-1 over its eight bytes, without a sign."""
    found = _FNV_OFFSET
    for _ in range(8):
        found = ((found ^ (number & 0xFF)) * _FNV_PRIME) & _MASK
        number >>= 8
    # YCSB takes the absolute value of a signed number.
    return found if found < 1 << 63 else (1 << 64) - found


def key_name(number: int) -> str:
    """The key of a number; hashed, so that neighbours in number are none in order."""
    return f"user{fnv_hash(number)}"


def zeta(count: int, known: int = 0, known_zeta: float = 0.0) -> float:
    """Sum of 1 / i ** THETA for i from 1 to `count`, going on from what is known."""
    for item in range(known + 1, count + 1):
        known_zeta += math.pow(item, -THETA)
    return known_zeta


class Zipfian:
    """Chooses 0 with the highest probability, 1 with the next one, and so on."""

    def __init__(self, count: int, rng: random.Random, zeta_n: float | None = None) -> None:
        """Choose among `count` items.

        Args:
            count: Of items.
            rng: Where the randomness comes from.
            zeta_n: `zeta(count)`, where it is known already.
        """
        self._rng = rng
        self._count = count
        self._zeta = zeta(count) if zeta_n is None else zeta_n
        self._alpha = 1.0 / (1.0 - THETA)
        self._second = zeta(2)
        self._eta = self._new_eta()

    def _new_eta(self) -> float:
        if self._count <= 2:
            # The first two are chosen before it matters.
            return 0.0
        rest = math.pow(2.0 / self._count, 1.0 - THETA)
        return (1.0 - rest) / (1.0 - self._second / self._zeta)

    def grow(self, count: int) -> None:
        """Choose among more items from here on; costs as many terms as there are new ones."""
        if count > self._count:
            self._zeta = zeta(count, self._count, self._zeta)
            self._count = count
            self._eta = self._new_eta()

    def choose(self) -> int:
        """From 0 to `count` - 1."""
        share = self._rng.random()
        scaled = share * self._zeta
        if scaled < 1.0 or self._count == 1:
            return 0
        if scaled < self._second or self._count == 2:
            return 1
        chosen = int(self._count * (self._eta * share - self._eta + 1.0) ** self._alpha)
        return min(chosen, self._count - 1)


class Keys:
    """The keys there are, and which one is next.

    Attributes:
        count: Keys 0 to `count` - 1 are there.
    """

    def __init__(self, count: int, distribution: Distribution, rng: random.Random) -> None:
        """Begin with `count` keys."""
        self.count = count
        self._rng = rng
        self._choose = self._chooser(distribution)

    def insert(self) -> int:
        """A new key."""
        self.count += 1
        return self.count - 1

    def choose(self) -> int:
        """The number of a key that is there."""
        return self._choose()

    def _chooser(self, distribution: Distribution) -> Callable[[], int]:
        if distribution == "uniform":
            return lambda: self._rng.randrange(self.count)
        if distribution == "latest":
            skewed = Zipfian(self.count, self._rng)

            def latest() -> int:
                skewed.grow(self.count)
                return self.count - 1 - skewed.choose()

            return latest
        popular = Zipfian(SCRAMBLED_ITEMS, self._rng, SCRAMBLED_ZETA)
        # As in YCSB the popular keys stay the same when keys are inserted: they are chosen among
        # all that are expected, and one that is not there yet is chosen again.
        expected = 2 * self.count

        def scrambled() -> int:
            while True:
                number = fnv_hash(popular.choose()) % expected
                if number < self.count:
                    return number

        def scrambled_fixed() -> int:
            return fnv_hash(popular.choose()) % self.count

        start = self.count
        return lambda: scrambled_fixed() if self.count == start else scrambled()
