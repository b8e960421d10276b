"""Damage a few photographs, restore them with the command line, and look at the result.

    python examples/demo.py --out out

makes ``out/damaged`` (a small tree of photographs from scikit-image, with scratches, writing and
stains painted on them), ``out/masks`` (where the damage is), ``out/restored`` (made by
``restorepix fix``) and ``out/contact_sheet.png``, and says how close the repairs came.
``out/before-after.png`` is the picture in the README.

Exit code: that of ``restorepix``, or 1 when a restored file is missing or a known pixel changed.
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import skimage.data
from PIL import Image, ImageOps
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # training/ lies in the checkout
from restorepix.tiles import Box
from training.contact_sheet import write_contact_sheet
from training.damage import DamageKind, damage_photo

Pixels = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]

JPEG_QUALITY = 92
JPEG_MARGIN_PX = 2
"""How far a mask reaches beyond damage that JPEG with halved chroma has smeared (a guess)."""
JPEG_REACH_PX = 17
"""A hole pixel can touch a 16 px block of chroma, whose edge smooth upsampling carries 1 px on."""


@dataclass(frozen=True)
class Exhibit:
    """One damaged photograph of the demo."""

    path: str
    """Where it lies in the tree; the suffix is the format."""
    photograph: str
    """Name of the photograph in ``skimage.data``; all of them are inside its wheel."""
    damage: tuple[DamageKind, ...]
    seed: int
    """Chosen by eye, for damage that is plain to see and does not drown the photograph."""
    bits: int = 8
    """Bits a channel in the file, 8 or 16."""
    orientation: int = 1
    """EXIF orientation: 1 = stored as displayed, 6 = stored a quarter turn to the left."""
    close_up: Box | None = None
    """What the README's picture shows of it, pixel by pixel."""

    @property
    def is_lossless(self) -> bool:
        """Whether the format keeps every known pixel; JPEG keeps whole blocks."""
        return self.path.endswith(".png")


EXHIBITS = (
    Exhibit(
        "family/1962/astronaut.jpg",
        "astronaut",
        ("scratch", "dust"),
        seed=17,
        close_up=Box(0, 90, 256, 256),
    ),
    Exhibit(
        "family/1962/No. 14 (camera).png",
        "camera",
        ("scratch", "fold"),
        seed=1,
        close_up=Box(40, 120, 256, 256),
    ),
    Exhibit("family/pets/chelsea.JPG", "chelsea", ("hair", "caption"), seed=19),
    Exhibit(
        "Dachböden/café.jpg",
        "coffee",
        ("date", "scratch"),
        seed=9,
        orientation=6,
        close_up=Box(144, 344, 256, 256),
    ),
    Exhibit("garage/motorcycle.png", "stereo_motorcycle", ("watermark", "scratch"), seed=42),
    Exhibit("sky/moon-16bit.png", "moon", ("dust", "hair"), seed=8, bits=16),
    Exhibit(
        "sky/rocket.png",
        "rocket",
        ("blob", "stain", "caption"),
        seed=31,
        close_up=Box(10, 240, 256, 256),
    ),
)


@dataclass(frozen=True)
class Repair:
    """What happened to one exhibit."""

    exhibit: Exhibit
    before: Pixels
    after: Pixels
    mask: Mask
    psnr_before: float
    """Likeness to the undamaged photograph inside the hole, in dB; inf when identical."""
    psnr_after: float
    known_share: float
    """Share of the pixels outside the hole that are exactly those of the damaged file."""
    kept: bool
    """Whether the file kept what its format promises: every known pixel, or for JPEG every known
    pixel of the blocks that no hole touches."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo and return its exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder to fill (out)")
    parser.add_argument("--device", default="auto", help="passed on to restorepix (auto)")
    parser.add_argument("--weights", type=Path, help="passed on (the bundled weights)")
    options = parser.parse_args(arguments)
    out: Path = options.out
    console = Console(width=None if sys.stdout.isatty() else 110, markup=False, highlight=False)

    for exhibit in EXHIBITS:
        write_exhibit(exhibit, out / "damaged", out / "masks")
    console.print(f"{len(EXHIBITS)} damaged photographs in {out / 'damaged'}")
    code = run_restorepix(out, options.device, options.weights)

    repairs = [
        measure_repair(exhibit, out)
        for exhibit in EXHIBITS
        if (out / "restored" / exhibit.path).is_file()
    ]
    if repairs:
        console.print(build_table(repairs))
        sheet = out / "contact_sheet.png"
        write_contact_sheet(
            sheet,
            [(repair.before, repair.mask, repair.after) for repair in repairs],
            ["before", "mask", "after"],
            [describe_repair(repair) for repair in repairs],
        )
        console.print(f"Look at {sheet}")
        write_close_ups(repairs, out / "before-after.png")
    broken = [repair.exhibit.path for repair in repairs if not repair.kept]
    if broken:
        console.print(f"Known pixels changed in: {', '.join(broken)}", style="bold red")
    missing = len(EXHIBITS) - len(repairs)
    if missing:
        console.print(f"{missing} of {len(EXHIBITS)} photographs not restored", style="bold red")
    return code or int(bool(broken or missing))


def run_restorepix(out: Path, device: str, weights: Path | None) -> int:
    """Restore ``out/damaged`` into ``out/restored`` as a user would; return the exit code."""
    command = [sys.executable, "-m", "restorepix", "fix", str(out / "damaged")]
    command += ["--mask", str(out / "masks"), "-o", str(out / "restored")]
    command += ["--overwrite", "--device", device]
    if weights is not None:
        command += ["--weights", str(weights)]
    return subprocess.run(command, check=False).returncode


def read_truth(exhibit: Exhibit) -> Pixels:
    """The undamaged photograph as displayed: (H, W) or (H, W, 3), uint8 or uint16."""
    photograph = getattr(skimage.data, exhibit.photograph)()
    pixels = photograph[0] if isinstance(photograph, tuple) else photograph
    if exhibit.bits == 8:
        return np.asarray(pixels, np.uint8)
    smooth = cv2.GaussianBlur(pixels.astype(np.float32), (0, 0), 0.7)  # uses the finer levels
    return np.rint(smooth * 257).astype(np.uint16)


def damage_exhibit(exhibit: Exhibit) -> tuple[Pixels, Mask]:
    """The damaged photograph, of the shape and dtype of its truth, and its (H, W) mask."""
    truth = read_truth(exhibit)
    shown = np.rint(truth / 257).astype(np.uint8) if exhibit.bits == 16 else truth
    rgb = shown if shown.ndim == 3 else np.repeat(shown[:, :, None], 3, 2)
    margin_px = 1 if exhibit.is_lossless else JPEG_MARGIN_PX
    rng = np.random.default_rng(exhibit.seed)
    painted, mask = damage_photo(rgb, rng, exhibit.damage, margin_px=margin_px)
    if shown.ndim == 2:
        painted = np.asarray(cv2.cvtColor(painted, cv2.COLOR_RGB2GRAY), np.uint8)
    if exhibit.bits == 8:
        return painted, mask
    shift = (painted.astype(np.int32) - shown) * 257
    return np.clip(truth + shift, 0, 65535).astype(np.uint16), mask


def write_exhibit(exhibit: Exhibit, photos: Path, masks: Path) -> None:
    """Write the damaged photograph and, as ``PATH.png`` in the masks' tree, its mask."""
    pixels, mask = damage_exhibit(exhibit)
    photo_path = photos / exhibit.path
    mask_path = masks / f"{exhibit.path}.png"
    for path in (photo_path, mask_path):
        path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels)
    if exhibit.is_lossless:
        image.save(photo_path)
    else:
        exif = Image.Exif()
        exif[0x0112] = exhibit.orientation
        if exhibit.orientation == 6:
            image = image.transpose(Image.Transpose.ROTATE_90)
        image.save(photo_path, quality=JPEG_QUALITY, exif=exif)
    Image.fromarray(mask.astype(np.uint8) * 255).save(mask_path)


def read_pixels(path: Path) -> Pixels:
    """Pixels of a file as displayed, at its own depth."""
    with Image.open(path) as image:
        return np.asarray(ImageOps.exif_transpose(image))


def measure_repair(exhibit: Exhibit, out: Path) -> Repair:
    """Compare the damaged and the restored file with the truth and with each other."""
    truth = read_truth(exhibit)
    before = read_pixels(out / "damaged" / exhibit.path)
    after = read_pixels(out / "restored" / exhibit.path)
    mask = read_pixels(out / "masks" / f"{exhibit.path}.png") > 127
    if after.shape != before.shape or after.dtype != before.dtype:
        raise SystemExit(
            f"{exhibit.path}: expected {before.dtype} {before.shape} in the restored file, "
            f"found {after.dtype} {after.shape}"
        )
    same = before == after if before.ndim == 2 else (before == after).all(2)
    reach = 0 if exhibit.is_lossless else JPEG_REACH_PX
    side = 2 * reach + 1
    near = cv2.dilate(mask.astype(np.uint8), np.ones((side, side), np.uint8)).astype(np.bool_)
    return Repair(
        exhibit=exhibit,
        before=before,
        after=after,
        mask=mask,
        psnr_before=compute_hole_psnr(before, truth, mask),
        psnr_after=compute_hole_psnr(after, truth, mask),
        known_share=float(same[~mask].mean()),
        kept=bool(same[~near].all()),
    )


def compute_hole_psnr(image: Pixels, truth: Pixels, mask: Mask) -> float:
    """Peak signal-to-noise ratio in dB over the pixels where ``mask`` is True."""
    peak = np.iinfo(truth.dtype).max
    error = (image[mask].astype(np.float64) - truth[mask]) / peak
    mean_square = float(np.mean(error**2))
    return -10 * math.log10(mean_square) if mean_square else math.inf


def describe_repair(repair: Repair) -> str:
    """One line above a row of the contact sheet."""
    gain = f"{repair.psnr_before:.1f} to {repair.psnr_after:.1f} dB in the hole"
    return f"{repair.exhibit.path}   {', '.join(repair.exhibit.damage)}   {gain}"


def write_close_ups(repairs: Sequence[Repair], path: Path) -> None:
    """Draw the README's picture, ``docs/before-after.png``: parts of some photographs, unscaled."""
    shown = [(repair, box) for repair in repairs if (box := repair.exhibit.close_up)]
    if not shown:
        return
    write_contact_sheet(
        path,
        [
            [repair.before[box.slices()] for repair, box in shown],
            [repair.mask[box.slices()] for repair, box in shown],
            [repair.after[box.slices()] for repair, box in shown],
        ],
        [", ".join(repair.exhibit.damage) for repair, _ in shown],
        ["before", "mask", "after"],
        cell_px=256,
    )


def build_table(repairs: Sequence[Repair]) -> Table:
    """The summary printed at the end."""
    table = Table("photograph", "damage")
    for heading in ("hole", "before", "after", "known pixels kept"):
        table.add_column(heading, justify="right")
    for repair in repairs:
        kept = "all" if repair.known_share == 1 else f"{repair.known_share:.1%}, whole blocks"
        table.add_row(
            repair.exhibit.path,
            ", ".join(repair.exhibit.damage),
            f"{repair.mask.mean():.1%}",
            f"{repair.psnr_before:.1f} dB",
            f"{repair.psnr_after:.1f} dB",
            kept if repair.kept else "CHANGED",
        )
    return table


if __name__ == "__main__":
    sys.exit(main())
