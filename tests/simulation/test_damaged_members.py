"""R11: any one file of a cleanly stopped member is damaged anywhere, and the cluster starts.

Three members hold thousands of commands, in the very files that production writes. One is damaged
at rest: a flipped bit or a truncation, in any file, sampled over all files and all their parts. All
start; whatever happens, the judge of the simulator sees no rule broken, the other two serve, and
the damaged one either comes to hold the same state, or does not open and names the file.

Each sample runs in a forked process: the cluster is built once, and is untouched in the next one.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

import msgspec
import pytest

from ray_paxos.core.settings import MILLISECOND_NS, CheckpointerSettings, LearnerSettings
from ray_paxos.errors import PaxosError
from ray_paxos.machines.log import decode_page, encode_length
from ray_paxos.storage.parquet import ParquetCodec
from ray_paxos.storage.parquet_tables import ParquetTables
from ray_paxos.testing.damage import held_files
from ray_paxos.testing.scenario import CALM, Scenario
from ray_paxos.testing.violation import Violation
from ray_paxos.testing.workload import LOG_MACHINE

# From Python 3.12 on a fork beside other threads, such as pyarrow's, is warned of.
pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")

BATCHES = 100
COMMANDS = 10_000
DAMAGED = "A"
OPTIONS = replace(
    CALM,
    checkpointer=CheckpointerSettings(
        merge_count=4,
        merge_bytes_max=200_000,
        checkpoint_instances=30,
        checkpoint_retry_ns=100 * MILLISECOND_NS,
        scrub_bytes_per_s=50_000_000,
        scrub_interval_ns=0,
    ),
    learner=LearnerSettings(
        seal_age_ns=20 * MILLISECOND_NS,
        hold_count=60,
        memory_bytes=2_000,
        catch_up_retry_ns=100 * MILLISECOND_NS,
    ),
)


class Ending(msgspec.Struct):
    """What one sample came to.

    Attributes:
        damage: What was done to which file.
        wrong: What broke; empty where nothing did.
        closed: The damaged member's processes that did not open.
        said: What they said.
    """

    damage: str
    wrong: str
    closed: list[str]
    said: list[str]


@dataclass(frozen=True)
class Stopped:
    """A cluster of three that was stopped cleanly.

    Attributes:
        play: Where it ran.
        count: Commands that it holds.
        files: What the member to be damaged has on its disk, by path.
    """

    play: Scenario
    count: int
    files: dict[str, bytes]


@pytest.fixture(scope="module")
def stopped() -> Iterator[Stopped]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ray_paxos.testing.opening.PlainCodec", lambda block_bytes: ParquetCodec())
        patch.setattr("ray_paxos.testing.opening.PlainTables", ParquetTables)
        play = Scenario(3, options=OPTIONS)
        play.stand(DAMAGED)
        client = play.client()
        client.call(DAMAGED, b"first")
        for batch in range(BATCHES):
            lines = [b"line %d of %d" % (i, batch) for i in range(COMMANDS // BATCHES)]
            client.submit(DAMAGED, *lines)
            play.run(ms=15)
        play.until(lambda: all(length(play, name) == COMMANDS + 1 for name in "ABC"))
        play.run(ms=500)
        for process in play.cluster.processes:
            process.stop()
        play.run(ms=10)
        files = {path: data for path, data in play.member(DAMAGED).disk.files().items() if data}
        kinds = {path.split("/")[0] for path in files}
        assert {"acceptor", "learner", "checkpointer", "identity.json"} <= kinds
        assert any(path.endswith("manifest.json") for path in files), "there are checkpoints"
        yield Stopped(play, COMMANDS + 1, files)


def length(play: Scenario, name: str) -> int:
    host = play.learner(name).host
    if LOG_MACHINE not in [spec.name for spec in host.mounted]:
        return 0
    return decode_page(host.query(LOG_MACHINE, encode_length())).length


def damaged(files: dict[str, bytes], draw: random.Random) -> tuple[str, bytes, str]:
    """A path, what its file holds after the damage, and what that was."""
    path = draw.choice(sorted(files))
    data = bytearray(files[path])
    if draw.random() < 0.4:
        size = draw.randrange(len(data))
        return path, bytes(data[:size]), f"{path} cut to {size} of {len(data)}"
    # Half of them where something is: a journal is mostly room.
    written = [i for i in range(len(data)) if data[i]]
    at = draw.choice(written) if draw.random() < 0.5 else draw.randrange(len(data))
    bit = draw.randrange(8)
    data[at] ^= 1 << bit
    return path, bytes(data), f"bit {bit} of byte {at} of {path} flipped"


def start_with_damage(stopped: Stopped, sample: int) -> Ending:
    play = stopped.play
    path, data, damage = damaged(stopped.files, random.Random(sample))
    member = play.member(DAMAGED)
    for held in held_files(member.disk, 0):
        if held.path == path:
            play.world.checker.damage[member.member_id].note(0, held)
    member.disk.overwrite(path, data)
    said: list[str] = []
    play.world.trace.line = said.append
    play.start("A B C")
    play.let_all_stand()
    play.until(lambda: bool(play.masters()), ms=20_000, what="somebody leads")
    play.client().call(play.masters()[0], b"last")
    play.run(ms=4_000)
    state = play.learner("B").host.machine_digest()
    wrong = [
        f"{name} holds another state"
        for name in "ABC"
        if play.process(f"{name}.learner").is_serving
        and (
            length(play, name) != stopped.count + 1
            or play.learner(name).host.machine_digest() != state
        )
    ]
    closed = [p.name for p in play.cluster.processes if not p.is_serving]
    if any(not name.startswith(DAMAGED) for name in closed):
        wrong.append(f"others are down: {closed}")
    refusals = [text for text in said if "cannot open its folder" in text]
    if bool(closed) != bool(refusals) or any(path not in text for text in refusals):
        wrong.append(f"closed: {closed}; said: {refusals[:3]}")
    return Ending(damage, "; ".join(wrong), closed, refusals[:3])


def forked(stopped: Stopped, sample: int) -> Ending:
    """One sample, in a process of its own."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        ending = Ending(f"sample {sample}", "it broke off", [], [])
        try:
            ending = start_with_damage(stopped, sample)
        except (AssertionError, PaxosError, Violation) as error:
            ending.wrong = repr(error)[:2_000]
        finally:
            os.write(writing, msgspec.msgpack.encode(ending)[:60_000])
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        ending = msgspec.msgpack.decode(pipe.read(), type=Ending)
    os.waitpid(child, 0)
    return ending


def check(stopped: Stopped, samples: range) -> None:
    endings = [forked(stopped, sample) for sample in samples]
    wrong = [ending for ending in endings if ending.wrong]
    assert not wrong, f"{len(wrong)} of {len(endings)}, the first: {wrong[0]}"
    kinds = Counter(bool(ending.closed) for ending in endings)
    assert kinds[False], "some are mended"
    assert kinds[True], "some do not open"


def test_any_damage_at_rest_is_mended_or_named(stopped: Stopped) -> None:
    check(stopped, range(12))


@pytest.mark.slow
@pytest.mark.timeout(1_800)
def test_any_of_two_thousand_damages_at_rest_is_mended_or_named(stopped: Stopped) -> None:
    check(stopped, range(12, 2_012))
