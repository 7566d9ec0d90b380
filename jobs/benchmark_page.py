"""The report of a benchmark as one HTML page, made of its JSON document and nothing else.

So it can be made of a document that was written before, and one run can be shown beside others:
peers are measured one after the other, each by a run of its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmark_charts import (
    Document,
    burst_chart,
    cpu_chart,
    cpu_roles,
    cpu_spent,
    lines_chart,
    medians,
    over_time_chart,
    peers_chart,
    system_name,
    system_names,
    throughput_chart,
)
from benchmark_suite import BURST
from benchmark_table import Line
from ray_paxos.errors import ConfigurationError
from report_charts import Chart
from report_machine import Circumstances
from report_page import Cell, Page, Section, Verdict, circumstances_section, table

NEEDED = ("machine", "options", "began_at", "median")


def load_beside(paths: Sequence[str]) -> list[dict[str, Any]]:
    """Documents of earlier runs, to be shown beside one.

    Raises:
        ConfigurationError: A file cannot be read, or is no document of a load.
    """
    return [_load(path) for path in paths]


def _load(path: str) -> dict[str, Any]:
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"--beside {path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ConfigurationError(f"--beside {path}: is no JSON document: {error}") from error
    if not isinstance(document, dict) or any(name not in document for name in NEEDED):
        raise ConfigurationError(
            f"--beside {path}: allowed: a file that --json wrote for a load or a peer"
        )
    return document


def benchmark_page(document: Document, beside: Sequence[Document] = ()) -> Page:
    """The page of a run.

    Args:
        document: Of the run.
        beside: Of others that it is compared with.
    """
    lines = [Line.read(line) for line in document.get("suite", {}).get("table", ())]
    return Page(
        _title(document),
        _verdict(document, lines),
        _facts(document),
        list(_sections(document, beside, lines)),
    )


def _title(document: Document) -> str:
    options = document["options"]
    if options["suite"] is not None:
        return f"Benchmark, suite {options['suite']}"
    if "median" not in document:
        return "Benchmark, the floor"
    return f"Benchmark of {system_name(document)}, workload {options['workload'] or 'put'}"


def _verdict(document: Document, lines: Sequence[Line]) -> Verdict:
    if lines:
        failing = [line for line in lines if not line.holds]
        title = f"{len(lines) - len(failing)} of {len(lines)} lines hold."
        return Verdict(title, held=not failing, reasons=[line.text() for line in failing])
    failed = {name: run for name, run in medians(document).items() if run["failed"]}
    if failed:
        reasons = [
            f"{name}: {run['failed']:,} of {run['failed'] + run['acknowledged']:,} operations "
            f"failed: {run['failure']}"
            for name, run in failed.items()
        ]
        return Verdict("Measured; operations failed.", held=False, reasons=reasons)
    return Verdict("Measured; no operation failed.", held=None)


def _facts(document: Document) -> dict[str, str]:
    options, machine = document["options"], document["machine"]
    facts = {"machine": f"{machine['cores']} cores, {machine['memory_gb']:g} GB"}
    if options["suite"] is None:
        facts["groups"] = str(options["groups"])
        facts["roles"] = options["roles"] if not options["peer"] else options["peer"]
        facts["value"] = f"{options['value_size']:,} bytes"
        facts["runs of each load"] = f"{options['repeat']} of {options['seconds']:g} s"
        if options["batch"]:
            facts["batches"] = f"{options['batch']:,} commands"
    if "start_s" in document:
        facts["start of the cluster"] = f"{document['start_s']:.1f} s"
    runs = medians(document)
    if runs:
        best = max(runs.values(), key=lambda run: float(run["commands_per_s"]))
        facts["most commands a second"] = f"{best['commands_per_s']:,.0f}"
    return facts


def _sections(
    document: Document, beside: Sequence[Document], lines: Sequence[Line]
) -> Iterator[Section]:
    if lines:
        yield _lines(lines)
    everyone = [document, *beside]
    chart = throughput_chart(everyone)
    if chart is not None:
        yield Section("Throughput against latency", [chart])
    chart = peers_chart(everyone)
    if chart is not None:
        yield _peers(everyone, chart)
    if medians(document):
        yield _loads(document)
    chart = over_time_chart(document)
    if chart is not None:
        yield Section("Latency over time", [chart])
    chart = cpu_chart(document)
    if chart is not None:
        yield _cpu(document, chart)
    floor = _floor(document)
    if floor is not None:
        yield floor
    details: Mapping[str, Any] = document.get("suite", {}).get("details", {})
    if BURST.what in details:
        yield Section("A burst", [burst_chart(details[BURST.what])])
    if details:
        yield _details({what: told for what, told in details.items() if what != BURST.what})
    yield circumstances_section(_circumstances(document))


def _lines(lines: Sequence[Line]) -> Section:
    rows: list[list[Cell]] = [
        [
            line.requirement.text,
            line.requirement.bound_text,
            line.measured_text,
            line.holds,
            line.floor,
            line.note,
        ]
        for line in lines
    ]
    headings = ["what", "asked for", "measured", "holds", "floor (bare Ray)", "note"]
    return Section("What is asked for", [table(headings, rows), lines_chart(lines)])


def _loads(document: Document) -> Section:
    runs: Mapping[str, Sequence[Document]] = (
        document["suite"]["runs"] if "suite" in document else document["runs"]
    )
    rows: list[list[Cell]] = []
    for name, run in medians(document).items():
        rates = [each["commands_per_s"] for each in runs[name]]
        latency = run["latency"] or dict.fromkeys(("p50_ms", "p99_ms", "p999_ms", "max_ms"))
        rows.append(
            [
                *(name, len(rates), run["commands_per_s"], min(rates), max(rates)),
                *(run["acknowledged_per_s"], latency["p50_ms"], latency["p99_ms"]),
                *(latency["p999_ms"], latency["max_ms"], run["failed"]),
            ]
        )
    headings = ["load", "runs", "commands/s", "lowest", "highest", "acknowledged/s"]
    headings += ["p50 ms", "p99 ms", "p99.9 ms", "max ms", "failed"]
    text = (
        "Of several runs the one in the middle by commands/s, and the lowest and the highest. "
        "commands/s counts until all is applied, durable in segments and in checkpoints; "
        "acknowledged/s until the last answer."
    )
    return Section("Loads", [text, table(headings, rows)])


def _peers(documents: Sequence[Document], chart: Chart) -> Section:
    rows: list[list[Cell]] = []
    for document, system in zip(documents, system_names(documents), strict=True):
        options = document["options"]
        for load, run in medians(document).items():
            latency = run["latency"] or {}
            rows.append(
                [
                    *(system, options["workload"] or "put", options["value_size"]),
                    *(load, run["commands_per_s"], latency.get("p50_ms"), latency.get("p99_ms")),
                    document["began_at"],
                ]
            )
    headings = ["system", "workload", "value bytes", "load", "commands/s", "p50 ms", "p99 ms"]
    about = [
        f"{each['peer']['name']}: {each['peer']['about']}" for each in documents if "peer" in each
    ]
    return Section("Beside others", [chart, table([*headings, "began"], rows), *about])


def _cpu(document: Document, chart: Chart) -> Section:
    roles = cpu_roles(document)
    rows: list[list[Cell]] = [
        [name, *(of_load.get(role) for role in roles), sum(of_load.values())]
        for name, of_load in cpu_spent(document).items()
    ]
    headings = ["load", *(f"{role}, us" for role in roles), "all, us"]
    return Section("Processor time for one command", [chart, table(headings, rows)])


def _floor(document: Document) -> Section | None:
    headings = ["bytes of the argument", "separate, ms", "fused, ms", "a read, ms"]
    rows: list[list[Cell]] = []
    if "suite" in document:
        rows = [
            [int(size), floor["separate"], floor["fused"], floor["read"]]
            for size, floor in document["suite"]["floors_ms"].items()
        ]
    elif "floor_ms" in document:
        floor = document["floor_ms"]
        rows = [[100, floor["separate"], floor["fused"], floor["read"]]]
    if not rows:
        return None
    text = (
        "What bare Ray actors take for the same chain of calls, one at a time, on the same Ray: "
        "a lone command cannot be faster."
    )
    options = document["options"]
    alone = document.get("median", {}).get("1 in flight")
    # The chain is that of a lone put; a peer has another one.
    is_put = options["workload"] in (None, "put") and not options["batch"] and not options["peer"]
    if alone is not None and alone["latency"] is not None and is_put:
        of_roles = rows[0][2] if options["roles"] == "fused" else rows[0][1]
        p50_ms = alone["latency"]["p50_ms"]
        text += f" One at a time: p50 {p50_ms:.2f} ms, the floor {of_roles:.2f} ms."
    return Section("The floor", [text, table(headings, rows)])


def _details(details: Mapping[str, Any]) -> Section:
    rows = [[what, json.dumps(told, ensure_ascii=False)] for what, told in details.items()]
    return Section("What else was measured", [table(["line", "details"], rows)])


def _circumstances(document: Document) -> Circumstances:
    machine = document["machine"]
    return Circumstances(
        command=document["command"],
        seed=document["options"]["seed"],
        configuration=document["configuration"],
        machine=machine,
        began_at=document["began_at"],
        ended_at=document["ended_at"],
        load_at_end=machine["load_average_at_end"],
    )
