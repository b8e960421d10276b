"""Large data sets made ready for a full-size run: found, cleaned, shrunk, split, and cached.

    python -m training.prepare places2 /data/places365_standard --out runs/places2
    python -m training.prepare folder ~/Pictures --out runs/mine --short-side 512
    python -m training.loop RECIPE --cache runs/places2/cache --run runs/full

Nothing is downloaded: SOURCE is a copy that you have, in the layout of its publisher. What is no
picture, too small or there twice is left out and counted. The held-out photographs, those of the
publisher where there is a list, else about one in a hundred chosen by name, stay out of the cache
and are listed in ``heldout.txt``. An interrupted preparation goes on where it stopped.

Most of these sets allow research only. ``prepared.json`` says so, and weights trained on them
cannot be published as ours are (CONTRIBUTING.md).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from training.data import SUFFIXES, read_rgb, scale_picture

Split = tuple[list[Path], list[Path]]
"""Photographs to train on and photographs to hold out, sorted."""

HOLD_OUT_ONE_IN = 100


@dataclass(frozen=True)
class Source:
    """A data set that is known by name."""

    find: Callable[[Path], Split]
    """Finds its photographs below a folder.
    Raises ValueError, naming the layout, when they are not there."""
    terms: str
    """What its publisher allows, in short."""


def _list_pictures(*folders: Path) -> list[Path]:
    return sorted(
        path for folder in folders for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES
    )


def _hold_out(paths: Sequence[Path], root: Path) -> Split:
    """Split by the hash of each name: stable when photographs are added, alike on every machine."""
    chosen: Split = ([], [])
    for path in paths:
        digest = hashlib.sha256(path.relative_to(root).as_posix().encode()).digest()
        chosen[int.from_bytes(digest[:4]) % HOLD_OUT_ONE_IN == 0].append(path)
    return chosen


def _refuse(root: Path, name: str, layout: str) -> ValueError:
    return ValueError(
        f"{root}: expected the layout of {name} ({layout}), found no such photographs"
    )


def _find_first(root: Path, *names: str) -> Path | None:
    return next((root / name for name in names if (root / name).is_dir()), None)


def _find_train_and_val(name: str, trains: Sequence[str], vals: Sequence[str]) -> Callable:
    def find(root: Path) -> Split:
        train, val = _find_first(root, *trains), _find_first(root, *vals)
        if train is None:
            raise _refuse(root, name, " or ".join(trains))
        paths = _list_pictures(train)
        if not paths:
            raise _refuse(root, name, " or ".join(trains))
        return (paths, _list_pictures(val)) if val is not None else _hold_out(paths, root)

    return find


def _find_celeba(root: Path) -> Split:
    folder = _find_first(root, "CelebA-HQ-img", "data1024x1024", "celeba_hq") or root
    paths = _list_pictures(folder)
    if not paths:
        raise _refuse(root, "CelebA-HQ", "CelebA-HQ-img/0.jpg or data1024x1024")
    return _hold_out(paths, root)


def _read_list(root: Path, folder: str, lists: Sequence[str], suffix: str = "") -> list[Path]:
    names = [
        line.split()[0]
        for name in lists
        if (root / name).is_file()
        for line in (root / name).read_text("utf-8").splitlines()
        if line.strip()
    ]
    return sorted(root / folder / f"{name}{suffix}" for name in names)


def _find_dtd(root: Path) -> Split:
    train = _read_list(root, "images", ["labels/train1.txt", "labels/val1.txt"])
    if not train:
        raise _refuse(root, "DTD", "images/ and labels/train1.txt")
    return train, _read_list(root, "images", ["labels/test1.txt"])


def _find_voc(root: Path) -> Split:
    root = _find_first(root, "VOCdevkit/VOC2012", "VOC2012", "VOCdevkit/VOC2007") or root
    lists = "ImageSets/Main"
    train = _read_list(root, "JPEGImages", [f"{lists}/train.txt"], ".jpg")
    if not train:
        raise _refuse(root, "Pascal VOC", "JPEGImages/ and ImageSets/Main/train.txt")
    return train, _read_list(root, "JPEGImages", [f"{lists}/val.txt"], ".jpg")


def _find_any(root: Path) -> Split:
    paths = _list_pictures(root)
    if not paths:
        raise _refuse(root, "any folder", "photographs at any depth")
    return _hold_out(paths, root)


SOURCES = {
    "places2": Source(
        _find_train_and_val(
            "Places2",
            ("data_large", "data_256", "data_large_standard", "train_large", "train"),
            ("val_large", "val_256", "val"),
        ),
        "non-commercial research and education",
    ),
    "celeba-hq": Source(_find_celeba, "non-commercial research"),
    "imagenet": Source(
        _find_train_and_val(
            "ImageNet",
            ("ILSVRC/Data/CLS-LOC/train", "Data/CLS-LOC/train", "train"),
            ("ILSVRC/Data/CLS-LOC/val", "Data/CLS-LOC/val", "val"),
        ),
        "non-commercial research and education",
    ),
    "dtd": Source(_find_dtd, "research"),
    "voc": Source(_find_voc, "as the photographs' owners on Flickr allow"),
    "folder": Source(_find_any, "yours to know"),
}


def shrink(image: npt.NDArray[np.uint8], short_side: int) -> npt.NDArray[np.uint8]:
    """(H, W, 3) uint8 with a short side of at most ``short_side`` px, by area."""
    height, width = image.shape[:2]
    scale = short_side / min(height, width)
    if scale >= 1:
        return image
    size = (max(short_side, round(width * scale)), max(short_side, round(height * scale)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


@dataclass
class _Prepared:
    """A photograph on its way into the cache."""

    digest: str = ""
    """Hash of its pixels."""
    pictures: tuple[npt.NDArray[np.uint8], ...] = ()
    trouble: str = ""


def _prepare(path: Path, short_side: int, min_side: int) -> _Prepared:
    try:
        image = read_rgb(path)
    except (OSError, ValueError, cv2.error):
        return _Prepared(trouble="unreadable")
    if min(image.shape[:2]) < min_side:
        return _Prepared(trouble="small")
    image = shrink(image, short_side)
    digest = hashlib.blake2b(image.tobytes(), digest_size=16).hexdigest()
    return _Prepared(digest, tuple(scale_picture(image, min_side)))


def fill_cache(
    paths: Sequence[Path], out: Path, *, short_side: int, min_side: int, jobs: int
) -> dict[str, int]:
    """Write photographs into a cache as ``training.data`` reads it; goes on where it stopped.

    Args:
        paths: what to write, in this order.
        out: the cache's folder.
        short_side: larger photographs are shrunk to this, in pixels.
        min_side: smaller photographs are left out.
        jobs: photographs decoded at a time.

    Returns:
        How many photographs were ``kept``, ``unreadable``, ``small`` and ``twice``, and how many
        ``pictures`` at how many ``bytes`` that makes.

    Raises:
        ValueError: not one was kept, or the folder holds a cache of other photographs.
    """
    out.mkdir(parents=True, exist_ok=True)
    settings = {"short_side": short_side, "min_side": min_side, "photographs": len(paths)}
    names = "\n".join(map(str, paths)).encode()
    settings["names"] = hashlib.sha256(names).hexdigest()
    done = _read_progress(out, settings)
    counts = {"kept": 0, "unreadable": 0, "small": 0, "twice": 0, "pictures": 0, "bytes": 0}
    seen: set[str] = set()
    rows: list[tuple[int, int, int]] = []
    offset = 0
    for line in done:
        counts[line["outcome"]] += 1
        seen.add(line["digest"])
        for height, width in line["sizes"]:
            rows.append((offset, height, width))
            offset += height * width * 3
    with (
        (out / "pixels.bin.part").open("ab") as pixels,
        (out / "progress.jsonl").open("a") as progress,
        ThreadPoolExecutor(jobs) as pool,
    ):
        pixels.truncate(offset)
        waiting = islice(paths, len(done), None)
        for group in iter(lambda: list(islice(waiting, jobs * 8)), []):
            for one in pool.map(lambda path: _prepare(path, short_side, min_side), group):
                outcome = one.trouble or ("twice" if one.digest in seen else "kept")
                counts[outcome] += 1
                seen.add(one.digest)
                kept = one.pictures if outcome == "kept" else ()
                for picture in kept:
                    rows.append((offset, *picture.shape[:2]))
                    pixels.write(picture.tobytes())
                    offset += picture.size
                # The pixels first: a line means that they are there.
                pixels.flush()
                sizes = [picture.shape[:2] for picture in kept]
                line = {"outcome": outcome, "digest": one.digest, "sizes": sizes}
                progress.write(json.dumps(line) + "\n")
            progress.flush()
    if not rows:
        msg = f"{out}: no photograph was fit to train on, of {len(paths)}: {counts}"
        raise ValueError(msg)
    np.save(out / "index.npy", np.array(rows, np.int64))
    (out / "pixels.bin.part").replace(out / "pixels.bin")
    (out / "progress.jsonl").unlink()
    return counts | {"pictures": len(rows), "bytes": offset}


def _read_progress(out: Path, settings: dict[str, int | str]) -> list[dict]:
    """The lines of an interrupted preparation; begins one where there is none."""
    path = out / "progress.jsonl"
    if (out / "pixels.bin").exists():
        msg = f"{out}: holds a finished cache already; remove it, or choose another --out"
        raise ValueError(msg)
    if path.exists():
        lines = path.read_text("utf-8").split("\n")[:-1]  # a line that was cut off does not count
        if lines and json.loads(lines[0]) == settings:
            written = (out / "pixels.bin.part").stat().st_size
            return list(_trust(map(json.loads, lines[1:]), written, path))
        if lines:
            msg = f"{out}: holds an unfinished cache of other photographs or sizes; remove it"
            raise ValueError(msg)
    (out / "pixels.bin.part").unlink(missing_ok=True)
    path.write_text(json.dumps(settings) + "\n")
    return []


def _trust(lines: Iterator[dict], written: int, path: Path) -> Iterator[dict]:
    """The lines whose pixels are on the disk; the file is cut after them."""
    kept, total = [path.read_text("utf-8").split("\n", 1)[0]], 0
    for line in lines:
        total += sum(height * width * 3 for height, width in line["sizes"])
        if total > written:  # the machine itself went down
            break
        kept.append(json.dumps(line))
        yield line
    path.write_text("\n".join(kept) + "\n")


def main() -> None:
    """Prepare from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=list(SOURCES))
    parser.add_argument("source", type=Path, help="your copy of the data set")
    parser.add_argument("--out", type=Path, required=True, help="folder for cache and lists")
    parser.add_argument("--short-side", type=int, default=320, help="shrink to this, in px")
    parser.add_argument("--min-side", type=int, default=128, help="leave out smaller ones, in px")
    parser.add_argument("--limit", type=int, help="take only so many, evenly spread over the set")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    source = SOURCES[options.name]
    try:
        train, heldout = source.find(options.source)
        if options.limit is not None and options.limit < len(train):
            picks = np.linspace(0, len(train) - 1, options.limit).round().astype(int)
            train = [train[pick] for pick in picks]
        cv2.setNumThreads(1)
        counts = fill_cache(
            train,
            options.out / "cache",
            short_side=options.short_side,
            min_side=options.min_side,
            jobs=options.jobs,
        )
    except ValueError as error:
        parser.exit(2, f"{error}\n")
    names = "".join(f"{path.relative_to(options.source).as_posix()}\n" for path in heldout)
    (options.out / "heldout.txt").write_text(names, "utf-8")
    about = {
        "set": options.name,
        "terms": source.terms,
        "short_side_px": options.short_side,
        "min_side_px": options.min_side,
        "held_out": len(heldout),
        **counts,
    }
    (options.out / "prepared.json").write_text(json.dumps(about, indent=1) + "\n", "utf-8")
    sys.stderr.write(json.dumps(about) + "\n")


if __name__ == "__main__":
    main()
