"""Files of histories: our own lines of JSON, Jepsen's logs, and EDN maps."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from ray_paxos.testing.history import (
    History,
    HistoryFormatError,
    HistoryRecorder,
    Invocation,
    Outcome,
)
from ray_paxos.testing.history_formats.edn import (
    EdnError,
    EdnMap,
    EdnSet,
    Keyword,
    Symbol,
    read_forms,
)
from ray_paxos.testing.history_formats.jsonl import format_event, format_header, write_history
from ray_paxos.testing.history_formats.reading import read_histories, read_history
from ray_paxos.testing.linearizability.models import MODELS
from tests.unit.linearizability_reference import random_history


def read_text(folder: Path, text: str) -> History:
    path = folder / "history"
    path.write_text(text, encoding="utf-8")
    return read_history(path)


def told(history: History) -> list[tuple[object, ...]]:
    """What the operations are, without ids and positions."""
    return [
        (o.process, o.function, o.key, o.argument, o.outcome.value, o.result)
        for o in history.operations()
    ]


# Our own lines.


@pytest.mark.parametrize("model", MODELS)
def test_what_is_written_is_read_again(model: str, tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    for seed in range(20):
        history = random_history(model, random.Random(seed), operations=6)
        write_history(path, history)
        again = read_history(path)
        assert again.events == history.events
        assert again.lines == tuple(range(2, 2 + len(history.events)))


HEADER = format_header()
ASKED = '{"event": "invoke", "id": 0, "process": 1, "time_ns": 5, "function": "get", "key": "a"}\n'


def test_a_killed_writer_leaves_a_torn_line_which_is_left_out(tmp_path: Path) -> None:
    recorder = HistoryRecorder()
    lines = [HEADER]
    number = recorder.invoke("é", "get", "\u2028", now_ns=1)
    recorder.ok(number, "x\n", now_ns=2)
    lines += map(format_event, recorder.history().events)
    whole = "".join(lines)
    for end in range(len(HEADER), len(whole) + 1):
        history = read_text(tmp_path, whole[:end])
        # A line is complete with its closing bracket.
        assert len(history.events) == whole[len(HEADER) : end].count("}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (ASKED, "line 1: the first line must be the header"),
        ('{"format": "ray_paxos.history", "version": 2}\n', "line 1: version 2; this release"),
        (HEADER + "what\n" + ASKED, "line 2: not a JSON object: 'what'"),
        (HEADER + "[1]\n" + ASKED, "line 2: not a JSON object"),
        (HEADER + "[" * 100_000 + "\n", "line 2: not a JSON object"),
        (HEADER + "\n" + ASKED + ASKED, "line 4: operation 0 is invoked twice"),
        (HEADER + '{"event": "ok", "id": 3, "time_ns": 1}\n', "line 2: operation 3 is answered"),
        (HEADER + ASKED.replace("invoke", "call"), "line 2: event 'call' is none of invoke, ok"),
        (HEADER + ASKED.replace('"invoke"', "[]"), r"line 2: event \[\] is none of invoke, ok"),
        (HEADER + ASKED.replace("5", "5.5"), "line 2: time_ns 5.5: a whole number is needed"),
        (HEADER + ASKED.replace('"id": 0', '"id": true'), "line 2: id True: a whole number"),
        (HEADER + ASKED.replace('"process": 1', '"process": null'), "line 2: process None: text"),
        (HEADER + ASKED.replace('"get"', "7"), "line 2: function 7: text is needed"),
        (HEADER + ASKED.replace('"a"', "{}"), "line 2: {} is no value of a history"),
    ],
)
def test_a_bad_line_is_named(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(HistoryFormatError, match=message) as refusal:
        read_text(tmp_path, text)
    assert str(tmp_path) in str(refusal.value)


def test_files_of_several_processes_are_merged(tmp_path: Path) -> None:
    paths = []
    for process in (1, 2):
        recorder = HistoryRecorder()
        number = recorder.invoke(process, "read", now_ns=10 * process)
        recorder.ok(number, process, now_ns=25 + process)
        path = tmp_path / f"{process}.jsonl"
        write_history(path, recorder.history())
        paths.append(path)
    history = read_histories(paths)
    assert [event.time_ns for event in history.events] == [10, 20, 26, 27]
    assert history.lines == ()
    log = tmp_path / "jepsen.log"
    log.write_text(LOG)
    with pytest.raises(HistoryFormatError, match="not a JSON object"):
        read_histories([paths[0], log])


@pytest.mark.parametrize("content", [b"", b"\n\n", b"what\n", b"\xff\xfe{}"])
def test_what_is_no_history_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "history"
    path.write_bytes(content)
    with pytest.raises(HistoryFormatError, match=str(path)):
        read_history(path)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HistoryFormatError, match="No such file"):
        read_history(tmp_path / "missing")
    with pytest.raises(HistoryFormatError, match="directory"):
        read_history(tmp_path)


# Jepsen.

LOG = """\
2015-02-01 INFO  jepsen.core - Worker 0 starting
INFO  jepsen.util - 0\t:invoke\t:read\tnil
INFO  jepsen.util - 1\t:invoke\t:write\t4
INFO  jepsen.util - :nemesis\t:info\t:start\tnil
INFO  jepsen.util - 0\t:ok\t:read\tnil
INFO  jepsen.util - 2\t:invoke\t:cas\t[4 -1]
WARN  jepsen.util - could not :read the :value
INFO  jepsen.util - 1\t:ok\t:write\t4
INFO  jepsen.util - 0\t:invoke\t:cas\t[0 3]
INFO  jepsen.util - 0\t:fail\t:cas\t[0 3]
INFO  jepsen.util - 2\t:info\t:cas\t:timed-out
INFO  jepsen.util - 1\t:invoke\t:read\tnil
INFO  jepsen.util - 1\t:info\t:read\t:timed-out "no {answer"
INFO  jepsen.util - 6\t:invoke\t:read\tnil
INFO  jepsen.util - 6\t:fail\t:read\t:timed-out
INFO  jepsen.util - 0\t:invoke\t:write\t:on
"""

LOGGED = [
    (0, "read", None, None, "ok", None),
    (1, "write", None, 4, "ok", 4),
    (2, "cas", None, (4, -1), "unknown", None),
    (0, "cas", None, (0, 3), "failed", None),
    (1, "read", None, None, "unknown", None),
    (6, "read", None, None, "failed", None),
    (0, "write", None, ":on", "unknown", None),
]


def test_a_jepsen_log_is_read_without_what_is_no_operation(tmp_path: Path) -> None:
    history = read_text(tmp_path, LOG)
    assert told(history) == LOGGED
    assert history.lines == (2, 3, 5, 6, 8, 9, 10, 11, 12, 13, 14, 15, 16)
    assert told(read_text(tmp_path, LOG.replace("\n", "\r\n"))) == LOGGED


@pytest.mark.parametrize(
    "line",
    [
        "2017-04-05 12:00:01,123{GMT}\tINFO\t[jepsen worker 3] jepsen.util: 3\t:invoke\t:write\t1",
        "3 :invoke :write 1",
        "INFO  jepsen.worker - 3   :invoke   :write   1   ",
    ],
)
def test_logs_of_other_releases_are_read(line: str, tmp_path: Path) -> None:
    assert told(read_text(tmp_path, line)) == [(3, "write", None, 1, "unknown", None)]


def test_a_client_that_asks_again_never_had_its_answer(tmp_path: Path) -> None:
    log = "1 :invoke :write 1\n1 :invoke :write 2\n1 :ok :write 2\n1 :info :write :crashed\n"
    assert told(read_text(tmp_path, log)) == [
        (1, "write", None, 1, "unknown", None),
        (1, "write", None, 2, "ok", 2),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 :invoke :read nil\n2 :ok :read 3\n", "line 2: process 2: ok of read, but nothing"),
        ("1 :invoke :read nil\n1 :ok :write 3\n", "line 2: process 1: ok of write, but asked was"),
        ("1 :invoke :cas [1\n", "line 1: '\\[' is never completed"),
        ("1 :invoke :cas {1 2}\n", "line 1: a map or a set where a value is needed"),
        ("1 :invoke :append [1 2 3]\n", "line 1: append of \\(1, 2, 3\\), which is no"),
    ],
)
def test_a_log_that_makes_no_sense_is_refused(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(HistoryFormatError, match=message):
        read_text(tmp_path, text)


MAPS = [
    '{:process 0, :type :invoke, :f :append, :key "k", :value "x \\"0\\" \\u0041\\n"}',
    '{:process 0, :type :ok, :f :append, :key "k", :value "x \\"0\\" A\\n"}',
    '{:index 2 :time 1234567890123 :f :get :value nil :key "k" :type :invoke :process 1}',
    "{:process :nemesis, :type :info, :f :start, :value {:nodes #{n1 n2}}}",
    '{:process 2, :type :invoke, :f :put, :key "k", :value ""}',
    '{:process 1, :type :ok, :f :get, :key "k", :value "", :error nil}',
    "{:process 2, :type :info, :f :put, :value {:any thing}, :error [:timeout #_#inst 1 3]}",
    "{:process 3, :type :invoke, :f :get, :value [7 nil]}",
    '{:process 3, :type :fail, :f :get, :value "x", :exception {:via [{:type :a}]}}',
    "{:process 4, :type :invoke, :f :get, :key :a}",
]
MAPPED = [
    (0, "append", "k", 'x "0" A\n', "ok", 'x "0" A\n'),
    (1, "get", "k", None, "ok", ""),
    (2, "put", "k", "", "unknown", None),
    (3, "get", 7, None, "failed", None),
    (4, "get", ":a", None, "unknown", None),
]


@pytest.mark.parametrize(
    "text",
    [
        "\n".join(MAPS),
        "".join(MAPS),
        "[" + "\n".join(MAPS) + "]",
        "; a history\n(" + ",\n".join(MAPS) + ")\n",
        "#jepsen.history.Op" + "\n#jepsen.history.Op ".join(MAPS),
        ("\n".join(MAPS)).replace(", ", ",\n  "),
        "\ufeff" + "\n".join(MAPS) + "\n#_ {:type :what}\n",
    ],
    ids=["lines", "one line", "vector", "list", "tagged", "over many lines", "mark and discard"],
)
def test_edn_maps_are_read_however_they_stand(text: str, tmp_path: Path) -> None:
    assert told(read_text(tmp_path, text)) == MAPPED


def test_a_map_that_speaks_of_a_log_is_still_a_map(tmp_path: Path) -> None:
    text = '{:process 0, :type :invoke, :f :append, :key "k", :value "\n3 :invoke :read nil\n"}'
    assert told(read_text(tmp_path, text))[0][:3] == (0, "append", "k")


def test_maps_of_a_vector_keep_their_own_lines(tmp_path: Path) -> None:
    text = "[\n{:process 1 :type :invoke :f :read}\n\n{:process 1 :type :ok :f :read :value 3}]"
    assert read_text(tmp_path, text).lines == (2, 4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{:process 1, :type :invoke}", "line 1: :f names no function"),
        ("\n{:process 1, :type :call, :f :get}", "line 2: :type is none of :invoke"),
        ('{:process "1", :type :ok, :f :get}', "line 1: :process '1' is no client's number"),
        ("{:valid? true}", "line 1: :process None is no client's number"),
        ("[\n\n7]", "line 1: 7 is no operation"),
        ("{:process 1 :process 2}", "line 1: a map has a key twice"),
        ("{:process 1 :type}", "line 1: a map has a key without a value"),
        ("\n{:process 1", "line 2: '{' is never completed"),
        ("{:process 1]", "line 1: ']' closes nothing"),
        ('\n\n{:process "1', "line 3: unreadable: '\"1'"),
        ("[" * 100_000, "line 1: nested more than 100 deep"),
        ("{:process 0 :type :invoke :f :get :key \n1}{:process 0 :type :ok :f :get :key 2}",
         "line 2: process 0: ok of get with key 2, but asked was 1"),
        ("[]", "it holds no operation"),
    ],
)  # fmt: skip
def test_edn_that_is_no_history_is_refused(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(HistoryFormatError, match=message):
        read_text(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("nil", None),
        ("true", True),
        ("false", False),
        ("-7", -7),
        ("+7N", 7),
        ("1.5", 1.5),
        ("-2e3M", -2000.0),
        ("##-Inf", float("-inf")),
        ("1/2", Symbol("1/2")),
        ("nile", Symbol("nile")),
        (":a/b", Keyword("a/b")),
        (r'"a\tb\\\"\u00e9\101"', 'a\tb\\"éA'),
        ("[1, [2] ()]", (1, (2,), ())),
        (r"[\a \newline \u0041 \)]", ("a", "\n", "A", ")")),
        ("#{1 2}", EdnSet((1, 2))),
        ("{:a {}}", EdnMap(((Keyword("a"), EdnMap(())),))),
        ('#inst "2020"', "2020"),
        ("#a #b [#_ 1 #_ #_ 2 3 4]", (4,)),
        ("; nothing\n1 ; more", 1),
    ],
)
def test_the_forms_of_edn(text: str, form: object) -> None:
    ((_, found),) = read_forms(text)
    assert found == form
    assert type(found) is type(form)


@pytest.mark.parametrize("text", [":", r'"\q"', ")", "#_", "#tag", "[1 #_]", "9" * 5_000, '"a'])
def test_what_is_no_edn_is_refused(text: str) -> None:
    with pytest.raises(EdnError):
        list(read_forms(text))


def test_the_real_files_hold_what_their_lines_hold(jepsen_data: Path) -> None:
    for path in sorted(jepsen_data.glob("*.*")):
        if path.suffix == ".csv":
            continue
        history = read_history(path)
        lines = path.read_text().splitlines()
        assert len(history.events) == len(lines)
        for event, line in zip(history.events, lines, strict=True):
            assert isinstance(event, Invocation) == (":invoke" in line)
            if not isinstance(event, Invocation):
                word = {Outcome.OK: ":ok", Outcome.FAILED: ":fail", Outcome.UNKNOWN: ":info"}
                assert word[event.outcome] in line


def test_the_header_is_what_the_documentation_says() -> None:
    assert json.loads(HEADER) == {"format": "ray_paxos.history", "version": 1}
