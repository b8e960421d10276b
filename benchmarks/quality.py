"""Our weights beside every classical program, on held-out photographs with seeded masks.

    python -m benchmarks.quality DATA --elements DATA/damage_elements \
        --peers-python .venv-peers/bin/python --cache runs/quality-cache \
        --photos 64 --out docs/quality.md --sheet runs/quality.png

Peers' scores are kept in the cache folder, so that only our rows are computed again after a
training. ``--peers-only`` fills the cache photograph by photograph, all kinds in turn, and may be
interrupted; ``--cached-only`` then judges what is there. What the numbers mean is defined in
benchmarks/scores.py, the masks in training/masks.py, the photographs in training/validation.py.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from benchmarks.machine import describe_setup
from benchmarks.peers import (
    PEERS,
    Key,
    Peer,
    PeerError,
    ScoreCache,
    Worker,
    build_key,
    hash_array,
)
from benchmarks.quality_report import OURS, SMOOTH, Kind, Outcome, write_report
from benchmarks.scores import (
    composite,
    measure_known_change,
    measure_scores,
    measure_variation,
    paint_hole,
)
from restorepix.inpaint import Inpainter
from restorepix.models.generator import Generator, Stages
from restorepix.models.loading import load_generator
from restorepix.surround import Rgb
from restorepix.texture import add_texture
from restorepix.tiles import Box
from restorepix.tone import keep_tone
from restorepix.weights import find_weights
from training.contact_sheet import write_contact_sheet
from training.evaluate import load_checkpoint, run_stages
from training.loop import read_elements
from training.masks import MASK_KINDS, draw_benchmark_mask, find_fonts
from training.validation import list_validation, read_square

Image = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.uint8]

SHEET_PEERS = ("telea", "fsr", "gmic_matchpatch")


@dataclass(frozen=True)
class Case:
    """One damaged photograph."""

    photo: str
    """Name in the validation list."""
    kind: str
    truth: Image
    mask: Mask

    @property
    def damaged(self) -> Image:
        """The photograph with its hole painted grey."""
        return paint_hole(self.truth, self.mask)


def seed_mask(seed: int, kind: str, number: int) -> np.random.Generator:
    """The random generator of one photograph's mask: the same in any order and selection.

    Args:
        seed: of the whole benchmark.
        kind: one of ``MASK_KINDS``; by name, so that a new kind moves no mask.
        number: place of the photograph in the validation list.
    """
    return np.random.default_rng([seed, zlib.crc32(kind.encode()), number])


def walk_cases(
    data: Path, photos: int, kinds: Sequence[str], seed: int, elements: Sequence[Mask]
) -> Iterator[Case]:
    """Every kind of damage on the first photograph, then on the second, and so on."""
    fonts = find_fonts()
    for number, path in enumerate(list_validation(data, photos)):
        truth = read_square(path)
        for kind in kinds:
            rng = seed_mask(seed, kind, number)
            mask = draw_benchmark_mask(kind, truth.shape[0], rng, fonts=fonts, elements=elements)
            yield Case(path.relative_to(data).as_posix(), kind, truth, mask)


class Stage(nn.Module):
    """A generator that gives an earlier stage's picture as its result."""

    def __init__(self, generator: Generator, stage: str) -> None:
        """Take ``fill``, ``coarse`` or ``refined`` of ``generator``."""
        super().__init__()
        self.generator = generator
        self.stage = stage

    def forward(self, image: Tensor, mask: Tensor) -> Stages:
        """As ``Generator.forward``, with ``refined`` replaced."""
        stages: Stages = self.generator(image, mask)
        return stages._replace(refined=getattr(stages, self.stage))


class Ours:
    """Our rows: what ``restorepix fix`` paints, and what its parts would."""

    def __init__(self, generator: Generator) -> None:
        """Take a generator over; its attention is on or off as its config says."""
        self._generator = generator
        device = torch.device("cpu")
        self._inpainters = {OURS: Inpainter(Stage(generator, "refined"), device)}
        if generator.config.attention:
            blind = Generator(replace(generator.config, attention=False))
            blind.load_state_dict(generator.state_dict())
            self._inpainters["attention off"] = Inpainter(Stage(blind, "refined"), device)
        self._inpainters |= {
            "coarse alone": Inpainter(Stage(generator, "coarse"), device),
            "fill alone": Inpainter(Stage(generator, "fill"), device),
        }

    def inpaint(self, case: Case) -> dict[str, tuple[Image, float]]:
        """Pictures, (H, W, 3) uint8, and CPU seconds by row; 0 s for parts, which run all."""
        results: dict[str, tuple[Image, float]] = {}
        begin = time.process_time()
        result = inpaint_picture(self._inpainters[OURS], case.damaged, case.mask, texture=True)
        results[OURS] = (result, time.process_time() - begin)
        for name, inpainter in self._inpainters.items():
            begin = time.process_time()
            result = inpaint_picture(inpainter, case.damaged, case.mask)
            whole = name in (OURS, "attention off")
            row = SMOOTH if name == OURS else name
            results[row] = (result, time.process_time() - begin if whole else 0.0)
        begin = time.process_time()
        result = run_stages(self._generator, case.damaged, case.mask)["refined"]
        results["whole picture at once"] = (result, time.process_time() - begin)
        return results


def inpaint_picture(
    inpainter: Inpainter, image: Image, mask: Mask, *, texture: bool = False
) -> Image:
    """Fill a picture's hole the way ``restorepix fix --grain off`` does.

    Args:
        inpainter: with the generator to run.
        image: (H, W, 3) uint8 RGB.
        mask: (H, W) uint8 in {0, 1}, 1 = hole.
        texture: borrow texture, as ``fix`` does without ``--texture off``.
    """
    result = image.copy()
    hole = mask > 0
    picture = image.astype(np.float32) / 255
    patches: Sequence[tuple[Box, Rgb]] = inpainter.inpaint(picture, hole)
    if texture:
        patches = add_texture(lambda box: picture[box.slices()], hole, patches)
    patches = keep_tone(lambda box: picture[box.slices()], hole, patches)
    for box, rgb in patches:
        inside = hole[box.slices()]
        result[box.slices()][inside] = np.rint(rgb[inside] * 255).astype(np.uint8)
    return result


class Peers:
    """Every peer's outcome on a case, from the cache or from the worker."""

    def __init__(self, peers: Sequence[Peer], worker: Worker, cache: ScoreCache, seed: int) -> None:
        """Use ``cache`` first and ``worker`` for what is missing there."""
        self._peers, self._worker, self._cache, self._seed = peers, worker, cache, seed

    def find(self, case: Case) -> dict[str, Outcome] | None:
        """Outcomes by title if all are in the cache, else None."""
        found = {peer.title: self._cache.get(self._key(peer, case)) for peer in self._peers}
        known = {title: outcome for title, outcome in found.items() if outcome is not None}
        return known if len(known) == len(found) else None

    def measure(self, case: Case) -> dict[str, Outcome]:
        """Outcomes by title; what is missing in the cache is computed and kept."""
        outcomes: dict[str, Outcome] = {}
        for peer in self._peers:
            key = self._key(peer, case)
            outcome = self._cache.get(key)
            if outcome is None:
                outcome = self._compute(peer, case)
                self._cache.put(key, outcome)
            outcomes[peer.title] = outcome
        return outcomes

    def draw(self, case: Case) -> list[Image | None]:
        """Pictures of those of ``SHEET_PEERS`` that take part, as they gave them."""
        shown = [peer for peer in self._peers if peer.name in SHEET_PEERS]
        return [self._worker.inpaint(peer, case.damaged, case.mask).image for peer in shown]

    def _key(self, peer: Peer, case: Case) -> Key:
        version = self._worker.versions[peer.package]
        return build_key(
            peer, version, photo=case.photo, truth=case.truth, kind=case.kind, seed=self._seed,
            mask=case.mask,
        )  # fmt: skip

    def _compute(self, peer: Peer, case: Case) -> Outcome:
        answer = self._worker.inpaint(peer, case.damaged, case.mask)
        if answer.image is None:
            return answer.error
        return score_result(answer.image, case) | {"seconds": answer.seconds}


def score_result(raw: Image, case: Case) -> dict[str, float]:
    """All scores of a program's picture but its seconds."""
    scores = measure_scores(composite(raw, case.truth, case.mask), case.truth, case.mask)
    return scores | measure_known_change(raw, case.truth, case.mask)


def score_truth(case: Case) -> dict[str, float]:
    """The truth's total variation, ``tv_whole`` and ``tv_hole``: what a repair should reach."""
    everywhere = np.ones_like(case.mask)
    return {
        "tv_whole": measure_variation(case.truth, everywhere),
        "tv_hole": measure_variation(case.truth, case.mask),
    }


def load_weights(path: Path | None) -> tuple[Generator, str]:
    """A generator and the sha256 of the file its numbers came from.

    Args:
        path: a safetensors file, the folder of a training checkpoint, or None for the bundled
            weights.
    """
    if path is not None and path.is_dir():
        digest = hashlib.sha256((path / "ema.safetensors").read_bytes()).hexdigest()
        return load_checkpoint(path), digest
    return load_generator(path, torch.device("cpu")), find_weights(path).sha256


@dataclass
class Judged:
    """What a run found."""

    kinds: dict[str, Kind]
    masks: list[str] = field(default_factory=list[str])
    """Hashes of the masks, in order."""
    sheet: list[tuple[Case, list[Image]]] = field(default_factory=list[tuple[Case, list[Image]]])
    """Rows of the contact sheet, with the cases they show."""
    incomplete: int = 0
    """Cases left out since peers' scores are missing in the cache."""


def measure_cases(
    cases: Iterable[Case],
    peers: Peers | None,
    ours: Ours | None,
    *,
    cached_only: bool = False,
    sheet_photos: int = 0,
) -> Judged:
    """Let every program fill every case, and score it.

    Args:
        cases: to fill.
        peers: other programs, or None for ours alone.
        ours: our rows, or None to do no more than fill the peers' cache.
        cached_only: leave out cases for which the cache lacks a peer.
        sheet_photos: how many cases of each kind get a row of pictures.

    Raises:
        PeerError: the peers' worker ended.
    """
    judged = Judged({})
    begin = time.monotonic()
    for number, case in enumerate(cases, 1):
        outcomes: dict[str, Outcome] | None = {}
        if peers:
            outcomes = peers.find(case) if cached_only else peers.measure(case)
        if outcomes is None:
            judged.incomplete += 1
            continue
        if ours:
            results = ours.inpaint(case)
            for name, (result, seconds) in results.items():
                outcomes[name] = score_result(result, case) | {"seconds": seconds}
            kind = judged.kinds.setdefault(case.kind, Kind(case.kind))
            kind.add(outcomes, score_truth(case))
            judged.masks.append(hash_array(case.mask))
            if kind.count <= sheet_photos:
                row = [results["coarse alone"][0], results[OURS][0], case.truth]
                judged.sheet.append((case, [*draw_peers(case, peers), *row]))
        passed = f"{number} cases, {time.monotonic() - begin:.0f} s"
        sys.stderr.write(f"{passed}: {case.photo} {case.kind}\n")
    return judged


def draw_peers(case: Case, peers: Peers | None) -> list[Image]:
    """The damaged picture, hole in white, and what some peers make of it; grey where refused."""
    row = [np.where(case.mask[..., None] > 0, 255, case.truth).astype(np.uint8)]
    if peers:
        for image in peers.draw(case):
            row.append(case.damaged if image is None else composite(image, case.truth, case.mask))
    return row


def main() -> int:
    """Measure from the command line."""
    options = _read_arguments()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    elements = read_elements(options.elements)
    chosen = [peer for peer in PEERS if peer.name in options.peers]
    ours, weights = None, ""
    if not options.peers_only:
        generator, weights = load_weights(options.weights)
        ours = Ours(generator)
    cases = walk_cases(options.data, options.photos, options.kinds, options.seed, elements)
    try:
        with Worker(options.peers_python) if chosen else nullcontext() as worker:
            peers = None
            versions: dict[str, str] = {}
            if worker:
                versions = worker.versions
                cache = ScoreCache(options.cache)
                sys.stderr.write(f"{len(cache)} scores in {cache.path}\n")
                peers = Peers(chosen, worker, cache, options.seed)
            judged = measure_cases(
                cases,
                peers,
                ours,
                cached_only=options.cached_only,
                sheet_photos=options.sheet_photos if options.sheet else 0,
            )
    except PeerError as error:
        sys.stderr.write(f"{error}\n")
        return 3
    if ours is None:
        return 0
    if judged.incomplete:
        sys.stderr.write(f"{judged.incomplete} cases left out: the cache lacks a peer's score\n")
    if not judged.kinds:
        return 1
    masks = hashlib.sha256("".join(judged.masks).encode()).hexdigest()
    about = [
        f"Weights: sha256 `{weights}`.",
        f"Seed {options.seed}, masks sha256 `{masks[:16]}`.",
        f"Machine: {describe_setup()}; one thread.",
    ]
    if versions:
        listed = ", ".join(f"{name} {value}" for name, value in sorted(versions.items()))
        about.append(f"Peers: {listed}.")
    titles = [peer.title for peer in chosen]
    kinds = [judged.kinds[kind] for kind in options.kinds if kind in judged.kinds]
    options.out.write_text(write_report(kinds, titles, about), "utf-8")
    sys.stderr.write(f"{options.out}\n")
    if judged.sheet:
        shown = [peer.title for peer in chosen if peer.name in SHEET_PEERS]
        headings = ["damaged", *shown, "coarse alone", OURS, "truth"]
        judged.sheet.sort(key=lambda entry: options.kinds.index(entry[0].kind))
        labels = [f"{case.kind}: {case.photo}" for case, _ in judged.sheet]
        rows = [row for _, row in judged.sheet]
        write_contact_sheet(options.sheet, rows, headings, labels, cell_px=256)
        sys.stderr.write(f"{options.sheet}\n")
    return 0


def _read_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("data", type=Path, help="folder of the held-out photographs")
    parser.add_argument("--elements", type=Path, help="folder of damage elements, for kind film")
    parser.add_argument("--weights", type=Path, help="a file or a checkpoint's folder")
    parser.add_argument("--photos", type=int, default=64, help="how many, from the list's start")
    parser.add_argument("--kinds", nargs="+", default=list(MASK_KINDS), choices=MASK_KINDS)
    parser.add_argument("--seed", type=int, default=2026)
    names = [peer.name for peer in PEERS]
    parser.add_argument("--peers", nargs="*", default=names, choices=names, help="none: ours alone")
    parser.add_argument("--peers-python", type=Path, help="Python of requirements-peers.txt")
    parser.add_argument("--cache", type=Path, default=Path("runs/quality-cache"))
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--peers-only", action="store_true", help="fill the cache, write no table")
    only.add_argument("--cached-only", action="store_true", help="judge only what is in the cache")
    parser.add_argument("--out", type=Path, default=Path("docs/quality.md"))
    parser.add_argument("--sheet", type=Path, help="write a contact sheet PNG")
    parser.add_argument("--sheet-photos", type=int, default=2, help="rows of each kind on it")
    options = parser.parse_args()
    if options.peers and options.peers_python is None:
        parser.error("--peers-python is needed for the peers; see benchmarks/README.md")
    if options.photos < 1:
        parser.error("--photos must be 1 or more")
    if "film" in options.kinds and options.elements is None:
        parser.error("kind film needs --elements FOLDER; without it, list the others in --kinds")
    if not options.out.parent.is_dir():
        parser.error(f"--out {options.out}: its folder is missing; make it first")
    if options.peers_only and not options.peers:
        parser.error("--peers-only with no peers leaves nothing to do")
    return options


if __name__ == "__main__":
    raise SystemExit(main())
