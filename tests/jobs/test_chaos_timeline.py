"""The timeline: what it shows, and that it needs nothing else."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from chaos_gaps import SECOND_NS, Disturbance, find_gaps
from chaos_plan import FaultKind
from chaos_report import ChaosReport
from chaos_timeline import Second, by_second, check_timeline, write_timeline
from ray_paxos.errors import ConfigurationError


def at(seconds: float) -> int:
    return int(seconds * SECOND_NS)


class Reader(HTMLParser):
    """Notes every element, and whether each is ended."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.depth = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.depth += tag != "meta"

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        self.depth -= 1

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def report(*disturbances: Disturbance) -> ChaosReport:
    return ChaosReport(
        cluster="<demo>",
        members=("m1", "m2", "m3"),
        seed=1,
        clients=2,
        seconds=10,
        start_ns=at(100),
        end_ns=at(110),
        lease_ms=2_000,
        gap_limit_s=6,
        restart_gap_limit_s=12,
        disturbances=disturbances,
        groups=(),
        is_of_many=True,
        overall=(find_gaps([], 0, 0, ()).longest_s, None),
        checks={"gap": ["too long"]},
    )


def read(path: Path) -> Reader:
    reader = Reader()
    reader.feed(path.read_text())
    reader.close()
    return reader


def test_every_second_has_its_count_and_its_latencies() -> None:
    acknowledged = [(at(100.1), at(100.2)), (at(99), at(99.5)), (at(102.1), at(102.105))]
    acknowledged += [(at(102.2), at(102.2 + 0.001 * n)) for n in range(1, 100)]
    seconds = by_second(acknowledged, at(100), at(102.5))
    assert seconds[0].count == 1
    assert seconds[0].p50_ms == pytest.approx(100, rel=1e-3)
    assert seconds[1] == Second(0, None, None)
    assert seconds[2].count == 100
    assert seconds[2].p50_ms == pytest.approx(50, abs=1.1)
    assert seconds[2].p99_ms == pytest.approx(98, abs=1.1)
    assert len(seconds) == 3


def test_faults_are_bars_where_they_happened(tmp_path: Path) -> None:
    path = tmp_path / "run.html"
    faults = (
        Disturbance(FaultKind.KILL_ROLE, "m1/learner", at(101), at(103)),
        Disturbance(FaultKind.KILL_ROLE, "m2/<acceptor>", at(105), None),
        Disturbance(FaultKind.DROP_MASTER, "m1 to m2", at(104), at(104), refusal="too far behind"),
    )
    write_timeline(str(path), report(*faults), [(at(101), at(101.01)), (at(108), at(108.2))])
    page = read(path)
    assert page.depth == 0
    bars = [
        attributes for tag, attributes in page.elements
        if tag == "rect" and "fill-opacity" in attributes
    ]  # fmt: skip
    assert len(bars) == 3
    (dropped,) = [bar for bar in bars if bar["fill"] == "none"]
    killed, unfinished = [bar for bar in bars if bar["fill"] != "none"]
    assert killed["y"] == unfinished["y"] != dropped["y"]
    # 10 s are as wide as the picture: the second bar goes on to the end.
    width = float(killed["width"] or 0) / 2
    assert float(unfinished["width"] or 0) == pytest.approx(5 * width, abs=1)
    assert float(unfinished["x"] or 0) - float(killed["x"] or 0) == pytest.approx(4 * width, abs=1)
    assert "m2/<acceptor>, from 5.0 s to 10.0 s" in page.texts
    assert "m1 to m2, from 4.0 s to 4.0 s; refused: too far behind" in page.texts
    assert "Did not hold: gap." in page.texts


def test_it_needs_nothing_from_elsewhere(tmp_path: Path) -> None:
    path = tmp_path / "run.html"
    write_timeline(str(path), report(), [])
    page = read(path)
    assert {tag for tag, _ in page.elements}.isdisjoint({"script", "link", "img", "iframe"})
    assert not re.search(r"(href|src|url\()", path.read_text())


def test_another_ending_is_refused() -> None:
    check_timeline(None)
    check_timeline("a/run.html")
    with pytest.raises(ConfigurationError, match=r"--timeline run.pdf: allowed: .* ends in .html"):
        check_timeline("run.pdf")
