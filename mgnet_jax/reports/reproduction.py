"""What came of the runs of one of the paper's tables: Markdown, HTML and CSV."""

import csv
import dataclasses
import io
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mgnet_jax.config.paper import Row
from mgnet_jax.reports import html
from mgnet_jax.training import files
from mgnet_jax.training.metrics import read_metrics

FILES = "report.md", "report.html", "report.csv"


@dataclasses.dataclass
class Entry:
    """A row of the table, and what its runs gave.

    Attributes:
      row: as printed.
      network: that was trained; "" if none was.
      parameters: of it.
      petaflop: of one run, as counted.
      last, best: accuracy in % at the last epoch and at the best one, a number a finished seed.
      seconds: of training, a number a finished seed.
      problem: why it was not run; "" if it was.
    """

    row: Row
    network: str = ""
    parameters: int = 0
    petaflop: float = 0.0
    last: list[float] = dataclasses.field(default_factory=list)
    best: list[float] = dataclasses.field(default_factory=list)
    seconds: list[float] = dataclasses.field(default_factory=list)
    problem: str = ""

    def add(self, workdir: Path) -> None:
        """Takes the scores of a finished run."""
        records = read_metrics(workdir)
        scores = [100 * r["test_accuracy"] for r in records if r["kind"] == "eval"]
        self.last.append(scores[-1])
        self.best.append(max(scores))
        self.seconds.append(max(r.get("seconds", 0.0) or 0.0 for r in records))


def spread(values: Sequence[float], unit: str = "") -> str:
    """Mean and standard deviation over seeds (n - 1), as in `94.21 ± 0.12`."""
    if not values:
        return "-"
    mean = f"{statistics.fmean(values):.2f}"
    return (f"{mean} ± {statistics.stdev(values):.2f}" if len(values) > 1 else mean) + unit


def cells(entry: Entry) -> dict[str, Any]:
    """An entry as a row of the report."""
    row = entry.row
    return {
        "row": row.number,
        "data": row.data,
        "printed network": row.name,
        "printed %": f"{row.accuracy:.2f}",
        "printed parameters": row.parameters or "-",
        "trained network": entry.network or "not run",
        "parameters": f"{entry.parameters:,}" if entry.parameters else "-",
        "seeds": len(entry.last),
        "last epoch %": spread(entry.last),
        "best epoch %": spread(entry.best),
        "minutes": f"{statistics.fmean(entry.seconds) / 60:.1f}" if entry.seconds else "-",
        "PFLOP": f"{entry.petaflop:.3g}" if entry.petaflop else "-",
        "known of the printed row": row.known,
        "note": entry.problem or ("" if entry.last else "not run yet"),
    }


def write(entries: Sequence[Entry], folder: Path, title: str, words: Sequence[str]) -> None:
    """Writes the three files of a report.

    Args:
      entries: of the table's rows.
      folder: that they go to.
      title: of the report.
      words: paragraphs before the table: what was run, and how it is less than the paper's.
    """
    rows = [cells(entry) for entry in entries]
    kept = [name for name in rows[0] if any(row[name] not in ("", "-") for row in rows)]
    rows = [{name: row[name] for name in kept} for row in rows]
    heads = f"| {' | '.join(kept)} |\n|{'---|' * len(kept)}\n"
    lines = "".join(f"| {' | '.join(_cell(x) for x in row.values())} |\n" for row in rows)
    text = f"# {title}\n\n" + "".join(f"{word}\n\n" for word in words) + heads + lines
    page = html.page(title, *map(html.paragraph, words), html.table(rows))
    table = io.StringIO()
    writer = csv.DictWriter(table, kept, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    for name, content in zip(FILES, (text, page, table.getvalue()), strict=True):
        files.write(folder / name, content)


def _cell(value: Any) -> str:
    return str(value).replace("|", "\\|").replace("*", "\\*")
