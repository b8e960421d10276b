"""The model card and the manifest's metrics, brought up to date from an evaluation.

Run: ``python -m training.card weights/inpaint.md runs/inpaint.txt --out runs/inpaint.md``, where
the second file is what ``training.evaluate`` printed. The words of the card are a person's and
stay; the table below ``## Measured`` is replaced, and the metrics that the manifest pins are
printed.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROWS = {
    "refined": "this model",
    "fill": "its closed-form start",
    "ns": "cv2.inpaint, NS",
    "telea": "cv2.inpaint, Telea",
}
"""Columns of the evaluation that the card shows, with their names there."""


def read_scores(text: str) -> dict[str, dict[str, str]]:
    """Scores in dB as printed, by kind of mask and by program.

    Raises:
        ValueError: a line is not ``KIND NAME SCORE NAME SCORE ...``.
    """
    scores: dict[str, dict[str, str]] = {}
    for line in text.splitlines():
        kind, *pairs = line.split()
        if len(pairs) % 2 or not set(ROWS) <= set(pairs[::2]):
            msg = f"expected a line of training.evaluate (KIND NAME SCORE ...), found {line!r}"
            raise ValueError(msg)
        scores[kind] = dict(zip(pairs[::2], pairs[1::2], strict=True))
    return scores


def update_card(card: str, scores: dict[str, dict[str, str]]) -> str:
    """The card with the table of its section ``## Measured`` made anew.

    Raises:
        ValueError: the card has no such section with a table in it.
    """
    before, found, after = card.partition("\n## Measured\n")
    lines = after.splitlines()
    table = [number for number, line in enumerate(lines) if line.startswith("|")]
    if not found or not table or not scores:
        msg = "expected a card with a section '## Measured' that holds a table, and scores for it"
        raise ValueError(msg)
    end = next((n for n in range(table[0], len(lines)) if n not in table), len(lines))
    rows = [f"| | {' | '.join(scores)} |", "|---" * (len(scores) + 1) + "|"]
    for program, name in ROWS.items():
        cells = [values[program] for values in scores.values()]
        if program == "refined":
            cells = [f"**{cell}**" for cell in cells]
        rows.append(f"| {name} | {' | '.join(cells)} |")
    return f"{before}{found}" + "\n".join([*lines[: table[0]], *rows, *lines[end:]]) + "\n"


def describe_metrics(scores: dict[str, dict[str, str]]) -> str:
    """The manifest's ``metrics`` table, in TOML."""
    columns = {"ours": "refined", "ns": "ns", "telea": "telea"}
    lines: list[str] = []
    for kind, values in scores.items():
        entries = ", ".join(f"{name} = {values[column]}" for name, column in columns.items())
        lines.append(f"{kind} = {{ {entries} }}\n")
    return "".join(lines)


def main() -> None:
    """Update a card from the command line; the metrics go to standard output."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("card", type=Path)
    parser.add_argument("scores", type=Path, help="what training.evaluate printed")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    scores = read_scores(options.scores.read_text("utf-8"))
    options.out.write_text(update_card(options.card.read_text("utf-8"), scores), "utf-8")
    sys.stdout.write(describe_metrics(scores))


if __name__ == "__main__":
    main()
