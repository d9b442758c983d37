"""Tables in markdown, JSON files, and the places in RESULTS.md that they go to."""

import json
import re
import statistics
from pathlib import Path

RESULTS = Path(__file__).resolve().parents[2] / "RESULTS.md"


def table(head, rows):
    """A markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def number(value, digits=0):
    """With thousands apart."""
    return f"{value:,.{digits}f}"


def spread(values, digits=0):
    """The median, and behind it the lowest and highest of several."""
    middle = number(statistics.median(values), digits)
    if len(values) < 2:
        return middle
    return f"{middle} ({number(min(values), digits)}–{number(max(values), digits)})"


def mib(bytes_):
    """Mebibytes."""
    return f"{bytes_ / 2**20:,.0f} MiB"


def write_json(file, data):
    """A JSON file."""
    file = Path(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(data, indent=1, default=str) + "\n")


def place(name, text, where, file=RESULTS):
    """Puts `text` between `<!-- NAME -->` and `<!-- end -->` in RESULTS.md, under the line
    `where` that says of what it was measured."""
    results = file.read_text()
    mark = re.compile(rf"(<!-- {re.escape(name)} -->\n).*?(<!-- end -->)", re.S)
    if not mark.search(results):
        raise ValueError(f"{file} has no place for {name}")
    file.write_text(mark.sub(lambda m: f"{m[1]}\n{where}\n\n{text}\n\n{m[2]}", results))


def measured(machine):
    """The line that says of what it was measured."""
    return (
        f"Measured {machine['date']} at commit {machine['commit']}, on {machine['cores']} cores of a"
        f" virtual {machine['architecture']} machine, Linux {machine['kernel']}."
    )
