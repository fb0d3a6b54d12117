# SPDX-License-Identifier: Apache-2.0
"""What was measured, as tables for people and as JSON for programs."""

import json
import os
from dataclasses import asdict, fields
from statistics import median

from processes import Usage

FIGURES = [field.name for field in fields(Usage) if field.name != "verified"]
HEADS = {
    "wall": "wall s", "cpu": "CPU s", "peak": "peak MiB", "stored": "stored MiB", "server_cpu": "server CPU s", "sync": "then sync s",
}


class Table:
    """One step, measured with several tools, perhaps several times."""

    def __init__(self, scenario, title):
        self.scenario, self.title = scenario, title
        self.rows = {}

    def add(self, tool, usage):
        """A measurement. A row's name begins with the tool's."""
        self.rows.setdefault(tool, []).append(usage)

    def middle(self, row, figure):
        """The median of what was measured."""
        values = [getattr(usage, figure) for usage in self.rows[row]]
        values = [value for value in values if value is not None]
        return median(values) if values else None

    def fastest_peer(self):
        """Of the other tools; None without any."""
        return min((self.middle(row, "wall") for row in self.rows if not row.startswith("holdfast")), default=None)

    def verdict(self, row):
        """Whether every restored tree was its source."""
        known = [usage.verified for usage in self.rows[row] if usage.verified is not None]
        return None if not known else all(known)

    def lines(self):
        """For people."""
        shown = [figure for figure in FIGURES if any(self.middle(row, figure) is not None for row in self.rows)]
        fastest, verified = self.fastest_peer(), any(self.verdict(row) is not None for row in self.rows)
        head = ["", *(HEADS[figure] for figure in shown)]
        head += ["÷ fastest peer"] * bool(fastest) + ["verified"] * verified
        body = []
        for row in self.rows:
            cells = [row, *(number(self.middle(row, figure)) for figure in shown)]
            cells += [f"{self.middle(row, 'wall') / fastest:.2f}"] if fastest else []
            cells += [{True: "same", False: "DIFFERS", None: ""}[self.verdict(row)]] if verified else []
            body.append(cells)
        return aligned([head, *body])

    def spread(self):
        """The fastest and the slowest of several runs."""
        parts = []
        for row, usages in self.rows.items():
            walls = [usage.wall for usage in usages]
            if len(walls) > 1:
                parts.append(f"{row} {number(min(walls))} to {number(max(walls))}")
        return f"  wall s from run to run: {', '.join(parts)}" if parts else ""

    def document(self):
        """For programs."""
        rows, fastest = [], self.fastest_peer()
        for row, usages in self.rows.items():
            medians = {figure: self.middle(row, figure) for figure in FIGURES}
            ratio = medians["wall"] / fastest if fastest else None
            rows.append({
                "tool": row, "median": medians, "wall_to_fastest_peer": ratio, "verified": self.verdict(row),
                "runs": [asdict(usage) for usage in usages],
            })
        return {"scenario": self.scenario, "title": self.title, "rows": rows}


def number(value):
    """Three figures, or a blank."""
    if value is None:
        return ""
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def aligned(rows):
    """Columns: the first to the left, the others to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))]
        lines.append("  " + "  ".join(cells).rstrip())
    return lines


class Results:
    """All tables, what was found at rest, and what went wrong."""

    def __init__(self):
        self.tables, self.failures, self.notes = {}, [], []

    def table(self, scenario, title):
        """The table of this title, which is made when it is first asked for."""
        return self.tables.setdefault((scenario, title), Table(scenario, title))

    def failed(self, what):
        """Something that could not be measured, or came back wrong."""
        self.failures.append(what)
        print(f"  FAILED: {what}", flush=True)

    def show(self, scenario):
        """The tables of a scenario."""
        for (owner, title), table in self.tables.items():
            if owner == scenario:
                print("\n".join([f"\n{scenario}: {title}", *table.lines(), *filter(None, [table.spread()])]), flush=True)

    def write(self, path, about):
        """Everything, as JSON, whole or not at all."""
        document = about | {"tables": [table.document() for table in self.tables.values()], "rest": self.notes, "failures": self.failures}
        with open(path + ".new", "w", encoding="utf-8") as out:
            json.dump(document, out, indent=1, ensure_ascii=False)
            out.write("\n")
        os.replace(path + ".new", path)
