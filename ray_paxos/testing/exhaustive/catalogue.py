"""Numbers for everything that a state is made of, and each step of a site done only once.

A state of the whole model is a handful of small numbers: for every site the number of its local
state and of the set of packets sent to it, the number of the ledger, and what is left of each
budget. Holzmann calls this collapse compression ("State Compression in SPIN", 1997): few local
states make very many global ones.

It pays twice here. A role is a function of its state and its input, so what a site does with a
packet is worked out once per local state and looked up ever after; the real core runs some ten
thousand times for millions of transitions.
"""

from __future__ import annotations

import pickle
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from ray_paxos.core.genesis import Configuration
from ray_paxos.core.messages import Address
from ray_paxos.core.wire import encode_envelope
from ray_paxos.testing.exhaustive.actions import Action, Deliver, Packet
from ray_paxos.testing.exhaustive.canonical import Canon
from ray_paxos.testing.exhaustive.facts import Fact
from ray_paxos.testing.exhaustive.ledger import Ledger
from ray_paxos.testing.exhaustive.roles import Recipe
from ray_paxos.testing.exhaustive.site import Site
from ray_paxos.testing.violation import Violation

NO_FACTS = 0


@dataclass(frozen=True, slots=True)
class Step:
    """What comes of an action at one site.

    Attributes:
        local: The site's next local state.
        posts: For each site that something is sent to, the packets.
        facts: What the ledger has to take in; see `Ledgers.facts`.
        violation: The rule that was broken, and how; empty for none.
    """

    local: int
    posts: tuple[tuple[int, frozenset[int]], ...]
    facts: int
    violation: str = ""


class Packets:
    """All packets that any path ever sent.

    Attributes:
        all: By number.
    """

    def __init__(self, sites: Sequence[Site], is_lost: Callable[[Packet], bool]) -> None:
        """Start with none.

        Args:
            sites: Where packets arrive.
            is_lost: Says which packets never arrive.
        """
        self.all: list[Packet] = []
        self._numbers: dict[tuple[Address, bytes], int] = {}
        self._is_lost = is_lost
        self._site_of: dict[Address, int] = {
            address: number for number, site in enumerate(sites) for address in site.processes
        }

    def number(self, packet: Packet) -> int:
        """A packet's number."""
        # Encoded, since a message with results holds what has no hash.
        key = (packet.to, encode_envelope(packet.envelope))
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self.all)
            self.all.append(packet)
        return number

    def posts(self, packets: Iterable[Packet]) -> tuple[tuple[int, frozenset[int]], ...]:
        """Packets by the site where they may arrive; the others are lost."""
        by_site: dict[int, set[int]] = {}
        for packet in packets:
            site = self._site_of.get(packet.to)
            if site is not None and not self._is_lost(packet):
                by_site.setdefault(site, set()).add(self.number(packet))
        return tuple((site, frozenset(numbers)) for site, numbers in sorted(by_site.items()))


class Inboxes:
    """All sets of packets that were ever sent to one site; number 0 is the empty one."""

    def __init__(self) -> None:
        """Start with the empty one."""
        self.all: list[frozenset[int]] = [frozenset()]
        self._numbers: dict[frozenset[int], int] = {frozenset(): 0}
        self._grown: dict[tuple[int, frozenset[int]], int] = {}

    def number(self, packets: frozenset[int]) -> int:
        """A set's number."""
        number = self._numbers.get(packets)
        if number is None:
            number = self._numbers[packets] = len(self.all)
            self.all.append(packets)
        return number

    def grown(self, inbox: int, packets: frozenset[int]) -> int:
        """The number of an inbox once more packets are in it."""
        key = (inbox, packets)
        number = self._grown.get(key)
        if number is None:
            number = self._grown[key] = self.number(self.all[inbox] | packets)
        return number


class Ledgers:
    """All ledgers; number 0 is the empty one. The facts of one step have a number, too."""

    def __init__(self, genesis: Configuration) -> None:
        """Start with the empty one."""
        self.all = [Ledger(genesis)]
        self._facts: list[tuple[Fact, ...]] = [()]
        self._numbers_of_facts: dict[tuple[Fact, ...], int] = {(): NO_FACTS}
        self._numbers: dict[frozenset[Fact], int] = {frozenset(): 0}
        self._after: dict[tuple[int, int], int] = {}

    def facts(self, facts: Iterable[Fact]) -> int:
        """The number of some facts; `NO_FACTS` for none."""
        each_once = tuple(dict.fromkeys(facts))
        number = self._numbers_of_facts.get(each_once)
        if number is None:
            number = self._numbers_of_facts[each_once] = len(self._facts)
            self._facts.append(each_once)
        return number

    def after(self, ledger: int, facts: int) -> int:
        """The number of a ledger once it has taken facts in.

        Raises:
            Violation: They contradict it.
        """
        key = (ledger, facts)
        number = self._after.get(key)
        if number is None:
            grown = self.all[ledger]
            for fact in self._facts[facts]:
                grown = grown.after(fact)
            number = self._numbers.get(grown.facts)
            if number is None:
                number = self._numbers[grown.facts] = len(self.all)
                self.all.append(grown)
            self._after[key] = number
        return number


class LocalStates:
    """All local states of one site, and the steps between them.

    Attributes:
        digests: By number, the hash of a local state's text.
        seen: How many steps were special, and how (`situations`).
    """

    def __init__(
        self,
        recipe: Recipe,
        packets: Packets,
        ledgers: Ledgers,
        actions: Sequence[Action],
        canon: Canon,
    ) -> None:
        """Start with none.

        Args:
            recipe: Makes the roles that start again.
            packets: Of the model.
            ledgers: Of the model.
            actions: What else may happen; `key` -1 is the first of them, -2 the second ...
            canon: Writes states down.
        """
        self._recipe = recipe
        self._packets = packets
        self._ledgers = ledgers
        self._actions = actions
        self._canon = canon
        self.digests: list[bytes] = []
        self.seen: Counter[str] = Counter()
        self._saved: list[bytes] = []
        self._numbers: dict[bytes, int] = {}
        self._steps: list[dict[int, Step | None]] = []
        self._loaded: tuple[int, Site] | None = None

    def __len__(self) -> int:
        """How many there are."""
        return len(self._saved)

    def number(self, site: Site) -> int:
        """The number of a site's state; what is passed in is not kept."""
        digest = self._canon.digest(site)
        number = self._numbers.get(digest)
        if number is None:
            number = self._numbers[digest] = len(self._saved)
            # Pickled, read and pickled again: from here on the bytes stay the same, whichever
            # parts the first object shared by accident.
            self._saved.append(pickle.dumps(pickle.loads(pickle.dumps(site))))
            self._steps.append({})
            self.digests.append(digest)
        return number

    def load(self, number: int) -> Site:
        """A copy of a local state, to look at."""
        site = pickle.loads(self._saved[number])
        assert isinstance(site, Site)
        return site

    def action(self, key: int) -> Action:
        """What a key stands for: the packet of that number arrives, or another action."""
        return Deliver(self._packets.all[key]) if key >= 0 else self._actions[-1 - key]

    def step(self, number: int, key: int) -> Step | None:
        """What an action does in a local state; None where it does nothing at all.

        Args:
            number: Of the local state.
            key: Of the action.
        """
        steps = self._steps[number]
        try:
            return steps[key]
        except KeyError:
            step = steps[key] = self._work_out(number, self.action(key))
            return step

    def _work_out(self, number: int, action: Action) -> Step | None:
        loaded = self._loaded
        site = loaded[1] if loaded is not None and loaded[0] == number else self.load(number)
        self._loaded = None
        if not site.can(action):
            self._loaded = (number, site)
            return None
        try:
            outcome = site.step(action, self._recipe)
        except Violation as violation:
            return Step(number, (), NO_FACTS, str(violation))
        except Exception:
            # Whatever the code under test raises is a finding.
            return Step(number, (), NO_FACTS, f"exception: {traceback.format_exc()}")
        self.seen.update(set(outcome.seen))
        if pickle.dumps(site) == self._saved[number]:
            following = number
            self._loaded = (number, site)
        else:
            following = self.number(site)
        posts = self._packets.posts(outcome.packets)
        facts = self._ledgers.facts(outcome.facts)
        if following == number and not posts and facts == NO_FACTS:
            return None
        return Step(following, posts, facts)
