"""Trains the rows of one of the paper's tables, each as a run of its own, and reports on them."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mgnet_jax.tools import train
from mgnet_jax.tools.tool import Command, Flag, check

if TYPE_CHECKING:
    from ml_collections import ConfigDict

    from mgnet_jax.config.paper import Row
    from mgnet_jax.reports.reproduction import Entry

NAME = "reproduce"
HELP = "train the rows of one of the paper's tables, or go on with them, and report"
FLAGS = (
    Flag("table", 0, "of the paper, 1 to 11"),
    Flag("rows", "", "numbers or printed names with ';' between, as in '1;4'; empty: all"),
    Flag("scale", "paper", "paper: its recipe; small: narrower networks, few images and epochs"),
    Flag("seeds", 1, "runs of each row, with seeds 0, 1, ..."),
    Flag("dry_run", False, "list the rows with their work and hours, and train none"),
    Flag("tflops", 0.0, "sustained TFLOP/s that the hours are estimated with; 0: measured here"),
)


def run(command: Command) -> None:
    """Runs or goes on with every row; what is set with --config.SECTION.KEY=VALUE holds for all.

    Each run has its own folder in the workdir, by default runs/tableN-SCALE, and the report is
    written anew after each: report.md, report.html, report.csv.

    Raises:
      ConfigError: there is no such table, row or scale.
      Interrupted: a signal came; the run was saved, and the same command goes on.
    """
    from mgnet_jax.config import ConfigError, paper
    from mgnet_jax.reports import reproduction
    from mgnet_jax.training.progress import say

    flags = command.flags
    table, scale, seeds = flags["table"], flags["scale"], flags["seeds"]
    if command.config_named:
        raise ConfigError(
            "--config: --mode=reproduce has its own; change keys with --config.KEY=VALUE"
        )
    if scale not in paper.SCALES:
        raise ConfigError(f"--scale={scale} must be one of {', '.join(paper.SCALES)}")
    if seeds < 1:
        raise ConfigError(f"--seeds={seeds} must be at least 1")
    rows = paper.chosen(table, flags["rows"])
    folder = command.workdir if command.workdir_named else Path("runs", f"table{table}-{scale}")
    entries = [describe(row, scale, dict(command.overrides)) for row in rows]
    if flags["dry_run"]:
        return show(entries, seeds, flags["tflops"])
    title = f"Table {table}, scale {scale}"
    words = [about(scale, seeds, command)]
    for number, (entry, row) in enumerate(zip(entries, rows, strict=True), 1):
        for seed in range(seeds):
            if entry.problem:
                continue
            say(f"\n=== row {number} of {len(rows)}, seed {seed}: {row.name} on {row.data}")
            config = paper.configuration(row, scale, seed, dict(command.overrides))
            workdir = folder / config.name
            entry.problem = try_one(config, workdir)
            if not entry.problem:
                entry.add(workdir)
            reproduction.write(entries, folder, title, words)
    reproduction.write(entries, folder, title, words)  # of rows that cannot be run, too
    say(f"\n{', '.join(reproduction.FILES)} are in {folder}")
    show_results(entries)


def describe(row: "Row", scale: str, overrides: dict[str, Any]) -> "Entry":
    """A row with its network and its work, or with what is in the way of running it."""
    from mgnet_jax.config import ConfigError, paper, trained_on
    from mgnet_jax.data.info import DataError
    from mgnet_jax.reports.reproduction import Entry

    entry = Entry(row)
    try:
        config = paper.configuration(row, scale, 0, overrides)
        info, model, costs = check(config)
    except (ConfigError, DataError) as error:
        entry.problem = f"not run: {error}"
        return entry
    images = config.train.epochs * trained_on(config.data, info)
    entry.network, entry.parameters = str(model.spec), costs.parameters
    entry.petaflop = 6 * costs.macs * images / 1e15
    return entry


def try_one(config: "ConfigDict", workdir: Path) -> str:
    """Trains a run, or goes on with it; returns why not if its data is absent or it diverges."""
    import jax

    from mgnet_jax.data.info import DataError
    from mgnet_jax.training.progress import say
    from mgnet_jax.training.report import TrainError

    jax.clear_caches()  # the programs of the run before
    try:
        train.check_numerics(config)
        train.train_one(config, workdir, time.monotonic(), says=False)
    except DataError as error:
        say(f"not run: {error}")
        return f"not run: {error}"
    except TrainError as error:
        say(f"failed: {error}")
        return f"failed with seed {config.seed}: {str(error).splitlines()[0]}"
    return ""


def about(scale: str, seeds: int, command: Command) -> str:
    """What the report says before its table."""
    changed = "; ".join(
        f"{name} = {value!r}" for name, value in command.overrides.items() if name != "data.dir"
    )
    also = f" Set for all of them: {changed}." if changed else ""
    runs = f"{seeds} seed{'s' * (seeds > 1)} of each row; ± is the standard deviation over them."
    if scale == "paper":
        return f"The paper's recipe. {runs} The paper prints the best epoch of one run.{also}"
    from mgnet_jax.config.paper import DIVISORS
    from mgnet_jax.config.recipes import STUDY

    how = ", ".join(f"{name} = {value!r}" for name, value in STUDY.items())
    by = ", ".join(f"{name} {divisor}" for name, divisor in DIVISORS.items())
    return (
        f"A scaled-down study, not the paper's recipe: channels divided (by {by}), and {how}. "
        f"{runs} Its accuracies are far below the printed ones and are to be compared with each "
        f"other alone.{also}"
    )


def show(entries: "list[Entry]", seeds: int, tflops: float) -> None:
    """Prints what would be run."""
    from mgnet_jax.training.bench import matrix_peak
    from mgnet_jax.training.progress import say, table

    rate, how = tflops * 1e12, "as given with --tflops"
    if not tflops:
        rate, how = matrix_peak("float32", 0.5) / 3, "a third of large matrix products here"
    rows, total = [], 0.0
    for entry in entries:
        hours = entry.petaflop * 1e15 * seeds / rate / 3600
        total += hours
        rows.append(
            {
                "row": entry.row.number,
                "data": entry.row.data,
                "printed": entry.row.name,
                "network": entry.network or entry.problem,
                "parameters": f"{entry.parameters:,}" if entry.network else "-",
                "PFLOP a run": f"{entry.petaflop:.3g}" if entry.network else "-",
                "hours": f"{hours:.2f}" if entry.network else "-",
            }
        )
    say(table(rows))
    runs = seeds * sum(not entry.problem for entry in entries)
    say(f"\n{runs} runs, {total:,.1f} hours at {rate / 1e12:.3g} TFLOP/s ({how}); none was started")


def show_results(entries: "list[Entry]") -> None:
    """Prints the accuracies."""
    from mgnet_jax.reports.reproduction import cells
    from mgnet_jax.training.progress import say, table

    names = ("row", "printed network", "printed %", "seeds", "last epoch %", "best epoch %", "note")
    say("\n" + table([{name: cells(entry)[name] for name in names} for entry in entries]))
