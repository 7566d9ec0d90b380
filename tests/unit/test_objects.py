"""The objects machine: one result on all members, whatever the objects' parts are made of."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_paxos.class_shipping import types_of
from ray_paxos.errors import ApplyStoppedError, CommandError, QueryError
from ray_paxos.machines import object_messages as messages
from ray_paxos.machines import objects
from ray_paxos.machines.base import ApplyContext
from ray_paxos.machines.object_messages import Call, Create, Describe, Description, Drop, encode
from ray_paxos.machines.object_values import encode_value
from ray_paxos.machines.objects import ObjectsMachine
from ray_paxos.replicated import Replicated, command
from tests.unit.group_log import GroupLog
from tests.unit.played_shop import (
    NO_TYPES,
    PLAIN,
    Loop,
    Looped,
    Names,
    Order,
    Shop,
    apply,
    ask,
    call,
    create,
    reloaded,
)

ROOT = Path(__file__).parents[2]


@pytest.fixture
def shop() -> ObjectsMachine:
    machine = ObjectsMachine()
    apply(machine, create())
    return machine


# The same results on all members.


def test_pickle_would_tell_equal_members_apart_and_results_do_not(
    shop: ObjectsMachine, tmp_path: Path
) -> None:
    """A text of the method's code is one object, until a checkpoint is loaded."""
    for step in (call("unsendable"), call("add", "bolt", 2)):
        apply(shop, step)
    other = reloaded(shop, tmp_path / "one")
    for machine in (shop, other):
        apply(machine, call("unsendable"))
    held, loaded = (each._objects["shop"].instance.words for each in (shop, other))
    assert held == loaded == ["done", "bolt", "bolt", "done"]
    assert held[0] is held[3]
    assert loaded[0] is not loaded[3]
    assert pickle.dumps(held) != pickle.dumps(loaded), "the danger is there"
    assert apply(shop, call("everything")) == apply(other, call("everything"))
    assert shop.digest() == other.digest()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("add"), st.sampled_from("ab"), st.integers(0, 4)),
            st.tuples(st.just("fail"), st.sampled_from(["value", "address", "data", "refuse"])),
            st.tuples(st.just("hold"), PLAIN),
            st.sampled_from([("unsendable",), ("everything",), ("save",), ("absent",)]),
        ),
        max_size=12,
    )
)
def test_a_member_that_loads_checkpoints_agrees_with_one_that_does_not(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[Any, ...]]
) -> None:
    one, other = ObjectsMachine(), ObjectsMachine()
    made = create()
    assert apply(one, made) == apply(other, made)
    for instance_id, (method, *arguments) in enumerate(steps, 2):
        if method == "save":
            other = reloaded(other, tmp_path_factory.mktemp("saved") / "here")
            continue
        step = call(method, *arguments)
        assert apply(one, step, instance_id) == apply(other, step, instance_id)
        assert one.digest() == other.digest()


STEPS = [
    ("add", "bolt", 3), ("add", "nut", 9), ("fail", "address"), ("fail", "value"),
    ("hold", {"x", "y", "z"}), ("hold", Names(["p", "q", "r"])),
    ("hold", Order("a", 1, frozenset("uvw"))), ("fail", "set"), ("everything",), ("unsendable",),
]  # fmt: skip
PROGRAM = """
import sys
import threading
from pathlib import Path
from ray_paxos.errors import CommandError
from ray_paxos.machines.base import ApplyContext
from ray_paxos.machines.objects import ObjectsMachine
machine = ObjectsMachine()
here = Path(sys.argv[1])
if (here / "saved").exists():
    machine.load(here / "saved")
for number, path in enumerate(sorted(here.glob("*.command")), 1):
    try:
        print((machine.apply(path.read_bytes(), ApplyContext(number)) or b"").hex())
    except CommandError as error:
        print(str(error).encode().hex())
print(machine.digest().hex())
assert "tests.unit.played_shop" not in sys.modules and "ray" not in sys.modules
"""


@pytest.mark.parametrize("is_loaded", [False, True])
def test_a_process_that_has_never_seen_the_class_agrees(tmp_path: Path, is_loaded: bool) -> None:
    """Under another hash seed, and elsewhere, where the class's module cannot be imported."""
    machine = ObjectsMachine()
    steps = [create(), *(call(str(method), *arguments) for method, *arguments in STEPS)]
    if is_loaded:
        for step in steps:
            apply(machine, step)
        (tmp_path / "saved").mkdir()
        machine.save(tmp_path / "saved")
        steps = steps[1:]
    for number, step in enumerate(steps):
        (tmp_path / f"{number:03}.command").write_bytes(step)
    expected = [apply(machine, step, number).hex() for number, step in enumerate(steps, 1)]
    for hash_seed in ("1", "77"):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(tmp_path)],
            cwd=tmp_path,
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": _only_ours(tmp_path)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.split() == [*expected, machine.digest().hex()]


def _only_ours(directory: Path) -> str:
    """A folder with the package and without these tests."""
    folder = directory / "path"
    if not folder.exists():
        folder.mkdir()
        (folder / "ray_paxos").symlink_to(ROOT / "ray_paxos")
    return str(folder)


def test_two_machines_in_one_process_share_no_class() -> None:
    made = create()
    one, other = ObjectsMachine(), ObjectsMachine()
    for machine in (one, other):
        apply(machine, made)
    classes = [type(each._objects["shop"].instance) for each in (one, other)]
    assert classes[0] is not classes[1]
    assert Shop not in classes
    assert classes[0].__name__ == "Shop"


# Exceptions.


@pytest.mark.parametrize(
    ("how", "text"),
    [
        ("value", "('bad', 7)"),
        ("address", "found <object object at 0x...>"),
        ("data", "function Shop.fail.<locals>.<lambda> at 0x..."),
        ("refuse", "no"),
        ("set", "(it holds a set)"),
        ("absent", "'absent'"),
    ],
)
def test_an_exception_is_a_result_without_addresses(
    shop: ObjectsMachine, how: str, text: str
) -> None:
    data = apply(shop, call("fail", how))
    result = messages.decode_result(data)
    assert isinstance(result, messages.Raised)
    assert text in result.text
    assert data == apply(shop, call("fail", how)), "another object, at another address"
    assert shop._objects["shop"].instance.words == [how, how], "what it changed stays"


@pytest.mark.parametrize(
    ("how", "cause"),
    [
        ("memory", "MemoryError"),
        ("exit", "SystemExit: 3"),
        ("recursion", "RecursionError: maximum recursion depth exceeded"),
    ],
)
def test_what_depends_on_the_member_stops_it(how: str, cause: str) -> None:
    log = GroupLog(ObjectsMachine, machine="objects")
    session = log.open_session()
    assert not log.submit(session, 1, create(), machine="objects").notes
    with pytest.raises(ApplyStoppedError, match=cause):
        log.submit(session, 2, call("fail", how), machine="objects")


def test_a_result_that_cannot_be_sent_is_refused_and_executed(shop: ObjectsMachine) -> None:
    with pytest.raises(CommandError, match=r"was executed; what it returned .* a generator"):
        shop.apply(call("unsendable"), ApplyContext(2))
    assert shop._objects["shop"].instance.words == ["done"]


@pytest.mark.parametrize("depth", [101, 200, 5_000, 200_000])
def test_arguments_that_are_nested_too_deeply_do_not_stop_a_member(
    shop: ObjectsMachine, depth: int
) -> None:
    """Whoever wrote them: the interpreter's stack has no say in it."""
    arguments = b"\x92\x01\x92\x00" + b"\x92\x00" * depth + b"\x01"
    with pytest.raises(CommandError, match="ValueError: nested over 100 deep"):
        shop.apply(encode(Call("shop", "hold", arguments)), ApplyContext(2))


# What is refused changes nothing.


class Other(Replicated):
    @command
    def run(self) -> None: ...


class Locked(Replicated):
    def __init__(self) -> None:
        self._out = threading.Lock()

    @command
    def run(self) -> None: ...


def test_what_is_refused_changes_nothing(shop: ObjectsMachine) -> None:
    before = shop.digest()
    bad_class = encode(Create("x", "X", 1, b"junk", encode_value(((), {}), NO_TYPES)))
    unknown = encode_value(((Loop(),), {}), types_of(Looped))
    for each, why in [
        (b"junk", "not a command"),
        (create("shop", Other), "is a Shop of version 1, not a Other of version 1"),
        (create(""), "1 to 500 characters"),
        (create("x" * 501), "1 to 500 characters"),
        (bad_class, "the class cannot be loaded on members: UnpicklingError"),
        (create("locked", Locked), r"self\._out \(a lock\) cannot be pickled"),
        (call("count"), "count as a command: it is a query in Shop of version 1"),
        (call("absent"), "absent as a command: it is absent"),
        (call("add", name="nowhere"), "no object 'nowhere'"),
        (encode(Call("shop", "hold", unknown)), "LookupError: Loop was not shipped"),
        (encode(Call("shop", "hold", b"\xc1")), "arguments cannot be read"),
        (encode(messages.Upgrade("shop", 2, "Shop", 3, b"", b"")), "version 1, not 2"),
        (encode(messages.Upgrade("shop", 1, "Shop", 1, b"", b"")), "no upgrade"),
        (encode(messages.Upgrade("shop", 1, "Shop", 2, b"", b"")), "cannot be loaded"),
    ]:
        with pytest.raises(CommandError, match=why):
            shop.apply(each, ApplyContext(2))
        assert shop.digest() == before
    for request in (b"junk", ask("add"), ask("absent"), ask("count", name="nowhere")):
        with pytest.raises(QueryError):
            shop.query(request)
    assert list(shop._classes) == [shop._objects["shop"].loaded.digest]


def test_the_number_of_objects_is_bounded(
    shop: ObjectsMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "OBJECTS_MAX", 1)
    with pytest.raises(CommandError, match="the limit"):
        shop.apply(create("second"), ApplyContext(2))


def test_classes_go_with_their_last_object(shop: ObjectsMachine) -> None:
    made = create("second")
    apply(shop, made)
    apply(shop, encode(Create(**{**msgspec.structs.asdict(msgspec_create(made)), "name": "third"})))
    assert len(shop._classes) == 1, "what is equal is loaded once"
    apply(shop, create("other", Other))
    assert len(shop._classes) == 2
    apply(shop, encode(Drop("other")))
    assert len(shop._classes) == 1
    for name in ("second", "third", "shop"):
        apply(shop, encode(Drop(name)))
    assert not shop._classes
    description = messages.decode_answer(shop.query(encode(Describe("second"))))
    assert description == Description("", 0)


def msgspec_create(data: bytes) -> Create:
    decoded = messages.decode_command(data)
    assert isinstance(decoded, Create)
    return decoded


# Digests.


def test_a_digest_sees_all_that_has_a_form_and_the_count_of_commands(tmp_path: Path) -> None:
    made = create("loop", Looped)
    digests = set()
    for steps in ([], [1], [2], [1, -1], [0, 0]):
        machine = ObjectsMachine()
        apply(machine, made)
        for by in steps:
            apply(machine, call("grow", by, name="loop"))
        digests.add(machine.digest())
        again = reloaded(machine, tmp_path / f"{steps}")
        assert again.digest() == machine.digest()
        instance = again._objects["loop"].instance
        assert instance.loop.own is instance.loop, "a checkpoint keeps identities"
    assert len(digests) == 4, "of those of two steps the states are equal"
