"""Rows of a comparison as text, markdown, CSV and a plot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

#: Column, heading, format.
COLUMNS = (
    ("hr", "HR@10", "{:.4f}"),
    ("ndcg", "NDCG@10", "{:.4f}"),
    ("error", "± s.e.", "{:.4f}"),
    ("hr_cold", "HR@10 cold only", "{:.4f}"),
    ("ndcg_cold", "NDCG@10 cold only", "{:.4f}"),
    ("coverage", "coverage", "{:.3f}"),
    ("epochs", "epochs", "{:.0f}"),
    ("seconds", "train s", "{:.1f}"),
    ("recommend_seconds", "recommend s", "{:.2f}"),
    ("anew_seconds", "encoding anew s", "{:.2f}"),
    ("peak_mb", "peak MB", "{:.0f}"),
    ("parameters", "parameters", "{:,.0f}"),
)


def summarise(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Average the seeds of each model, in the order in which the models come."""
    table = pd.DataFrame(rows)
    groups = table.groupby("model", sort=False)
    names = [name for name, _, _ in COLUMNS if name in table]
    summary = groups[names].mean()
    summary.insert(0, "seeds", groups.size())
    summary.insert(summary.columns.get_loc("ndcg") + 1, "error", groups["ndcg"].sem())
    summary["unfinished"] = ~groups["done"].all()
    return summary.reset_index()


def as_markdown(summary: pd.DataFrame) -> str:
    """Return a markdown table; an empty cell is a figure that a model does not have."""
    shown = [column for column in COLUMNS if column[0] in summary]
    lines = [
        "| model | seeds | " + " | ".join(heading for _, heading, _ in shown) + " |",
        "|---|" + "---:|" * (len(shown) + 1),
    ]
    for row in summary.to_dict("records"):
        cells = ["" if pd.isna(row[name]) else form.format(row[name]) for name, _, form in shown]
        name = row["model"] + (" (cut short)" if row["unfinished"] else "")
        lines.append(f"| {name} | {row['seeds']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def time_to_best(rows: list[dict[str, Any]]) -> str:
    """Compare the seconds that palate needs to RecTools SASRec's best validation NDCG@10.

    The curves of one seed are measured on the same held-out events. RecTools' clock runs in
    training batches alone; palate's from the call of `fit`, validation and texts included.
    """
    lines = [
        "| model | seed | its best NDCG@10 | peer | the peer's best | seconds to it | the peer's |"
        " ratio |",
        "|---|---:|---:|---|---:|---:|---:|---:|",
    ]
    peers = [row for row in rows if row["model"].startswith("rectools-sasrec")]
    for row in rows:
        if row["model"].startswith("palate"):
            lines += [
                time_line(row, peer)
                for peer in peers
                if peer["seed"] == row["seed"] and row["curve"]
            ]
    return "\n".join(lines)


def time_line(row: dict[str, Any], peer: dict[str, Any]) -> str:
    """Return one line of that table."""
    goal = max(ndcg for _, ndcg in peer["curve"])
    theirs = next(second for second, ndcg in peer["curve"] if ndcg >= goal)
    ours = next((second for second, ndcg in row["curve"] if ndcg >= goal), None)
    best = max(ndcg for _, ndcg in row["curve"])
    reached = ("not reached", "") if ours is None else (f"{ours:.1f}", f"{ours / theirs:.3f}")
    cut = "" if peer["done"] else f" (cut short at {peer['epochs']} epochs)"
    return (
        f"| {row['model']} | {row['seed']} | {best:.4f} | {peer['model']}{cut} | {goal:.4f} |"
        f" {reached[0]} | {theirs:.1f} | {reached[1]} |"
    )


def plot(summary: pd.DataFrame, title: str, path: Path) -> None:
    """Draw the best model at the top: NDCG@10, seconds of training, peak memory."""
    from matplotlib.figure import Figure  # no pyplot: no window, no global state

    summary = summary.sort_values("ndcg")
    colours = ["#0b6e4f" if name.startswith("palate") else "#9aa5b1" for name in summary["model"]]
    figure = Figure(figsize=(11, 1.2 + 0.32 * len(summary)), layout="constrained")
    panels = figure.subplots(1, 3, sharey=True)
    drawn = (
        ("ndcg", "NDCG@10", "%.4f", "linear"),
        ("seconds", "seconds of training", "%.1f", "log"),
        ("peak_mb", "peak memory, MiB", "%.0f", "linear"),
    )
    for axes, (name, heading, form, scale) in zip(panels, drawn, strict=True):
        error = summary["error"].fillna(0) if name == "ndcg" else None
        least = 0.01 if scale == "log" else 0
        values = summary[name].clip(lower=least)
        bars = axes.barh(summary["model"], values, xerr=error, color=colours)
        axes.bar_label(bars, fmt=form, padding=4, fontsize=8)
        axes.set_xscale(scale)
        axes.set_title(heading, fontsize=10)
        axes.margins(x=0.25)
        axes.tick_params(axis="x", labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title)
    figure.savefig(path, dpi=110)


def write(summary: pd.DataFrame, text: str, title: str, stem: Path) -> None:
    """Write STEM.md, STEM.csv and, where matplotlib is installed, STEM.png."""
    stem.with_suffix(".md").write_text(text + "\n", encoding="utf-8")
    summary.to_csv(stem.with_suffix(".csv"), index=False)
    try:
        plot(summary, title, stem.with_suffix(".png"))
    except ImportError:
        print("no plot: pip install matplotlib")
