"""The laboratory's table: every system trained on one small budget, scored on the same pictures.

    python -m benchmarks.laboratory DATA --cache runs/cache --runs runs/laboratory

trains each row of training/lab/rows.py, scores it beside the methods that need no training, and
writes the measured part of docs/systems.md with its pictures. Everything is kept in the folder of
runs: an interrupted command goes on where it was, a row whose recipe did not change is not trained
again, and rows with equal recipes share a run. ``--only NAME ...`` works on some rows;
``--minutes`` leaves a row unfinished after so long and goes on with the next; ``--total-minutes``
ends it all. The page shows what is there. What scores mean is defined in benchmarks/scores.py.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import re
import sys
import time
import tomllib
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import cv2
import torch
from safetensors.torch import load_file
from torch import nn

from benchmarks.laboratory_cases import (
    KINDS,
    SIDE_PX,
    UNTRAINED,
    Case,
    Image,
    Mask,
    Paint,
    list_cases,
    paint_with,
    score_cases,
)
from benchmarks.laboratory_costs import read_costs
from benchmarks.laboratory_pictures import (
    cut_windows,
    draw_flows,
    draw_neighbours,
    draw_repairs,
    look_by_context,
    look_with_byol,
    measure_varieties,
)
from benchmarks.laboratory_report import Result, replace_measured, write_report
from benchmarks.machine import describe_setup
from restorepix.models.lab.catalogue import LAB_MODELS
from restorepix.models.lab.context_encoder import ContextEncoder
from restorepix.models.lab.deepfill import DeepFill
from restorepix.models.lab.glcic import blend
from restorepix.models.lab.patchmatch import inpaint_patchmatch
from restorepix.runtime import keep_freed_memory
from training.checkpoint import find_checkpoint
from training.data import open_cache
from training.lab.batches import build_bank, open_batches, open_labelled
from training.lab.recipe import Recipe
from training.lab.representations import (
    Budget,
    compare_representations,
    export_learned,
    pretrain,
)
from training.lab.rows import BATCH, CROP_PX, CROPS, PUBLISHED, ROWS, Row, find_row
from training.lab.run import export_network, load_features, train
from training.lab.systems import SYSTEMS, build_model, start_run
from training.publish import describe_pin

VERSION = 2
"""Raised whenever results that are kept become worthless."""

LARGEST_BYTES = 8_000_000
"""Of a weights file that is committed."""

_MANIFEST = """\
# Weights of the laboratory's systems (docs/systems.md), written by python -m benchmarks.laboratory
# --export. They show how systems begin to learn; the default inpainter is far better than any.

[models]
"""

REPRESENTATIONS = "representations"
"""What ``--only`` calls the comparison of encoders."""


def digest(value: object) -> str:
    """Twelve hexadecimal digits of a value's JSON."""
    text = json.dumps([VERSION, value], sort_keys=True, default=list)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def list_changes(settings: Any) -> dict[str, Any]:
    """Fields of a dataclass that differ from their defaults.

    Two ways to write one recipe are equal so, and a field that a later version adds leaves the runs
    that are kept valid.
    """
    values = {item.name: (getattr(settings, item.name), item.default) for item in fields(settings)}
    return {name: value for name, (value, default) in values.items() if value != default}


@dataclass
class Laboratory:
    """Photographs, folders and budget that all rows share."""

    cases: list[Case]
    cache: Path
    runs: Path
    crops: int
    bank: int
    seed: int
    device: torch.device
    encoder: Path | None = None
    """A BYOL encoder of ``training.byol``; None to train a small one first (``find_encoder``)."""
    minutes: float = math.inf
    """For the training of one row in this call."""
    deadline: float = math.inf
    """On ``time.monotonic``'s clock: when to begin nothing more."""
    _pretrained: dict[str, str] = field(default_factory=dict[str, str])

    def __post_init__(self) -> None:
        """Name what results depend on beside the recipe."""
        masks = hashlib.sha256(b"".join(case.mask.tobytes() for case in self.cases)).hexdigest()
        self.evaluation = digest([[c.photo for c in self.cases], masks])

    @property
    def budget(self) -> Budget:
        """The budget of pre-training."""
        return Budget(self.crops, self.seed, self.minutes, self.deadline)

    @property
    def encoder_file(self) -> Path:
        """The pre-trained encoder; it need not be there yet."""
        if self.encoder is not None:
            return self.encoder
        folder = self.budget.find_folder(self.runs / REPRESENTATIONS, "byol")
        return folder / "encoder.safetensors"

    def make_encoder(self) -> bool:
        """Pre-train the encoder if it is not there; False when time ran out."""
        if not self.encoder_file.is_file():
            folder = self.encoder_file.parent
            learned = pretrain("byol", self.cache, folder, self.budget)
            if learned is not None:
                export_learned(learned, self.encoder_file)
        return self.encoder_file.is_file()

    def describe_run(self, row: Row) -> tuple[Recipe, Path]:
        """A row's recipe, and the folder of its run: equal recipes share one."""
        recipe = row.build_recipe(self.crops, self.bank, self.seed)
        training = SYSTEMS[row.system].training(**recipe.training)
        about = [list_changes(recipe.lab), dict(recipe.model), list_changes(training)]
        if row.start:
            about.append(self.describe_run(find_row(row.start))[1].name)
        if _wants_encoder(row):
            about.append(self._digest_encoder())
        return recipe, self.runs / digest(about)

    def _digest_encoder(self) -> str:
        path = self.encoder_file
        if not path.is_file():
            return "not there yet"
        key = str(path)
        if key not in self._pretrained:
            self._pretrained[key] = hashlib.sha256(path.read_bytes()).hexdigest()
        return self._pretrained[key]

    def train_row(self, row: Row) -> nn.Module | None:
        """A row's network after its budget; None when time ran out first."""
        extra: dict[str, Any] = {}
        if row.start:
            start = self.load_network(find_row(row.start))
            start = start or self.train_row(find_row(row.start))
            if start is None:
                return None
            extra["start"] = start.state_dict()
        if _wants_encoder(row):
            if not self.make_encoder():
                return None
            extra["pretrained"], extra["features"] = load_features(self.encoder_file)
            extra["features"].to(self.device)
        left = min(self.minutes, (self.deadline - time.monotonic()) / 60)
        if left <= 0:
            return None
        recipe, folder = self.describe_run(row)
        pixels, index = open_cache(self.cache, self.device)
        bank = build_bank(recipe.lab)
        extra["labelled"] = open_labelled(recipe.lab, pixels, index, bank)
        trainer = start_run(recipe, self.device, extra)
        draw = open_batches(recipe.lab, pixels, index, bank)
        train(trainer, draw, folder, minutes=left)
        if trainer.step < trainer.steps:
            return None
        return trainer.generator.cpu()

    def read_result(self, row: Row, name: str) -> Result | None:
        """What is kept of a row under a name (its own, or that of a variant)."""
        folder = self.describe_run(row)[1]
        path = folder / f"{digest([self.evaluation, name != row.name and name])}.json"
        if not path.is_file():
            return None
        lab = self.describe_run(row)[0].lab
        minutes = _read_state(folder).get("seconds", 0) / 60
        records = json.loads(path.read_text())
        return Result(
            name, row.group, records, minutes, lab.steps * lab.batch, count_parameters(row)
        )

    def keep_result(self, row: Row, name: str, records: list[dict[str, Any]]) -> None:
        """Keep what was scored."""
        folder = self.describe_run(row)[1]
        path = folder / f"{digest([self.evaluation, name != row.name and name])}.json"
        path.write_text(json.dumps(records))

    def work_on(self, row: Row) -> bool:
        """Train and score a row and its variants; False when it could not be finished."""
        variants = list_variants(row)
        if all(self.read_result(row, name) for name in (row.name, *variants)):
            return True
        sys.stderr.write(f"{row.name} ({self.describe_run(row)[1].name})\n")
        network = self.load_network(row) or self.train_row(row)
        if network is None:
            sys.stderr.write(f"{row.name}: not finished, start again to go on\n")
            return False
        paint = paint_with(network)
        for name, made in {row.name: paint, **list_variants(row, paint)}.items():
            self.keep_result(row, name, score_cases(made, self.cases))
        return True

    def load_network(self, row: Row) -> nn.Module | None:
        """The network of a row that is trained to the end, or None."""
        recipe, folder = self.describe_run(row)
        checkpoint = find_checkpoint(folder)
        if checkpoint is None or _read_state(folder)["step"] < recipe.lab.steps:
            return None
        network = build_model(recipe.lab.system, recipe.model)
        network.load_state_dict(load_file(checkpoint / "generator.safetensors"))
        return network.eval()

    def export(self, folder: Path) -> list[Path]:
        """Weights of the systems that are trained, as files that ``fix --model`` takes.

        With ``manifest.toml`` for those that are small enough for weights/lab/.
        """
        written: list[Path] = []
        entries: list[str] = []
        for row in ROWS:
            network = self.load_network(row) if row.group == "systems" else None
            if network is not None:
                recipe = self.describe_run(row)[0]
                name = re.sub(r"[^a-z0-9]+", "-", row.name.lower()).strip("-")
                path = folder / f"{name}.safetensors"
                export_network(network, recipe, recipe.lab.steps, path)
                written.append(path)
                entries += [
                    self.describe_model(model, row, path)
                    for model, published in PUBLISHED.items()
                    if published == row.name and path.stat().st_size <= LARGEST_BYTES
                ]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "manifest.toml").write_text("\n".join([_MANIFEST, *entries]), "utf-8")
        return [*written, folder / "manifest.toml"]

    def describe_model(self, model: str, row: Row, path: Path) -> str:
        """A model's tables in the manifest of the laboratory's weights."""
        result = self.read_result(row, row.name)
        start = find_row(row.start) if row.start else None
        before = self.read_result(start, start.name) if start else None
        minutes = sum(found.minutes or 0 for found in (result, before) if found)
        about = {
            **tomllib.loads(describe_pin(path)),
            "architecture": LAB_MODELS[row.system].architecture,
            "row": row.name,
            "command": f"python -m benchmarks.laboratory DATA --crops {self.crops}",
            "data": "photographs that may be redistributed: weights/ATTRIBUTION.md",
            "minutes": round(minutes, 1),
            "device": describe_setup().partition(", commit")[0],
        }
        lines = [f"[models.{model}]", *(f"{key} = {json.dumps(v)}" for key, v in about.items())]
        if result is not None:
            lines += [
                "",
                f"[models.{model}.metrics]",
                "# Hole PSNR in dB (docs/systems.md).",
                *(f"{kind} = {result.average('psnr_hole', kind=kind):.2f}" for kind in KINDS),
            ]
        return "\n".join(lines) + "\n"

    def score_untrained(self) -> list[Result]:
        """Methods that learn nothing, from what is kept or anew."""
        results: list[Result] = []
        for name, paint in UNTRAINED.items():
            path = self.runs / f"{digest([self.evaluation, name])}.json"
            if not path.is_file():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(json.dumps(score_cases(paint, self.cases)))
            results.append(Result(name, "systems", json.loads(path.read_text()), None))
        return results


def count_parameters(row: Row) -> int:
    """Parameters of a row's network."""
    with torch.device("meta"):
        return sum(p.numel() for p in build_model(row.system, row.model).parameters())


def _read_state(folder: Path) -> dict[str, float]:
    """Step and seconds of a run's checkpoint; empty where there is none."""
    checkpoint = find_checkpoint(folder)
    return json.loads((checkpoint / "state.json").read_text()) if checkpoint else {}


def _wants_encoder(row: Row) -> bool:
    """Whether a row needs an encoder that was pre-trained."""
    return row.training.get("arm") in ("finetuned", "frozen") or any(
        row.training.get(name) for name in ("perceptual_weight", "style_weight")
    )


def list_variants(row: Row, paint: Paint | None = None) -> dict[str, Paint]:
    """What else is made of a row's answer: Poisson blending, PatchMatch started from it."""

    def answer(image: Image, mask: Mask) -> Image:
        assert paint is not None
        return paint(image, mask)

    variants: dict[str, Paint] = {}
    if row.blend:
        variants[f"{row.name}, blended"] = lambda image, mask: blend(
            image, answer(image, mask), mask > 0
        )
    if row.patches:
        variants[f"PatchMatch from {row.name}"] = lambda image, mask: inpaint_patchmatch(
            image, mask > 0, start=answer(image, mask)
        )
    return variants


def draw_pictures(laboratory: Laboratory, out: Path) -> dict[str, Path]:
    """All pictures that what is trained allows, beside ``out``."""
    pictures = {"repairs": out.with_name("systems.jpg")}
    lines: dict[str, Paint] = dict(UNTRAINED)
    for row in ROWS:
        network = laboratory.load_network(row) if row.group == "systems" else None
        if network is not None:
            paint = paint_with(network)
            lines |= {row.name: paint, **list_variants(row, paint)}
    draw_repairs(lines, laboratory.seed, pictures["repairs"])
    attending = _load_deepfills(laboratory, branch="contextual", group="attention")
    if attending:
        pictures["flow"] = out.with_name("systems-flow.png")
        draw_flows(attending, laboratory.seed, pictures["flow"])
    windows = cut_windows()
    if laboratory.encoder_file.is_file():
        pictures["byol"] = out.with_name("systems-byol.jpg")
        features = look_with_byol(load_features(laboratory.encoder_file)[1], windows)
        draw_neighbours(features, windows, pictures["byol"])
    for row in ROWS:
        network = laboratory.load_network(row) if row.patches else None
        if isinstance(network, ContextEncoder):
            pictures["context"] = out.with_name("systems-context.jpg")
            draw_neighbours(look_by_context(network, windows), windows, pictures["context"])
    return pictures


def _load_deepfills(laboratory: Laboratory, branch: str, group: str) -> dict[str, DeepFill]:
    found: dict[str, DeepFill] = {}
    for row in ROWS:
        network = laboratory.load_network(row) if row.group == group else None
        if isinstance(network, DeepFill) and network.config.branch == branch:
            found[row.name] = network
    return found


def main() -> int:
    """Train, score and write from the command line."""
    options = _read_arguments()
    torch.set_num_threads(options.threads)
    cv2.setNumThreads(1)
    keep_freed_memory()
    began = time.monotonic()
    laboratory = Laboratory(
        list_cases(options.data, options.photos, options.seed), options.cache, options.runs,
        options.crops, options.bank, options.seed, torch.device(options.device), options.encoder,
        options.minutes, began + 60 * options.total_minutes,
    )  # fmt: skip
    for row in ROWS:
        if (
            not options.only or row.name in options.only
        ) and time.monotonic() < laboratory.deadline:
            laboratory.work_on(row)
    comparisons = compare_representations(
        options.data, options.cache, options.runs / REPRESENTATIONS, laboratory.budget,
        only_kept=bool(options.only) and REPRESENTATIONS not in options.only,
    )  # fmt: skip
    if options.export:
        for path in laboratory.export(options.export):
            sys.stderr.write(f"{path}\n")
    results = laboratory.score_untrained()
    for row in ROWS:
        found = [laboratory.read_result(row, name) for name in (row.name, *list_variants(row))]
        results += [result for result in found if result is not None]
    pictures = draw_pictures(laboratory, options.out)
    varieties: dict[str, float] = {}
    square = [case for case in laboratory.cases if case.kind == KINDS[-1]]
    for branch in ("transformer", "flow"):
        varieties |= measure_varieties(_load_deepfills(laboratory, branch, "attention"), square)
    costs = {} if options.no_costs else read_costs(options.runs)
    page = write_report(
        results, costs, comparisons, describe_budget(laboratory, options.threads), pictures,
        varieties,
    )  # fmt: skip
    options.out.write_text(replace_measured(options.out, page), "utf-8")
    sys.stderr.write(f"{options.out}, after {(time.monotonic() - began) / 60:.1f} minutes\n")
    return 0


def describe_budget(laboratory: Laboratory, threads: int) -> list[str]:
    """Paragraphs: what every row was given, and on which machine."""
    photos = len({case.photo for case in laboratory.cases})
    encoder = (
        "an encoder given from outside" if laboratory.encoder else "that of the comparison below"
    )
    return [
        f"Budget: up to {laboratory.crops:,} crops of {CROP_PX} px (128 px for the centre and "
        f"AlexNet forms) in batches of {BATCH}, from photographs of 128 to 160 px; "
        f"{laboratory.bank:,} masks of the default inpainter's mix; seed {laboratory.seed}. "
        "Rows that go on from another, cost more or need less have fewer: see the column. "
        f"Scored on {photos} photographs of {SIDE_PX} px that no row was trained on, with "
        f"{', '.join(KINDS)} each. The pre-trained BYOL encoder is {encoder}.",
        f"Machine: {describe_setup()}; {threads} thread(s), {laboratory.device}.",
    ]


def _read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("data", type=Path, help="folder of the photographs of photos.toml")
    parser.add_argument("--cache", type=Path, required=True, help="folder of training.data")
    parser.add_argument("--runs", type=Path, default=Path("runs/laboratory"))
    parser.add_argument("--encoder", type=Path, help="encoder.safetensors of training.byol")
    parser.add_argument("--crops", type=int, default=CROPS, help="of a whole budget")
    parser.add_argument("--bank", type=int, default=2048, help="masks that are drawn")
    parser.add_argument("--photos", type=int, default=6, help="of each content, at most 6")
    parser.add_argument("--seed", type=int, default=2026)
    names = [*(row.name for row in ROWS), REPRESENTATIONS]
    parser.add_argument("--only", nargs="+", choices=names, metavar="ROW", help="rows to work on")
    parser.add_argument("--minutes", type=float, default=math.inf, help="for each row")
    parser.add_argument("--total-minutes", type=float, default=math.inf, help="for all")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--export", type=Path, help="folder for weights of the systems")
    parser.add_argument("--no-costs", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("docs/systems.md"))
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
