"""Grain in the hole beside grain around it, with and without ``restorepix.grain``.

    python -m benchmarks.grain DATA --photos 16 --clean 128 --out docs/grain.md --sheet grain.png

Held-out photographs cut to 256 px (training/validation.py) get synthetic grain of a known kind and
level, and a hole (training/masks.py), whose kinds take turns. The network fills the hole; the
patches are pasted as they are, and after :func:`restorepix.grain.add_grain`.

- *ratio*: mean square of the fine part (:func:`restorepix.grain.find_fine`) in the hole, over that
  of known pixels 2 to 8 px away from it. *Flat* takes only pixels around which the photograph
  itself has less than 1/25 of the grain's variance in its fine part: there the ratio is about
  grain. *All* takes every pixel: there it is about texture too, which no
  prediction has in full.
- *PSNR* of the hole, against the grainy photograph. Grain costs PSNR, always: what is added is
  right in kind and wrong in place.

Last, the photographs as they are: those that get grain, and what it costs them.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch

from benchmarks.machine import describe_setup
from benchmarks.quality import seed_mask
from restorepix.composite import composite_page
from restorepix.grain import add_grain, find_fine
from restorepix.inpaint import Inpainter
from restorepix.models.loading import load_generator
from restorepix.photo import BoolMask
from training.contact_sheet import write_contact_sheet
from training.masks import draw_benchmark_mask, find_fonts
from training.validation import list_validation, read_square

Rgb = npt.NDArray[np.float32]

KINDS = ("scratch", "text", "logo", "irregular20")
NOISES = ("white", "film", "shot")
"""White; blurred by 0.9 px and partly shared by the channels; growing with brightness."""
LEVELS = (4, 8, 16)
"""Standard deviations in levels of 255."""
RANGE = (0.6, 1.4)
"""What the ratio should lie in."""
BEGIN, END = "<!-- measured by benchmarks/grain.py -->", "<!-- end of measurements -->"


def draw_noise(truth: Rgb, kind: str, level: float, rng: np.random.Generator) -> Rgb:
    """Noise for a (H, W, 3) picture in [0, 1], of a standard deviation of ``level`` / 255.

    Args:
        truth: decides the level of ``shot`` noise, and whether noise is grey: three equal channels
            get equal noise.
        kind: one of ``NOISES``.
        level: mean standard deviation.
        rng: random numbers.
    """
    noise = rng.standard_normal(truth.shape, np.float32)
    if (truth[..., :1] == truth).all():
        noise[:] = noise[..., :1]
    if kind == "film":
        noise = cv2.GaussianBlur(noise, (0, 0), 0.9)
        noise = 0.6 * noise.mean(axis=2, keepdims=True) + 0.8 * noise
    noise *= level / 255 / noise.std()
    if kind == "shot":
        noise *= np.sqrt(0.15 + 1.7 * truth)
    return noise.astype(np.float32)


def round_levels(image: Rgb) -> Rgb:
    """Return a picture as 8 bits hold it, in [0, 1]."""
    return (np.clip(np.rint(image * 255), 0, 255) / 255).astype(np.float32)


@dataclass
class Case:
    """One photograph with grain and a hole, and both repairs."""

    noise: str
    kind: str
    truth: Rgb
    """With its grain."""
    mask: BoolMask
    flat: BoolMask
    """Where the photograph has little of its own."""
    smooth: Rgb
    grown: Rgb
    seconds: float
    """CPU time of ``add_grain``."""

    @property
    def is_changed(self) -> bool:
        """Whether grain was added."""
        return self.smooth is not self.grown

    def measure_ratio(self, image: Rgb, among: BoolMask) -> float:
        """Fine variance in the hole over that around it; NaN where under 64 px are left."""
        energy = (find_fine(image) ** 2).mean(axis=2)
        hole = self.mask.astype(np.uint8)
        ring = cv2.dilate(hole, np.ones((17, 17), np.uint8)) > 0
        ring &= cv2.dilate(hole, np.ones((3, 3), np.uint8)) == 0
        inside, around = self.mask & among, ring & among
        if min(np.count_nonzero(inside), np.count_nonzero(around)) < 64:
            return float("nan")
        return float(energy[inside].mean() / energy[around].mean())

    def measure_psnr(self, image: Rgb) -> float:
        """PSNR of the hole in dB against the grainy photograph."""
        error = float(((image - self.truth)[self.mask] ** 2).mean())
        return -10 * float(np.log10(max(error, 1e-10)))


def repair(inpainter: Inpainter, picture: Rgb, mask: BoolMask) -> tuple[Rgb, Rgb, float]:
    """Return the repair as predicted, with grain, and the CPU seconds that grain took.

    Without grain both are the same object.
    """
    patches = inpainter.inpaint(picture, mask)
    begin = time.process_time()
    grown = add_grain(lambda box: picture[box.slices()], mask, patches)
    seconds = time.process_time() - begin
    smooth = round_levels(composite_page(picture, mask, patches))
    if all(ours[1] is given[1] for ours, given in zip(grown, patches, strict=True)):
        return smooth, smooth, seconds
    return smooth, round_levels(composite_page(picture, mask, grown)), seconds


def walk_cases(
    data: Path, photos: int, specs: Sequence[tuple[str, float, bool]], inpainter: Inpainter
) -> Iterator[Case]:
    """Every kind of grain on every photograph.

    Args:
        data: folder of the photographs.
        photos: how many.
        specs: noise (empty for none), its level, and whether the photograph is made grey.
        inpainter: fills the holes.
    """
    fonts = find_fonts()
    for number, path in enumerate(list_validation(data, photos)):
        colour: Rgb = (read_square(path) / 255).astype(np.float32)
        for turn, (noise, level, grey) in enumerate(specs):
            clean: Rgb = colour
            if grey:
                mean = colour.mean(axis=2, keepdims=True, dtype=np.float32)
                clean = round_levels(np.concatenate([mean] * 3, axis=2))
            kind = KINDS[(number + turn) % len(KINDS)]
            mask = draw_benchmark_mask(kind, 256, seed_mask(0, kind, number), fonts=fonts) > 0
            picture, flat = clean, np.ones_like(mask)
            if noise:
                rng = np.random.default_rng([number, turn])
                picture = round_levels(clean + draw_noise(clean, noise, level, rng))
                own = cv2.blur((find_fine(clean) ** 2).mean(axis=2), (7, 7))
                flat = np.asarray(own) < (level / 255 / 5) ** 2
            name = f"{noise} {level:g}" if noise else "none"
            yield Case(name, kind, picture, mask, flat, *repair(inpainter, picture, mask))


@dataclass
class Row:
    """What the cases of one line of the table amount to."""

    title: str
    cases: list[Case] = field(default_factory=list[Case])

    def format(self) -> str:
        """Return the line."""
        everywhere = [np.ones_like(case.mask) for case in self.cases]
        flat = [case.flat for case in self.cases]
        cells = [self.title, str(len(self.cases)), _percent(c.is_changed for c in self.cases)]
        for among in (flat, everywhere):
            pairs = list(zip(self.cases, among, strict=True))
            before = [case.measure_ratio(case.smooth, here) for case, here in pairs]
            after = [case.measure_ratio(case.grown, here) for case, here in pairs]
            truth = [case.measure_ratio(case.truth, here) for case, here in pairs]
            told = [ratio for ratio in after if not np.isnan(ratio)]
            cells += [f"{np.nanmedian(ratios):.2f}" for ratios in (before, after, truth)]
            cells.append(_percent(RANGE[0] <= ratio <= RANGE[1] for ratio in told))
        before = np.mean([case.measure_psnr(case.smooth) for case in self.cases])
        after = np.mean([case.measure_psnr(case.grown) for case in self.cases])
        cells += [f"{before:.2f}", f"{after:.2f}"]
        return f"| {' | '.join(cells)} |"


COLUMNS = (
    "grain", "cases", "found",
    "flat: before", "after", "truth", "in range",
    "all: before", "after", "truth", "in range",
    "PSNR before", "after",
)  # fmt: skip


def _percent(flags: Iterator[bool] | Sequence[bool]) -> str:
    return f"{100 * float(np.mean(list(flags))):.0f} %"


def write_tables(cases: Sequence[Case], clean: Sequence[Case], about: str) -> str:
    """Return the tables as Markdown."""
    rows: dict[str, Row] = {}
    for case in cases:
        grey = bool((case.truth[..., :1] == case.truth).all())
        for title in (f"{case.noise}, {'grey' if grey else 'colour'}", f"hole: {case.kind}"):
            rows.setdefault(title, Row(title)).cases.append(case)
    ordered = sorted(rows, key=lambda title: title.startswith("hole: "))
    lines = [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    lines += [rows[title].format() for title in ordered]
    if cases:
        lines.append(Row("together", list(cases)).format())
    if clean:
        drops = [case.measure_psnr(case.smooth) - case.measure_psnr(case.grown) for case in clean]
        changed = [case for case in clean if case.is_changed]
        worst = max(drops)
        milliseconds = 1e3 * float(np.median([c.seconds for c in clean if not c.is_changed]))
        lines += [
            "",
            f"Photographs as they are: {len(changed)} of {len(clean)} get grain; hole PSNR falls "
            f"by {np.mean(drops):.3f} dB on average, by {worst:.2f} dB at most; the others are the "
            f"same bytes. Looking for grain takes {milliseconds:.0f} ms of a core for such a "
            f"photograph.",
        ]
    return "\n".join([*lines, "", about])


def replace_tables(page: Path, tables: str) -> None:
    """Write the tables into a page, between the lines that mark their place.

    Raises:
        ValueError: the page does not have these lines.
    """
    text = page.read_text("utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        msg = f"{page}: expected the lines {BEGIN!r} and {END!r}"
        raise ValueError(msg)
    page.write_text(f"{before}{BEGIN}\n{tables}\n{END}{after}", "utf-8")


def show(image: Rgb) -> npt.NDArray[np.uint8]:
    """Return a picture as 8 bits."""
    return np.rint(image * 255).astype(np.uint8)


def main() -> int:
    """Measure from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("data", type=Path, help="folder of the held-out photographs")
    parser.add_argument("--photos", type=int, default=16, help="with every kind of grain")
    parser.add_argument("--clean", type=int, default=128, help="as they are")
    parser.add_argument("--weights", type=Path, help="a file; default: the bundled weights")
    parser.add_argument("--out", type=Path, help="page to write the tables into; default: stdout")
    parser.add_argument("--sheet", type=Path, help="contact sheet to write")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    device = torch.device("cpu")
    inpainter = Inpainter(load_generator(options.weights, device), device)
    specs = [(noise, level, grey) for grey in (False, True) for noise in NOISES for level in LEVELS]
    cases: list[Case] = []
    for case in walk_cases(options.data, options.photos, specs, inpainter):
        cases.append(case)
        if len(cases) % 50 == 0:
            sys.stderr.write(f"{len(cases)} cases\n")
    clean = list(walk_cases(options.data, options.clean, [("", 0, False)], inpainter))
    tables = write_tables(cases, clean, f"Machine: {describe_setup()}; one thread.")
    if options.out:
        replace_tables(options.out, tables)
    else:
        sys.stdout.write(tables + "\n")
    if options.sheet:
        shown = cases[:: max(1, len(cases) // 16)]
        white = [np.where(c.mask[..., None], np.float32(1), c.truth) for c in shown]
        pictures = [
            [show(hole), show(case.smooth), show(case.grown), show(case.truth)]
            for hole, case in zip(white, shown, strict=True)
        ]
        labels = [f"{case.noise}: {case.kind}" for case in shown]
        headings = ["damaged", "without grain", "with grain", "truth"]
        write_contact_sheet(options.sheet, pictures, headings, labels, cell_px=384)
    return 0


if __name__ == "__main__":
    sys.exit(main())
