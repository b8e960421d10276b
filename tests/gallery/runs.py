"""Small runs for the tests of the page: made by the real pipeline with a stand-in network."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from conftest import FlatInpainter, draw_mask, draw_photo, write_picture

from restorepix.options import RestoreOptions, WalkOptions
from restorepix.pipeline import MaskRepair, Network, restore_batch
from restorepix.plan import build_plan
from restorepix.report import Result

WICKED = "<img src=x onerror=alert(1)>&quot;'.png"
"""A name that is markup, should it ever be taken for that."""


def build_repair(options: RestoreOptions) -> MaskRepair:
    return MaskRepair(Network(FlatInpainter(), "cpu", "a" * 64), options)


def run_fix(
    inputs: Iterable[Path], masks: Path, output: Path | None, **options: Any
) -> list[Result]:
    """What ``restorepix fix`` does, without a network."""
    chosen = RestoreOptions(**options)
    plan = build_plan(list(inputs), masks, output, chosen, WalkOptions())
    return list(restore_batch(plan, chosen, build_repair(chosen)))


def make_run(root: Path, *, height: int = 120, width: int = 160) -> Path:
    """A run of six photographs below a folder: restored, unchanged, failed; return its folder."""
    mask = draw_mask(height, width)
    mask[60:70, 20:140] = 255
    for index, name in enumerate(["a.png", "b.jpg", "sub/c.tif", WICKED]):
        write_picture(root / "photos" / name, draw_photo(height, width, seed=index))
        write_picture(root / "masks" / f"{name}.png", mask)
    write_picture(root / "photos/plain.png", draw_photo(height, width, seed=9))
    write_picture(root / "masks/plain.png.png", np.zeros((height, width), np.uint8))
    torn = write_picture(root / "photos/torn.jpg", draw_photo(height, width, seed=10))
    torn.write_bytes(torn.read_bytes()[:-40])
    write_picture(root / "masks/torn.jpg.png", mask)
    run_fix([root / "photos"], root / "masks", root / "out")
    return root / "out"


def edit_journal(run: Path, **changes: dict[str, Any]) -> None:
    """Change fields of records, by the key of their output."""
    path = run / ".restorepix" / "run.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    for record in records:
        record.update(changes.get(record["journal"]["key"], {}))
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
