"""The report as a picture: throughput, latency, cost, growth."""

from pathlib import Path
from typing import Any

OURS, THEIRS, LIMIT = "#1f6f8b", "#b0b7bd", "#d9a441"


def plot(report: dict[str, Any], path: Path) -> None:
    """Draw what the report has into a PNG file."""
    # Only here: everything else of the benchmarks works, and is tested, without it.
    from matplotlib.figure import Figure

    rows = {name: row for name, row in report["contenders"].items() if "failed" not in row}
    figure = Figure(figsize=(12, 9), layout="constrained")
    (throughput, latency), (cost, growth) = figure.subplots(2, 2)
    _bars(throughput, rows, "events_per_s", "events per second through five hops")
    _bars(latency, rows, "p99_ms", "p99 latency in ms at 50 events/s (dark: p50)", inner="p50_ms")
    _bars(cost, rows, "cpu_s_per_1000", "CPU seconds per 1,000 events, servers not included")
    _curves(growth, report["growth"] or {})
    machine = report["machine"]
    figure.suptitle(f"{machine['date'][:10]}, {machine['cpus']} x {machine['model']}", fontsize=9)
    figure.savefig(path, dpi=110)


def _bars(axes: Any, rows: dict[str, Any], name: str, title: str, inner: str | None = None) -> None:
    there = {key: row for key, row in rows.items() if row[name] is not None}
    labels = list(there)[::-1]
    values = [there[key][name] for key in labels]
    bars = axes.barh(labels, values, color=[_color(key) for key in labels])
    axes.bar_label(
        bars, [f"{value:,.0f}" if value >= 10 else f"{value:.2f}" for value in values], padding=3, fontsize=8
    )
    if inner is not None:
        axes.barh(labels, [there[key][inner] for key in labels], height=0.4, color="#333333")
    axes.set_title(title, fontsize=10)
    axes.margins(x=0.15)
    axes.spines[["top", "right"]].set_visible(False)


def _curves(axes: Any, growth: dict[str, Any]) -> None:
    for name, curve in growth.items():
        queued = [int(count) for count in curve["queued"]]
        axes.plot(queued, [point["cpu_s_per_1000"] for point in curve["queued"].values()], marker="o", label=name)
    axes.set_title("CPU seconds per 1,000 events by how many were queued", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    if growth:
        axes.set_xscale("log")
        axes.set_ylim(bottom=0)
        axes.legend(frameon=False)


def _color(name: str) -> str:
    if name.startswith(("tieout", "broker")):
        return OURS
    return LIMIT if name == "pika" else THEIRS
