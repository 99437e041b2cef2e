"""The report as tables for people."""

from typing import Any

from rich.console import Console
from rich.table import Table

UNKNOWN = "-"


def print_report(report: dict[str, Any], console: Console) -> None:
    """Print every part that the report has."""
    console.print(_contenders(report))
    if report["bulk"]:
        console.print(_bulk(report["bulk"]))
    if report["ratios"]:
        console.print(_ratios(report["ratios"]))
    if report["growth"]:
        console.print(_growth(report["growth"]))
    if report["lanes"]:
        console.print(_lanes(report["lanes"]))
    for name, reason in report["failed"].items():
        console.print(f"{name} failed: {reason}", style="red", markup=False, highlight=False)
    console.print(_origin(report), style="dim", highlight=False)


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    for position, column in enumerate(columns):
        table.add_column(column, justify="right" if position else "left", no_wrap=True)
    return table


def _contenders(report: dict[str, Any]) -> Table:
    plan = report["plan"]
    table = _table(
        f"Five durable hops, 600 bytes, medians of {plan['rounds']} rounds of {plan['events']:,} events",
        *("contender", "queues", "events/s", "p50 ms", "p99 ms", "CPU s/1000", "RabbitMQ", "PostgreSQL", "MB"),
    )
    for name, row in report["contenders"].items():
        servers = row["servers_cpu_s_per_1000"]
        if "failed" in row:
            table.add_row(name, "failed", *(UNKNOWN,) * 7)
            continue
        table.add_row(
            name,
            row.get("queue_type", UNKNOWN),
            _number(row["events_per_s"]),
            _number(row["p50_ms"], 1),
            _number(row["p99_ms"], 1),
            _number(row["cpu_s_per_1000"], 2),
            _number(servers.get("rabbitmq"), 2),
            _number(servers.get("postgresql"), 2),
            _number(row["rss_mb"]),
        )
    return table


def _bulk(rows: dict[str, Any]) -> Table:
    table = _table("Bulk lane: batches through the same hops", "contender", "records/s", "CPU s/1000", "MB")
    for name, row in rows.items():
        figures = (_number(row["events_per_s"]), _number(row["cpu_s_per_1000"], 2), _number(row["rss_mb"]))
        table.add_row(name, *figures)
    return table


def _ratios(ratios: dict[str, Any]) -> Table:
    table = _table("Ratios of the medians above", "ratio", "ours", "theirs (best row)", "value", "to reach", "")
    for name, found in ratios.items():
        bound = _bound(found["at_least"], found["at_most"])
        verdict = "" if not bound else "reached" if found["reached"] else "NOT reached"
        table.add_row(name, found["ours"], found["theirs"], f"{found['value']:.2f}", bound, verdict)
    return table


def _bound(at_least: float | None, at_most: float | None) -> str:
    if at_least is not None:
        return f">= {at_least:g}"
    return f"<= {at_most:g}" if at_most is not None else ""


def _growth(growth: dict[str, Any]) -> Table:
    table = _table("Growth: cost of an event by how many were queued", "contender", "queued", "events/s", "CPU s/1000")
    for name, curve in growth.items():
        for queued, point in curve["queued"].items():
            figures = (_number(point["events_per_s"]), _number(point["cpu_s_per_1000"], 2))
            table.add_row(name, f"{int(queued):,}", *figures)
        verdict = "flat" if curve["flat"] else "NOT flat"
        table.add_row(name, "spread", verdict, f"x {curve['cost_spread']:.2f}", end_section=True)
    return table


def _lanes(lanes: dict[str, Any]) -> Table:
    title = f"Lanes: {lanes['live_per_s']:g} live events/s beside an import of {lanes['import_records']:,} records"
    table = _table(title, "", "events", "p50 ms", "p99 ms")
    for label, figures in (("idle", lanes["idle"]), ("during the import", lanes["during_import"])):
        table.add_row(label, _number(figures["events"]), _number(figures["p50_ms"], 1), _number(figures["p99_ms"], 1))
    verdict = "reached" if lanes["reached"] else "NOT reached"
    table.add_row("p99 ratio", verdict, f"<= {lanes['at_most']:g}", f"{lanes['p99_ratio']:.2f}")
    return table


def _origin(report: dict[str, Any]) -> str:
    machine, versions = report["machine"], report["versions"]
    return (
        f"{machine['date']}, commit {machine['commit'] or 'unknown'}, {report['seconds']:,.0f} s\n"
        f"{machine['cpus']} x {machine['model']}, {machine['memory_gb']} GB, {machine['kernel']}, "
        f"Python {machine['python']}\n" + ", ".join(f"{name} {version}" for name, version in versions.items())
    )


def _number(value: float | None, digits: int = 0) -> str:
    return UNKNOWN if value is None else f"{value:,.{digits}f}"
