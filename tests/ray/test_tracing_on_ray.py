"""A user's trace goes through client, proposer, acceptors and learner, with Ray's own hook."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.ray.subprocesses import sandbox

# As a user writes one: each process writes its spans to a file of its own.
HOOK = """
import json, os
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult


class LineExporter(SpanExporter):
    def __init__(self, path):
        self.file = open(path, "a", buffering=1)

    def export(self, spans):
        for span in spans:
            print(json.dumps({
                "name": span.name,
                "trace": f"{span.context.trace_id:032x}",
                "span": f"{span.context.span_id:016x}",
                "parent": f"{span.parent.span_id:016x}" if span.parent else "",
                "start_ns": span.start_time,
                "end_ns": span.end_time,
                "attributes": dict(span.attributes),
                "pid": os.getpid(),
            }), file=self.file)
        return SpanExportResult.SUCCESS


def set_up():
    provider = TracerProvider()
    path = os.path.join(os.environ["SPANS"], f"{os.getpid()}.jsonl")
    provider.add_span_processor(SimpleSpanProcessor(LineExporter(path)))
    trace.set_tracer_provider(provider)
"""

PROGRAM = """
import json, os, sys
import ray
import ray_paxos
from opentelemetry import trace
from ray_paxos.config import RayConfiguration, parse_configuration
from ray_paxos.machines import kv

os.environ.update(RayConfiguration().environment())
hook = {"_tracing_startup_hook": "spans_hook:set_up"} if sys.argv[2] == "traced" else {}
ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, **hook)
text = f"cluster: traced\\nmembers: 3\\nroles: {sys.argv[1]}\\nlogging: {{level: WARNING}}\\n"
cluster = ray_paxos.start(parse_configuration(text))
tracer = trace.get_tracer("user")
client = cluster.client()
put = kv.encode_put("a", b"1")


@ray.remote(num_cpus=0)
def work(key):
    with ray_paxos.connect("traced").client() as own:
        return own.propose(kv.encode_put(key, b"1")).instance_id


def trace_id():
    return f"{trace.get_current_span().get_span_context().trace_id:032x}"


told = {}
with tracer.start_as_current_span("user"):
    told["one"] = trace_id(), client.propose(put).instance_id
with tracer.start_as_current_span("user"):
    futures = [client.propose_async(put) for _ in range(20)]
    told["async"] = trace_id(), futures[0].result().instance_id
    for future in futures:
        future.result()
with tracer.start_as_current_span("user"):
    told["many"] = trace_id(), client.propose_many([put] * 5)[0].instance_id
with tracer.start_as_current_span("user"):
    told["task"] = trace_id(), ray.get(work.remote("b"))
unsampled = trace.NonRecordingSpan(trace.SpanContext(0xABC, 0xDEF, True, trace.TraceFlags(0)))
with trace.use_span(unsampled):
    told["unsampled"] = trace_id(), client.propose(put).instance_id
assert client.query(kv.encode_get("a"))
roles = [role for member in cluster.status().members for role in member.roles.values()]
assert {role.phase for role in roles} == {"serving"}
assert set(cluster.checkpoint()) == {"m1", "m2", "m3"}
loaded = [name for name in sys.modules if name.startswith("opentelemetry.sdk.trace")]
client.close()
cluster.stop(delete_data=True)
ray.shutdown()
print(json.dumps({"told": told, "loaded": loaded}))
"""

TREMBLE_NS = 1_000_000
"""By so much the wall times of two processes of one machine may be off."""
HOPS = ("ray_paxos.queue", "ray_paxos.accept", "ray_paxos.apply")


@dataclass(frozen=True)
class Span:
    """As the hook's exporter writes it."""

    name: str
    trace: str
    span: str
    parent: str
    start_ns: int
    end_ns: int
    attributes: dict[str, Any]
    pid: int


def run(roles: str, tracing: str) -> tuple[dict[str, Any], list[Span]]:
    """Run the program; what it told, and all spans of all processes."""
    with sandbox() as box:
        spans = box.folder / "spans"
        spans.mkdir()
        (box.folder / "spans_hook.py").write_text(HOOK)
        (line,) = box.run(
            PROGRAM,
            roles,
            tracing,
            RAY_AUTH_MODE="disabled",
            SPANS=str(spans),
            PYTHONPATH=f"{box.environment['PYTHONPATH']}:{box.folder}",
        )
        return json.loads(line), [span for path in spans.iterdir() for span in read(path)]


def read(path: Path) -> list[Span]:
    return [Span(**json.loads(line)) for line in path.read_text().splitlines()]


def check_whole_way(spans: list[Span], call: str, instance_id: int) -> None:
    """One trace has the way of a command from the client to the learner, each part in its place."""
    by_id = {span.span: span for span in spans}
    ours = [span for span in spans if span.name.startswith("ray_paxos.")]
    named: dict[str, list[Span]] = {}
    for span in ours:
        assert span.parent in by_id, f"{span.name} has a parent that nobody has told of"
        assert 0 < span.start_ns <= span.end_ns
        if span.attributes.get("ray_paxos.instance_id", instance_id) == instance_id:
            named.setdefault(span.name, []).append(span)
    client, proposer = named[f"ray_paxos.{call}"][0], named["ray_paxos.proposer"][0]
    (learner,) = named["ray_paxos.learner"]
    acceptors = named["ray_paxos.acceptor"]
    assert proposer.parent == client.span
    assert client.start_ns - TREMBLE_NS <= proposer.start_ns
    assert proposer.end_ns <= client.end_ns + TREMBLE_NS
    hops = [next(s for s in named[name] if s.parent == proposer.span) for name in HOPS]
    assert [hop.start_ns for hop in hops[1:]] == [hop.end_ns for hop in hops[:-1]]
    assert proposer.start_ns <= hops[0].start_ns
    assert hops[-1].end_ns == proposer.end_ns
    assert learner.parent == proposer.span
    assert hops[2].start_ns - TREMBLE_NS <= learner.start_ns <= learner.end_ns
    assert learner.end_ns <= hops[2].end_ns + TREMBLE_NS
    members = {span.attributes["ray_paxos.member"] for span in acceptors}
    assert len(acceptors) == len(members) >= 2
    for span in acceptors:
        assert span.parent == proposer.span
        assert span.start_ns >= hops[1].start_ns - TREMBLE_NS
        assert span.attributes["ray_paxos.fsync_ms"] > 0
    # A majority's votes are durable by then; the clock is one, of one machine.
    assert sum(span.start_ns <= hops[1].end_ns for span in acceptors) >= 2
    assert len({client.pid, proposer.pid, *(span.pid for span in acceptors)}) >= 3


@pytest.mark.parametrize("roles", ["fused", pytest.param("separate", marks=pytest.mark.slow)])
def test_a_trace_has_the_whole_way_of_a_command(roles: str) -> None:
    told, spans = run(roles, "traced")
    for what, call in (
        ("one", "propose"),
        ("async", "propose_async"),
        ("many", "propose_many"),
        ("task", "propose"),
    ):
        trace, instance_id = told["told"][what]
        check_whole_way([span for span in spans if span.trace == trace], call, instance_id)
    count = {
        what: sum(
            span.trace == told["told"][what][0] and span.name.startswith("ray_paxos.propose_")
            for span in spans
        )
        for what in ("async", "many")
    }
    assert count == {"async": 20, "many": 1}
    of_task = [span for span in spans if span.trace == told["told"]["task"][0]]
    (within,) = (span for span in of_task if span.name == "ray_paxos.propose")
    assert within.pid != next(span for span in of_task if span.name == "user").pid
    assert [span for span in spans if span.trace == told["told"]["unsampled"][0]] == []


def test_without_the_hook_there_are_no_spans() -> None:
    told, spans = run("fused", "untraced")
    assert spans == []
    assert told["loaded"] == []
