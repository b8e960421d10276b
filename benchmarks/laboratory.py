"""The laboratory's table: every system trained on one small budget, scored on the same pictures.

    python -m benchmarks.laboratory DATA --cache runs/cache --runs runs/laboratory \
        --encoder runs/byol/encoder.safetensors --crops 3200

trains each row of training/lab/rows.py, scores it beside the methods that need no training, and
writes docs/systems.md with its pictures. Everything is kept in the folder of runs: an interrupted
command goes on where it was, a row whose recipe did not change is not trained again, and rows with
equal recipes share a run. ``--only NAME ...`` works on some rows; the page shows all that are
there. What scores mean is defined in benchmarks/scores.py.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import subprocess
import sys
import time
import tomllib
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.laboratory_report import Result, write_report
from benchmarks.machine import describe_setup
from benchmarks.scores import composite, measure_scores
from restorepix.errors import UnsupportedError
from restorepix.models.encoder import Encoder
from restorepix.models.fill import pull_push
from restorepix.models.lab.context_encoder import ContextEncoder, find_neighbours
from restorepix.models.lab.deepfill import DeepFill
from restorepix.models.lab.flow import draw_flow
from restorepix.models.lab.glcic import blend
from restorepix.models.lab.patchmatch import inpaint_patchmatch
from restorepix.models.lab.warps import measure_variety
from training.checkpoint import find_checkpoint
from training.contact_sheet import write_contact_sheet
from training.data import open_cache
from training.lab.representations import Comparison, compare_representations
from training.lab.rows import ROWS, Row
from training.lab.run import (
    Recipe,
    build_bank,
    build_model,
    load_features,
    open_batches,
    start_run,
    train,
)
from training.masks import draw_benchmark_mask, find_fonts
from training.validation import read_square

Image = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.uint8]
Paint = Callable[[Image, Mask], Image]

PHOTOS = Path(__file__).parents[1] / "training" / "lab" / "photos.toml"
KINDS = ("scratch", "irregular20", "square56")
"""Of damage; the last is a square of 56 px in the middle, the largest that the centre form of
context encoders fills."""
SHOWN = ("brick", "astronaut", "coffee", "chelsea", "camera")
"""Functions of ``skimage.data`` whose photographs come with its wheel."""

HOLE_LEVEL = 128
VERSION = 1
"""Raised whenever results that are kept become worthless."""

COSTS: dict[str, tuple[str, dict[str, Any]]] = {
    "restorepix": ("restorepix", {}),
    "DeepFill v1": ("deepfill-v1", {}),
    "DeepFill v1 baseline, no attention": ("deepfill-v1", {"branch": "none"}),
    "context encoder, AlexNet form": ("context-encoder-alexnet", {}),
    "context encoder, centre form": ("context-encoder", {"form": "center"}),
    "context encoder, any size": (
        "context-encoder",
        {"form": "whole", "waist": "pointwise"},
    ),
    "GLCIC": ("glcic", {}),
    "Shift-Net": ("shift-net", {}),
    "BYOL U-Net": ("byol-unet", {}),
}
"""Networks of published size, whose cost is measured."""


@dataclass(frozen=True)
class Case:
    """One damaged photograph."""

    photo: str
    content: str
    kind: str
    truth: Image
    mask: Mask

    @property
    def damaged(self) -> Image:
        """The photograph with its hole painted grey."""
        return np.where(self.mask[..., None] > 0, HOLE_LEVEL, self.truth).astype(np.uint8)


def list_cases(data: Path, per_content: int, seed: int, kinds: Sequence[str]) -> list[Case]:
    """Every kind of damage on the first photographs of each content; masks seeded by name.

    Raises:
        FileNotFoundError: a photograph is not there.
    """
    contents: dict[str, list[str]] = tomllib.loads(PHOTOS.read_text("utf-8"))
    fonts = find_fonts()
    cases: list[Case] = []
    for content, names in contents.items():
        for name in names[:per_content]:
            if not (data / name).is_file():
                msg = f"{data / name}: photograph of {PHOTOS.name} not found"
                raise FileNotFoundError(msg)
            truth = read_square(data / name)
            for kind in kinds:
                rng = np.random.default_rng([seed, zlib.crc32(f"{name} {kind}".encode())])
                mask = draw_square(truth.shape[0], 56) if kind == "square56" else None
                if mask is None:
                    mask = draw_benchmark_mask(kind, truth.shape[0], rng, fonts=fonts)
                cases.append(Case(name, content, kind, truth, mask))
    return cases


def read_shown() -> dict[str, Image]:
    """Photographs inside scikit-image's wheel, 256 px squares: these may be printed on the page.

    Those of the data folder are for measuring; most may not be given away.
    """
    from skimage import data

    squares: dict[str, Image] = {}
    for name in SHOWN:
        picture = getattr(data, name)()
        picture = np.stack([picture] * 3, 2) if picture.ndim == 2 else picture[..., :3]
        scale = 256 / min(picture.shape[:2])
        size = (round(picture.shape[1] * scale), round(picture.shape[0] * scale))
        small = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
        top, left = ((length - 256) // 2 for length in small.shape[:2])
        squares[name] = np.ascontiguousarray(small[top : top + 256, left : left + 256])
    return squares


def list_shown(seed: int, kinds: Sequence[str] = KINDS) -> list[Case]:
    """One damaged case of each photograph that may be printed, kinds in turn."""
    cases: list[Case] = []
    for number, (name, truth) in enumerate(read_shown().items()):
        kind = kinds[number % len(kinds)]
        rng = np.random.default_rng([seed, number])
        mask = draw_square(256, 56)
        if kind != "square56":
            mask = draw_benchmark_mask(kind, 256, rng, fonts=find_fonts())
        cases.append(Case(name, "", kind, truth, mask))
    return cases


def draw_square(side: int, width: int) -> Mask:
    """A square hole in the middle."""
    mask = np.zeros((side, side), np.uint8)
    low = (side - width) // 2
    mask[low : low + width, low : low + width] = 1
    return mask


def paint_with(network: nn.Module) -> Paint:
    """A network as a function of uint8 pictures, in float32, over the whole picture at once."""
    network = network.eval()

    def paint(image: Image, mask: Mask) -> Image:
        batch, hole = to_batch(image, mask)
        with torch.inference_mode():
            refined = network(batch, hole).refined
        pixels = (refined[0].permute(1, 2, 0) + 1) * 127.5
        return composite(pixels.round().clamp(0, 255).numpy().astype(np.uint8), image, mask)

    return paint


def to_batch(image: Image, mask: Mask) -> tuple[torch.Tensor, torch.Tensor]:
    """(1, 3, H, W) in [-1, 1] and (1, 1, H, W) of one picture."""
    batch = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 127.5 - 1
    return batch, torch.from_numpy(mask)[None, None].float()


def _paint_fill(image: Image, mask: Mask) -> Image:
    filled = pull_push(*to_batch(image, mask))[0].permute(1, 2, 0)
    return ((filled + 1) * 127.5).round().clamp(0, 255).numpy().astype(np.uint8)


UNTRAINED: dict[str, Paint] = {
    "Telea": lambda image, mask: np.asarray(cv2.inpaint(image, mask, 3, cv2.INPAINT_TELEA)),
    "Navier-Stokes": lambda image, mask: np.asarray(cv2.inpaint(image, mask, 3, cv2.INPAINT_NS)),
    "pull-push fill": _paint_fill,
    "PatchMatch": lambda image, mask: inpaint_patchmatch(image, mask > 0),
}
"""Methods that learn nothing."""


def score_cases(paint: Paint, cases: Sequence[Case]) -> list[dict[str, Any]]:
    """Scores of every case, or why it was refused; with what a table is broken down by."""
    records: list[dict[str, Any]] = []
    for case in cases:
        about = {"photo": case.photo, "content": case.content, "kind": case.kind}
        begin = time.process_time()
        try:
            result = paint(case.damaged, case.mask)
        except UnsupportedError as error:
            records.append(about | {"refused": str(error)})
            continue
        seconds = time.process_time() - begin
        scores = measure_scores(composite(result, case.truth, case.mask), case.truth, case.mask)
        records.append(about | scores | {"seconds": seconds})
    return records


def digest(value: object) -> str:
    """Twelve hexadecimal digits of a value's JSON."""
    text = json.dumps([VERSION, value], sort_keys=True, default=list)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@dataclass
class Laboratory:
    """Photographs, folders and budget that all rows share."""

    cases: list[Case]
    cache: Path
    runs: Path
    crops: int
    bank: int
    seed: int
    encoder: Path | None
    device: torch.device

    def __post_init__(self) -> None:
        """Name what results depend on beside the recipe."""
        masks = hashlib.sha256(b"".join(case.mask.tobytes() for case in self.cases)).hexdigest()
        self.evaluation = digest([[c.photo for c in self.cases], masks])
        self.pretrained = (
            hashlib.sha256(self.encoder.read_bytes()).hexdigest() if self.encoder else ""
        )

    def describe_run(self, row: Row) -> tuple[Recipe, Path]:
        """A row's recipe, and the folder of its run: equal recipes share one."""
        recipe = row.build_recipe(self.crops, self.bank, self.seed)
        return recipe, self.runs / digest([asdict(recipe), self.pretrained if _wants(row) else ""])

    def train_row(self, row: Row, minutes: float) -> nn.Module | None:
        """A row's network after its budget; None when time ran out first."""
        recipe, folder = self.describe_run(row)
        pixels, index = open_cache(self.cache, self.device)
        bank = build_bank(recipe.lab)
        extra: dict[str, Any] = {}
        if self.encoder and _wants(row):
            extra["pretrained"], extra["features"] = load_features(self.encoder)
            extra["features"].to(self.device)
        if recipe.lab.labelled < 1:
            extra["labelled"] = open_batches(recipe.lab, pixels, index, bank, recipe.lab.labelled)
        trainer = start_run(recipe, self.device, extra)
        draw = open_batches(recipe.lab, pixels, index, bank)
        before = _read_seconds(folder)
        spent = train(trainer, draw, folder, minutes=minutes)
        (folder / "seconds.json").write_text(json.dumps(before + spent))
        if trainer.step < trainer.steps:
            return None
        return trainer.generator.cpu()

    def read_result(self, row: Row, name: str) -> Result | None:
        """What is kept of a row under a name (its own, or that of a variant)."""
        folder = self.describe_run(row)[1]
        path = folder / f"{digest([self.evaluation, name != row.name and name])}.json"
        if not path.is_file():
            return None
        return Result(name, row.group, json.loads(path.read_text()), _read_seconds(folder) / 60)

    def keep_result(self, row: Row, name: str, records: list[dict[str, Any]]) -> None:
        """Keep what was scored."""
        folder = self.describe_run(row)[1]
        path = folder / f"{digest([self.evaluation, name != row.name and name])}.json"
        path.write_text(json.dumps(records))

    def work_on(self, row: Row, minutes: float) -> bool:
        """Train and score a row and its variants; False when it could not be finished."""
        variants = list_variants(row)
        if all(self.read_result(row, name) for name in (row.name, *variants)):
            return True
        if _wants(row) and self.encoder is None:
            sys.stderr.write(f"{row.name}: left out, needs --encoder\n")
            return False
        network = self.train_row(row, minutes)
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
        if checkpoint is None:
            return None
        if json.loads((checkpoint / "state.json").read_text())["step"] < recipe.lab.steps:
            return None
        from safetensors.torch import load_file

        network = build_model(recipe.lab.system, recipe.model)
        network.load_state_dict(load_file(checkpoint / "generator.safetensors"))
        return network.eval()

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


def _wants(row: Row) -> bool:
    """Whether a row needs an encoder that was pre-trained."""
    return row.training.get("arm") in ("finetuned", "frozen") or any(
        row.training.get(name) for name in ("perceptual_weight", "style_weight")
    )


def _read_seconds(folder: Path) -> float:
    path = folder / "seconds.json"
    return float(json.loads(path.read_text())) if path.is_file() else 0.0


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


def measure_cost(name: str) -> dict[str, float]:
    """Parameters, GMAC at 256 px, seconds at 256 and 512 px, and MiB that a call of 512 px adds.

    Run in a process of its own: memory is the growth of the process's peak.
    """
    import resource

    torch.manual_seed(0)
    network = build_model(*COSTS[name]).eval()
    found = {"parameters": float(sum(p.numel() for p in network.parameters()))}
    width = 56 if COSTS[name][1].get("form") == "center" else None
    for side in (256, 512):
        mask = torch.from_numpy(draw_square(side, width or side // 2))[None, None].float()
        image = torch.rand(1, 3, side, side) * 2 - 1
        with torch.inference_mode():
            if side == 256:
                counter = FlopCounterMode(display=False)
                with counter:
                    network(image, mask)
                found["gmac"] = counter.get_total_flops() / 2e9
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            network(image, mask)
            found["mib"] = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
            times: list[float] = []
            for _ in range(3):
                begin = time.perf_counter()
                network(image, mask)
                times.append(time.perf_counter() - begin)
        found[f"seconds_{side}"] = statistics.median(times)
    return found


def read_costs(runs: Path) -> dict[str, dict[str, float]]:
    """Costs by network, from what is kept or measured now, each in a process of its own."""
    costs: dict[str, dict[str, float]] = {}
    for name in COSTS:
        path = (
            runs / f"cost-{digest([COSTS[name], describe_setup().partition(', commit')[0]])}.json"
        )
        if not path.is_file():
            command = [sys.executable, "-m", "benchmarks.laboratory", "--cost", name]
            found = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(found)
        costs[name] = json.loads(path.read_text())
    return costs


def draw_repairs(laboratory: Laboratory, rows: Sequence[Row], out: Path) -> str:
    """A picture with one photograph a row and one system a column.

    Returns:
        What the columns are.
    """
    shown = list_shown(laboratory.seed)
    columns: dict[str, Paint] = dict(UNTRAINED)
    for row in rows:
        network = laboratory.load_network(row) if row.group == "systems" else None
        if network is not None:
            paint = paint_with(network)
            columns |= {row.name: paint, **list_variants(row, paint)}
    pictures: list[list[Image]] = []
    for case in shown:
        line = [np.where(case.mask[..., None] > 0, 255, case.truth).astype(np.uint8)]
        for paint in columns.values():
            try:
                line.append(composite(paint(case.damaged, case.mask), case.truth, case.mask))
            except UnsupportedError:
                line.append(case.damaged)
        pictures.append([*line, case.truth])
    headings = ["damaged", *(f"{i}" for i in range(1, len(columns) + 1)), "truth"]
    labels = [f"{case.photo}, {case.kind}" for case in shown]
    write_contact_sheet(out, pictures, headings, labels, cell_px=160)
    return "Columns: " + ", ".join(f"{i} {name}" for i, name in enumerate(columns, 1)) + "."


def draw_flows(laboratory: Laboratory, out: Path) -> bool:
    """Attention flow of the corrected and the published form; False if neither is trained."""
    lines: list[list[Image]] = []
    labels: list[str] = []
    wheel = np.stack(np.meshgrid(*[np.linspace(-1, 1, 65)] * 2, indexing="ij"))
    for name in ("attention, corrected", "attention, published masking"):
        network = laboratory.load_network(next(row for row in ROWS if row.name == name))
        if network is None:
            continue
        assert isinstance(network, DeepFill)
        for case in list_shown(laboratory.seed, ("square56",))[:3]:
            batch, hole = to_batch(case.damaged, case.mask)
            with torch.inference_mode():
                offsets = network.find_offsets(batch, hole)[0].numpy()
            inside = functional.max_pool2d(hole, 8)[0, 0].numpy() > 0
            flow = draw_flow(np.where(inside, offsets, 0))
            large = cv2.resize(flow, case.truth.shape[1::-1], interpolation=cv2.INTER_NEAREST)
            lines.append([case.damaged, np.asarray(large, np.uint8), draw_flow(wheel, 1.0)])
            labels.append(f"{name}: {case.photo}")
    if lines:
        headings = ("damaged", "copied from (hole only)", "direction")
        write_contact_sheet(out, lines, headings, labels, cell_px=256)
    return bool(lines)


def measure_varieties(laboratory: Laboratory) -> dict[str, float]:
    """How much the maps of the two warps differ from picture to picture, of rows that are trained.

    Standard deviation over pictures, in units of half the picture; 0 is the same map for all.
    """
    found: dict[str, float] = {}
    cases = [case for case in laboratory.cases if case.kind == "square56"]
    for row in ROWS:
        if row.model.get("branch") not in ("transformer", "flow"):
            continue
        network = laboratory.load_network(row)
        if network is None:
            continue
        assert isinstance(network, DeepFill)
        with torch.inference_mode():
            batches = [to_batch(case.damaged, case.mask) for case in cases]
            maps = [network.find_offsets(batch, hole) for batch, hole in batches]
        found[row.name] = measure_variety(torch.cat(maps))
    return found


def draw_neighbours(features: torch.Tensor, pictures: Sequence[Image], out: Path) -> None:
    """Every third picture with those whose features are nearest to its own.

    Args:
        features: (N, D), one row a picture; their mean is taken off, since all point much alike.
        pictures: of the same number, (H, W, 3) uint8.
        out: picture file.
    """
    centred = features - features.mean(0)
    order = find_neighbours(centred, centred, min(5, len(pictures))).tolist()
    shown = range(0, len(pictures), 3)
    lines = [[pictures[index] for index in order[row]] for row in shown]
    headings = ["query", *(f"nearest {number}" for number in range(1, len(lines[0])))]
    write_contact_sheet(out, lines, headings, ["" for _ in shown], cell_px=128)


def look_with_byol(encoder: Encoder, pictures: Sequence[Image]) -> torch.Tensor:
    """(N, D) pooled features of the deepest level of a BYOL encoder."""
    batch = torch.cat([to_batch(picture, picture[..., 0])[0] for picture in pictures])
    with torch.inference_mode():
        return encoder.eval()(batch)[-1].mean((2, 3))


def look_by_context(encoder: ContextEncoder, pictures: Sequence[Image]) -> torch.Tensor:
    """(N, D) features of 128 px windows whose middle a context encoder does not see.

    Pathak et al. (CVPR 2016), section 5.2: neighbours agree in what surrounds the patch, and the
    patches turn out alike.
    """
    batch = torch.cat([to_batch(picture, picture[..., 0])[0] for picture in pictures])
    with torch.inference_mode():
        return encoder.eval().encode(batch, encoder.hide_center(batch))


def cut_windows(side: int = 128) -> list[Image]:
    """Six windows of every photograph that may be shown."""
    return [
        np.ascontiguousarray(picture[top : top + side, left : left + side])
        for picture in read_shown().values()
        for top in (0, 256 - side)
        for left in (0, (256 - side) // 2, 256 - side)
    ]


def main() -> int:
    """Train, score and write from the command line."""
    if sys.argv[1:2] == ["--cost"]:  # a process of our own, see read_costs
        torch.set_num_threads(1)
        sys.stdout.write(json.dumps(measure_cost(sys.argv[2])))
        return 0
    options = _read_arguments()
    torch.set_num_threads(options.threads)
    cv2.setNumThreads(1)
    laboratory = Laboratory(
        list_cases(options.data, options.photos, options.seed, KINDS), options.cache,
        options.runs, options.crops, options.bank, options.seed, options.encoder,
        torch.device(options.device),
    )  # fmt: skip
    chosen = [row for row in ROWS if not options.only or row.name in options.only]
    began = time.monotonic()
    for row in chosen:
        left = options.minutes - (time.monotonic() - began) / 60
        if left <= 0:
            break
        laboratory.work_on(row, left)
    comparisons: list[Comparison] = []
    if not options.no_representations:
        left = options.minutes - (time.monotonic() - began) / 60
        comparisons = compare_representations(
            options.data, options.cache, options.runs / "representations",
            crops=options.crops, seed=options.seed, minutes=left,
        )  # fmt: skip
    results = laboratory.score_untrained()
    for row in ROWS:
        found = [laboratory.read_result(row, name) for name in (row.name, *list_variants(row))]
        results += [result for result in found if result is not None]
    pictures: dict[str, Path] = {}
    legend = ""
    if not options.no_pictures:
        out: Path = options.out
        pictures["repairs"] = out.with_name("systems.jpg")
        legend = draw_repairs(laboratory, ROWS, pictures["repairs"])
        if draw_flows(laboratory, out.with_name("systems-flow.png")):
            pictures["flow"] = out.with_name("systems-flow.png")
        windows = cut_windows()
        if options.encoder:
            pictures["byol"] = out.with_name("systems-byol.jpg")
            features = look_with_byol(load_features(options.encoder)[1], windows)
            draw_neighbours(features, windows, pictures["byol"])
        whole = next((row for row in ROWS if row.name == "context encoder, any size"), None)
        network = laboratory.load_network(whole) if whole else None
        if isinstance(network, ContextEncoder):
            pictures["context"] = out.with_name("systems-context.jpg")
            draw_neighbours(look_by_context(network, windows), windows, pictures["context"])
    about = [
        f"Budget: {options.crops:,} crops of 128 px a row in batches of 16, seed {options.seed}, "
        f"{options.bank:,} masks of the default inpainter's mix; scored on "
        f"{len({case.photo for case in laboratory.cases})} photographs of 256 px that no row was "
        f"trained on, with {', '.join(KINDS)} each.",
        f"Machine: {describe_setup()}; {options.threads} thread(s), {options.device}.",
    ]
    costs = {} if options.no_costs else read_costs(options.runs)
    varieties = measure_varieties(laboratory)
    page = write_report(results, costs, comparisons, about, pictures, varieties, legend)
    options.out.write_text(page, "utf-8")
    sys.stderr.write(f"{options.out}\n")
    return 0


def _read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("data", type=Path, help="folder of the photographs of photos.toml")
    parser.add_argument("--cache", type=Path, required=True, help="folder of training.data")
    parser.add_argument("--runs", type=Path, default=Path("runs/laboratory"))
    parser.add_argument("--encoder", type=Path, help="encoder.safetensors of training.byol")
    parser.add_argument("--crops", type=int, default=3200, help="that every row is trained on")
    parser.add_argument("--bank", type=int, default=2048, help="masks that are drawn")
    parser.add_argument("--photos", type=int, default=6, help="of each content, at most 6")
    parser.add_argument("--seed", type=int, default=2026)
    names = [row.name for row in ROWS]
    parser.add_argument("--only", nargs="+", choices=names, metavar="ROW", help="rows to work on")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after this long")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--no-representations", action="store_true")
    parser.add_argument("--no-costs", action="store_true")
    parser.add_argument("--no-pictures", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("docs/systems.md"))
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
