"""Recipes in one walk: which are played, by whom, and when all have ended.

All of a walk's recipes are in one group, so that they get into each other's way. What is drawn for
them, and by them, comes from one stream that nothing else draws from. Faults hit them as they hit
all else: a walk with recipes has other messages, so its faults fall elsewhere than in the walk of
the same seed without.
"""

from __future__ import annotations

import random

from ray_paxos.testing.cluster import SimulatedCluster
from ray_paxos.testing.recipe_check import Recipe, RecipeCheck, Table
from ray_paxos.testing.recipe_client import RecipeClient
from ray_paxos.testing.recipe_machines import RECIPE_TITLES
from ray_paxos.testing.recipes.barriers import Rounds
from ray_paxos.testing.recipes.counters import Numbers
from ray_paxos.testing.recipes.keys import Lifetimes, Transfers, Watches
from ray_paxos.testing.recipes.ledgers import Jobs
from ray_paxos.testing.recipes.permits import Permits
from ray_paxos.testing.recipes.queues import WorkQueue
from ray_paxos.testing.wait_lines import LinedNetwork

RECIPES: dict[str, type[Recipe]] = {
    kind.title: kind
    for kind in (Permits, WorkQueue, Jobs, Numbers, Rounds, Transfers, Watches, Lifetimes)
}
CLIENT_ID = 100_000
COMMANDS_MIN = 120


def draw_recipes(random: random.Random) -> tuple[str, ...]:
    """What a seed plays: two or three of all."""
    return tuple(random.sample(RECIPE_TITLES, random.randint(2, 3)))


class RecipeGames:
    """The recipes of one walk.

    Attributes:
        recipes: Which.
        clients: Who plays.
    """

    def __init__(
        self, cluster: SimulatedCluster, lines: LinedNetwork, random: random.Random
    ) -> None:
        """Draw who plays; nobody plays yet.

        Args:
            cluster: Where; its options say what is played.
            lines: What waits go by.
            random: Of recipes alone.
        """
        world = cluster.world
        options = world.options
        self.table = Table(
            world.scheduler,
            random,
            options.drift_ppm,
            is_timed="clock jump" not in options.fault_kinds,
        )
        self.group = random.randrange(options.groups)
        self._world = world
        lines.learners = cluster
        self._check = RecipeCheck(
            world.checker.logs[self.group],
            world.scheduler,
            world.checker.reads[self.group].acknowledged,
        )
        self.recipes = [RECIPES[title](self.table) for title in options.recipes]
        self._plays = [play for recipe in self.recipes for play in recipe.plays()]
        self.clients = [
            self._client(cluster, lines, CLIENT_ID + number) for number in range(len(self._plays))
        ]

    def _client(
        self, cluster: SimulatedCluster, lines: LinedNetwork, client_id: int
    ) -> RecipeClient:
        world = self._world
        client = RecipeClient(
            client_id=client_id,
            group=self.group,
            members=world.member_ids,
            genesis=world.genesis.hash(),
            has_lease=world.options.proposer.lease_ns > 0,
            options=world.options.clients,
            scheduler=world.scheduler,
            transport=cluster.transport,
            lines=lines,
            random=random.Random(self.table.random.getrandbits(64)),
            judge=self._check,
        )
        cluster.receivers[client_id] = client.receive
        cluster.callers[client_id] = client.calls.receive_answer
        cluster.receivers[client.waits.address.member_id] = client.waits.receive
        return client

    @property
    def is_worth_it(self) -> bool:
        """Whether enough was done."""
        return self._check.commands >= COMMANDS_MIN

    def start(self) -> None:
        """Begin to play."""
        for client, play in zip(self.clients, self._plays, strict=True):
            client.start(play)

    def healed(self) -> None:
        """Faults are over: from now on waits have to end."""
        self._check.demand_answers()

    def stop(self) -> None:
        """Let all come to an end."""
        for client in self.clients:
            client.stopped = True

    def missing(self) -> str:
        """Who plays still; empty once all have ended."""
        for client in self.clients:
            if not client.is_done:
                return f"{client.name} plays still"
        return ""

    def finish(self) -> None:
        """All have ended: look at what is left, and count what came up."""
        log = self._world.checker.logs[self.group]
        for recipe in self.recipes:
            recipe.finish(log.machine(recipe.machine), log.reference.log_time_ns)
        seen = self._world.checker.coverage.seen
        for what, count in self.table.seen.items():
            seen[what] += count
        seen["recipes: wait ended"] += self._check.answered
        self._world.checker.coverage.commands += self._check.commands
