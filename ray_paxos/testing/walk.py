"""One seed's walk: a safety phase full of faults, then a liveness phase that must converge.

Everything in a walk follows from its seed. In the safety phase nothing is promised but that no
rule is ever broken. Then all faults end; from there on the cluster has a budget of virtual time in
which every command called must be answered and all members must hold the same, durably: a walk
that does not converge has failed as surely as one that chose two values.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

from ray_paxos.core.acceptor import Acceptor
from ray_paxos.core.genesis import Configuration
from ray_paxos.core.learner import Learner
from ray_paxos.core.learner_messages import ChainPoint
from ray_paxos.core.messages import RoleName
from ray_paxos.storage.checkpoints import CheckpointPlace, load_checkpoint, published
from ray_paxos.storage.identity import checkpointer_folder
from ray_paxos.testing.cluster import SimulatedCluster
from ray_paxos.testing.codec import PlainTables
from ray_paxos.testing.coverage import ENTRY_ADOPTED, KEPT, SeedCoverage
from ray_paxos.testing.faults import FaultInjector
from ray_paxos.testing.network import SimulatedNetwork
from ray_paxos.testing.options import SECOND_NS, Options
from ray_paxos.testing.recipe_games import RecipeGames, draw_recipes
from ray_paxos.testing.swarm import draw_options
from ray_paxos.testing.trace import Trace, name_member
from ray_paxos.testing.violation import Violation, expect
from ray_paxos.testing.wait_lines import LinedNetwork
from ray_paxos.testing.world import World

SAFETY_MIN_NS = 2 * SECOND_NS
SAFETY_MAX_NS = 8 * SECOND_NS
LIVENESS_NS = 60 * SECOND_NS
SCRUBBING_NS = 240 * SECOND_NS
"""The scrubber rests for a second after each file, and a learner gives its others their turn."""
LOOK_NS = SECOND_NS // 50
STEPS_MAX = 1_000_000
CLIENT_ID = 1_000


@dataclass
class SeedResult:
    """What came of one seed.

    Attributes:
        seed: Which.
        options: Its world, on one line.
        coverage: What it did and saw.
        digest: Of its trace.
        steps: How many things happened.
        violation: The rule that was broken and how; empty for none.
    """

    seed: int
    options: str
    coverage: SeedCoverage
    digest: str
    steps: int
    violation: str = ""


class Walk:
    """One run of one seed."""

    def __init__(
        self,
        seed: int,
        *,
        members: int,
        line: Callable[[str], None] | None = None,
        options: Options | None = None,
        always: Collection[str] = (),
        recipes: Collection[str] | None = None,
    ) -> None:
        """Make the world.

        Args:
            seed: All randomness comes from it.
            members: How many.
            line: Takes readable lines of what happens; None for none.
            options: Instead of those that the seed draws.
            always: Kinds of faults that are played whatever the seed draws.
            recipes: What clients play beside (`recipe_games`): these, or with none of them what
                the seed draws; None for nothing.
        """
        self.seed = seed
        # A string, since Random(-1) is Random(1); members, so that each size has worlds of its own.
        draw = random.Random(f"{seed}/{members}")
        self.options = options or draw_options(draw, members, always)
        # Of recipes alone, so that without them nothing is drawn that would not be drawn anyway.
        own = random.Random(f"recipes/{seed}/{members}")
        if recipes is not None:
            played = tuple(recipes) or draw_recipes(own)
            self.options = replace(self.options, recipes=played)
        self.world = World.make(self.options, draw, Trace(line))
        network = SimulatedNetwork(self.world.scheduler, draw, self.options.network)
        self.games: RecipeGames | None = None
        if self.options.recipes:
            lines = LinedNetwork(network, self.world.scheduler, own)
            self.cluster = SimulatedCluster(self.world, lines)
            self.games = RecipeGames(self.cluster, lines, own)
        else:
            self.cluster = SimulatedCluster(self.world, network)
        self.world.checker.coverage.messages = network.counts
        self.faults = FaultInjector(self.cluster, network)

    def run(self) -> SeedResult:
        """Walk to the end, or to the first broken rule.

        Raises:
            Violation: With the trace's state left as it was then.
        """
        self._begin()
        self._safety_phase()
        self._liveness_phase()
        self._lose_all_power()
        return self.result()

    def result(self, violation: str = "") -> SeedResult:
        """What came of it so far."""
        coverage = self.world.checker.coverage
        coverage.virtual_ns = self.world.now_ns
        return SeedResult(
            self.seed,
            self.options.summary(),
            coverage,
            self.world.trace.digest(),
            self.world.scheduler.steps,
            violation,
        )

    def _begin(self) -> None:
        for member in self.cluster.members.values():
            member.start()
        for index in range(self.options.clients.count):
            self.cluster.add_client(CLIENT_ID + index, index % self.options.groups)
        if self.games is not None:
            self.games.start()
        self.faults.start()

    def _safety_phase(self) -> None:
        coverage = self.world.checker.coverage
        while self.world.now_ns < SAFETY_MAX_NS:
            self._go_on()
            has_played = self.games is None or self.games.is_worth_it
            if coverage.is_worth_it and has_played and self.world.now_ns >= SAFETY_MIN_NS:
                break
        while sum(coverage.faults.values()) < 5:
            self._go_on()

    def _liveness_phase(self) -> None:
        self.faults.heal()
        if self.games is not None:
            self.games.healed()
        is_damaged = any(self.world.checker.damage.values())
        # The more machines there are, the more files a checkpoint has.
        scrubbing_ns = SCRUBBING_NS * (1 + len(self.options.recipes))
        length_ns = LIVENESS_NS + (scrubbing_ns if is_damaged else 0)
        end_ns = self.world.now_ns + length_ns
        coverage = self.world.checker.coverage
        clients = self.cluster.clients.values()
        missing = ""
        while self.world.now_ns < end_ns:
            self._go_on()
            if not coverage.is_worth_it:
                missing = "clients get no answers"
                continue
            for client in clients:
                client.stopped = True
            if self.games is not None:
                self.games.stop()
            missing = self._missing()
            if not missing:
                self._finish()
                return
        raise Violation("liveness", f"not converged {length_ns // SECOND_NS} s on: {missing}")

    def _go_on(self) -> None:
        """A little virtual time."""
        scheduler = self.world.scheduler
        until_ns = scheduler.now_ns + LOOK_NS
        while scheduler.next_ns is not None and scheduler.next_ns <= until_ns:
            scheduler.step()
            if scheduler.steps > STEPS_MAX:
                raise Violation("liveness", f"{STEPS_MAX} steps and no end: something spins")
        scheduler.now_ns = max(scheduler.now_ns, until_ns)

    def _lose_all_power(self) -> None:
        """What all members hold durably, they hold without each other, too.

        The checker compares what each acceptor and learner opens with what was durable before.
        """
        coverage = self.world.checker.coverage
        seen = coverage.seen.copy()
        for member in self.cluster.members.values():
            member.lose_power()
            member.start()
        end_ns = self.world.now_ns + SECOND_NS
        while not all(process.is_serving for process in self.cluster.processes):
            if self.world.now_ns > end_ns:
                raise Violation("liveness", "not all open again after the power was lost")
            self._go_on()
        # It happens to every seed, so it says nothing of this one.
        coverage.seen = seen

    # Convergence.

    def _missing(self) -> str:
        """Why the cluster has not converged; empty once it has."""
        for client in self.cluster.clients.values():
            if not client.is_idle:
                return f"client {client.address.member_id} waits for an answer"
        if self.games is not None and (missing := self.games.missing()):
            return missing
        for process in self.cluster.processes:
            if not process.is_serving:
                return f"{process.name} does not serve"
        for group in range(self.options.groups):
            missing = self._group_missing(group)
            if missing:
                return f"group {group}: {missing}"
        return ""

    def _group_missing(self, group: int) -> str:
        target = self.world.checker.logs[group].reference.applied_through
        configuration = self.world.checker.ledgers[group].configurations.current
        for member_id in set(self.world.member_ids) - set(configuration.member_ids):
            acceptor = self.cluster.process(member_id, RoleName.ACCEPTOR).role
            assert isinstance(acceptor, Acceptor)
            if group in acceptor.state.groups or self.cluster.learner(member_id, group):
                return f"{name_member(member_id)} has not left"
        for member_id in configuration.member_ids:
            learner = self.cluster.learner(member_id, group)
            name = name_member(member_id)
            if learner is None or learner.applied_through < target:
                return f"{name} has not applied through {target}"
            if learner.durable_through < learner.learned_through:
                return f"{name} has not sealed through {learner.learned_through}"
            left = self.world.checker.damage[member_id].left(group)
            if left:
                return f"{name} has not mended {left[0]}"
            missing = self._vote_missing(configuration, member_id, group, learner)
            if missing:
                return f"{name} {missing}"
        return ""

    def _vote_missing(
        self, configuration: Configuration, member_id: int, group: int, learner: Learner
    ) -> str:
        """What a member's acceptor is not yet that it has to be."""
        acceptor = self.cluster.process(member_id, RoleName.ACCEPTOR).role
        assert isinstance(acceptor, Acceptor)
        votes, voter = acceptor.state.groups.get(group), configuration.voter(member_id)
        if voter is None:
            return f"still votes as {votes.replica_id}" if votes is not None else ""
        if votes is None or votes.replica_id != voter.replica_id:
            return f"does not vote as {voter.replica_id} yet"
        if votes.configuration != configuration:
            return f"votes under configuration {votes.configuration.config_id}"
        if votes.floor <= learner.durable_through:
            return f"has the vote floor {votes.floor}, durable is {learner.durable_through}"
        return ""

    def _finish(self) -> None:
        """The last checks, on what all members hold in the end."""
        checker = self.world.checker
        for group in range(self.options.groups):
            digests = {}
            configurations = checker.ledgers[group].configurations
            checker.coverage.configurations(configurations.known())
            checker.coverage.seen[ENTRY_ADOPTED] += checker.ledgers[group].adopted_entries
            for member_id in configurations.current.member_ids:
                learner = self.cluster.learner(member_id, group)
                assert learner is not None
                found, wanted = learner.configuration, configurations.current
                expect(found == wanted, "R5", f"group {group}: {found} instead of {wanted}")
                digests[member_id] = learner.host.digest()
                checker.logs[group].converged(member_id, learner.host)
                self._check_checkpoints(member_id, group)
            if len(set(digests.values())) != 1:
                raise Violation("R6", f"group {group}: digests differ: {digests}")
            reference = checker.logs[group].reference
            checker.coverage.seen[KEPT] += reference.kept
        for client in self.cluster.clients.values():
            for operation in client.history:
                if operation.outcome is None and not operation.is_denied:
                    what = f"number {operation.number} of {operation.session} has no answer"
                    raise Violation("liveness", what)
        checker.check_histories()
        if self.games is not None:
            self.games.finish()

    def _check_checkpoints(self, member_id: int, group: int) -> None:
        """What nobody has loaded yet must be right, too."""
        disk, log = self.cluster.members[member_id].disk, self.world.checker.logs[group]
        folder = checkpointer_folder(group)
        place = CheckpointPlace(disk, PlainTables(), self.world.genesis.hash(), group, folder)
        for instance_id in published(place):
            loaded = load_checkpoint(place, instance_id, self.world.registry)
            cut = loaded.cut
            log.checkpointed(member_id, ChainPoint(instance_id, cut.chain, cut.result_chain))
            log.state_loaded(member_id, loaded.host)
