"""``docs/performance.md`` and its plots, made from ``benchmarks/results/*.json`` alone.

python benchmarks/page.py            # write the page
python benchmarks/page.py --targets  # print every target and whether it is met
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "performance.md"
PLOTS = ROOT / "docs" / "performance"
ORDER = (
    "score_stage",
    "floors",
    "ensemble",
    "training",
    "ingest",
    "ingest_forms",
    "memory",
    "tasks",
    "tasks_many",
    "quantiles",
    "quantiles_many",
    "storage",
    "reading",
    "report",
    "peers",
    "full",
    "full_numba",
    "scaling",
    "startup",
    "checks",
)
HEADINGS = {
    "score_stage": "The score stage against simpler ways",
    "floors": "The score stage against its own floors",
    "ensemble": "Several models in one pass",
    "training": "Training against model.fit",
    "ingest": "Ingest of cutout tars",
    "ingest_forms": "Ingest of public data sets",
    "memory": "Memory of a worker against its bound",
    "tasks": "What Dask costs",
    "tasks_many": "Ten million partitions",
    "quantiles": "Exact thresholds of any number of scores",
    "quantiles_many": "Thresholds of a thousand million scores",
    "storage": "How pixels are stored",
    "reading": "How pixels are read",
    "report": "The report of many candidates",
    "peers": "Beside a peer: Hyrax",
    "full": "A whole survey",
    "full_numba": "The same survey, scorer: numba",
    "scaling": "Workers, batches, chunks and numbers of objects",
    "startup": "Small surveys, from the command to the catalogue",
    "checks": "Tests and the demonstration",
    "gpu": "On a GPU",
}
# Targets without a measurement, until a result of that name is there.
UNMEASURED = {
    "gpu": ("score stage on one H200, objects a second", "50,000"),
    "tasks_many": ("time and memory of 10,000,000 empty partitions, run and not extrapolated", "linear"),
}
SERIES = {
    "workers": ("worker processes", "workers.png"),
    "batch": ("objects a model call", "batch.png"),
    "chunk": ("objects a chunk", "chunk.png"),
    "objects": ("objects of the survey", "objects.png"),
}


def load() -> dict[str, Any]:
    """All results of speeds, by the name of their benchmark."""
    found = {}
    for path in RESULTS.glob("*.json"):
        content = json.loads(path.read_text())
        found[content["benchmark"]] = content
    return found


def number(value: float | None) -> str:
    """A number as the tables show it."""
    if value is None:
        return ""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def targets(results: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Every line that has a target: benchmark, line."""
    return [
        (name, line)
        for name in sorted(results, key=_place)
        for line in results[name]["rows"]
        if line.get("met") is not None
    ]


def unmeasured(results: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Targets that nothing was measured for: what, target."""
    return [line for name, line in UNMEASURED.items() if name not in results]


def reached(line: Mapping[str, Any]) -> str:
    """What a target is compared with: the ratio where there is one, else the value."""
    return f"{number(line['ratio'])}x" if line["ratio"] is not None else f"{number(line['median'])} {line['unit']}"


def _place(name: str) -> tuple[int, str]:
    return (ORDER.index(name) if name in ORDER else len(ORDER), name)


def table(lines: Sequence[Mapping[str, Any]]) -> list[str]:
    """One benchmark's lines as Markdown."""
    text = ["| what | median | least - largest | unit | ratio | target |", "|---|---|---|---|---|---|"]
    for line in lines:
        least, largest = number(line["min"]), number(line["max"])
        between = "" if least == largest else f"{least} - {largest}"
        target = ""
        if line.get("met") is not None:
            target = f"{number(line['target'])}: {'met' if line['met'] else '**not met**'}"
        cells = [line["what"], number(line["median"]), between, line["unit"], number(line["ratio"]), target]
        text.append("| " + " | ".join(cells) + " |")
    return text


def plot(lines: Sequence[Mapping[str, Any]], series: str, path: Path) -> None:
    """Throughput, or cost, against one thing that was varied."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    label, _ = SERIES[series]
    chosen = sorted((line for line in lines if line.get("series") == series), key=lambda line: line["x"])
    figure = Figure(figsize=(5.2, 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    x = [line["x"] for line in chosen]
    if series == "objects":
        axes.loglog(x, [line["seconds"] for line in chosen], "o-", color="#1f5a8a", label="s, with the start")
        axes.loglog(x, [line["driver_mib"] for line in chosen], "s--", color="#b5651d", label="MiB, the driver's peak")
        axes.legend(frameon=False)
        axes.set_ylabel("cost")
    else:
        y = [line["median"] for line in chosen]
        spread = [[line["median"] - line["min"] for line in chosen], [line["max"] - line["median"] for line in chosen]]
        axes.errorbar(x, y, yerr=spread, fmt="o-", color="#1f5a8a", capsize=3)
        axes.set_ylim(0, max(y) * 1.15)
        axes.set_ylabel("objects a second")
        if series != "workers":
            axes.set_xscale("log", base=2)
        axes.set_xticks(x, [f"{value:,}" for value in x])
    axes.set_xlabel(label)
    axes.grid(alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, metadata={"Software": None})


def full_point(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The full run as the last point of cost against the number of objects."""
    if "full" not in results:
        return []
    found = {line["what"].partition(":")[0]: line["median"] for line in results["full"]["rows"]}
    cost = {"seconds": found["the whole run"], "driver_mib": found["peak memory of the driver"]}
    return [{"series": "objects", "x": results["full"]["n_objects"], **cost}]


def page(results: Mapping[str, Any]) -> str:
    """The whole page."""
    any_result = results[min(results, key=_place)]
    text = [
        "# Performance",
        "",
        "Made by `python benchmarks/page.py` from the JSON files in `benchmarks/results`; `make bench` measures the",
        "small set again in less than ten minutes, `make bench-full` all of it, with a survey of 839,908 objects.",
        f"These figures are from {any_result['n_cores']} cores ({any_result['processor']}) without a GPU. The machine",
        "is shared: ratios were measured side by side in one run and hold, absolute rates drift by a tenth or two.",
        "",
        "What makes it fast changes no result beyond its last digits. In these the two scorers differ, a GPU, and",
        "weights that an earlier version has trained. Any number of workers and threads gives the same bytes.",
        "",
        "## Targets",
        "",
        "| what | found | target | |",
        "|---|---|---|---|",
    ]
    for _, line in targets(results):
        found = reached(line)
        text.append(f"| {line['what']} | {found} | {number(line['target'])} | {'met' if line['met'] else 'not met'} |")
    for what, target in unmeasured(results):
        text.append(f"| {what} | not measured | {target} | open |")
    limits = (ROOT / "benchmarks" / "limits.md").read_text()
    for name in sorted(results, key=_place):
        content = results[name]
        text += ["", f"## {HEADINGS.get(name, name)}", "", *table(content["rows"])]
        if content["notes"]:
            text += ["", *(f"- {note}" for note in content["notes"])]
        if name == "scaling":
            plots = [f"![{label}](performance/{file})" for label, file in SERIES.values()]
            text += ["", *plots]
        if (limit := section(limits, name)) is not None:
            text += ["", limit]
    return "\n".join(text) + "\n"


def section(text: str, name: str) -> str | None:
    """What ``limits.md`` says of a benchmark: what a perfect program would take, and why it is not reached."""
    for part in text.split("\n## ")[1:]:
        title, _, body = part.partition("\n")
        if title.strip() == name:
            return body.strip()
    return None


def main() -> None:
    """Write the page, or print the targets."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--targets", action="store_true")
    options = parser.parse_args()
    results = load()
    if options.targets:
        for name, line in targets(results):
            found = reached(line)
            state = "met" if line["met"] else "NOT MET"
            print(f"{name:<14} {line['what']:<78} {found:>16}  target {number(line['target']):<8} {state}")
        for what, target in unmeasured(results):
            print(f"{'':<14} {what:<78} {'not measured':>16}  target {target:<8} OPEN")
        return
    PAGE.write_text(page(results))
    if "scaling" in results:
        for series, (_, file) in SERIES.items():
            plot([*results["scaling"]["rows"], *full_point(results)], series, PLOTS / file)


if __name__ == "__main__":
    main()
