"""Time ``restorepix fix`` on folders against the parts that it is made of.

    python -m benchmarks.throughput empty      # masks without a hole: against copy and hash
    python -m benchmarks.throughput detect     # no damage: against decoder and detector
    python -m benchmarks.throughput scratches  # 1 % of the area: against its parts and LaMa
    python -m benchmarks.throughput cold       # one small picture: against importing PyTorch
    python -m benchmarks.throughput memory     # many small pictures: does memory grow?
    python -m benchmarks.throughput jobs       # threads against processes

The measure is CPU seconds, of a process and all that it started, user and system together: wall
time means nothing on a machine that does other things too. Both are printed. Photographs are
scikit-image's, enlarged, shifted and given grain; damage is drawn by a fixed seed.
"""

from __future__ import annotations

import argparse
import filecmp
import hashlib
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from benchmarks.machine import describe_setup

FIX = [sys.executable, "-m", "restorepix", "fix"]
_ALONE = ["--device", "cpu", "--jobs", "1", "--threads", "1"]


class Spent(NamedTuple):
    """What a command took."""

    cpu_s: float
    wall_s: float


def run(command: list[str]) -> Spent:
    """Run a command to its end; its CPU seconds hold those of the processes that it started."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begin = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wall = time.perf_counter() - begin
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Spent(cpu, wall)


def measure(function: Callable[[], object], rounds: int = 3) -> float:
    """Return the median CPU seconds of a function, after one call that does not count."""
    function()
    seconds: list[float] = []
    for _ in range(rounds):
        begin = time.process_time()
        function()
        seconds.append(time.process_time() - begin)
    return statistics.median(seconds)


def make_folder(root: Path, count: int, height: int, share: float, every: int = 1) -> None:
    """Write photographs of 4:3 and their masks.

    Args:
        root: gets ``photos/`` and ``masks/``.
        count: how many.
        height: in pixels.
        share: of the area under scratches.
        every: only each so many-th mask has scratches, from the first on.
    """
    from skimage import data

    (root / "photos").mkdir(parents=True)
    (root / "masks").mkdir()
    picture = cv2.cvtColor(data.astronaut(), cv2.COLOR_RGB2BGR)
    large = cv2.resize(picture, (height * 4 // 3, height), interpolation=cv2.INTER_CUBIC)
    rng = np.random.default_rng(0)
    grain = rng.normal(0, 6, large.shape).astype(np.float32)
    for number in range(count):
        rough = np.roll(large, 37 * number, 1) + np.roll(grain, 13 * number, 0)
        photo = np.clip(rough, 0, 255).astype(np.uint8)
        cv2.imwrite(
            str(root / "photos" / f"{number:05}.jpg"), photo, [cv2.IMWRITE_JPEG_QUALITY, 92]
        )
        mask = np.zeros(large.shape[:2], np.uint8)
        while number % every == 0 and np.count_nonzero(mask) < share * mask.size:
            ends = rng.integers(0, mask.shape[::-1], (2, 2))
            one, other = ([int(x) for x in end] for end in ends)
            cv2.line(mask, one, other, 255, int(rng.integers(1, 5)))
        cv2.imwrite(str(root / "masks" / f"{number:05}.png"), mask)


def copy_plainly(root: Path, out: Path) -> None:
    """Copy and hash a folder, and decode its masks once: the least that empty masks can cost."""
    out.mkdir()
    for photo in sorted((root / "photos").iterdir()):
        data = photo.read_bytes()
        hashlib.sha256(data).hexdigest()
        mask = (root / "masks" / f"{photo.stem}.png").read_bytes()
        cv2.imdecode(np.frombuffer(mask, np.uint8), cv2.IMREAD_UNCHANGED)
        with (out / photo.name).open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())


def fix(root: Path, out: str, *options: str) -> list[str]:
    """The command that restores a folder."""
    folders = [str(root / "photos"), "--mask", str(root / "masks"), "-o", str(root / out)]
    return [*FIX, *folders, "--device", "cpu", *options]


def measure_empty(count: int) -> None:
    """Empty masks: whole commands, and what one more photograph costs."""
    few = max(1, count // 6)
    print("| 12-megapixel JPEGs, empty masks | CPU s | wall s |\n|---|---:|---:|")
    spent: dict[tuple[str, int], Spent] = {}
    for number in (few, count):
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder) / "in"
            make_folder(root, number, 3000, 0)
            plain = [sys.executable, "-m", "benchmarks.throughput", "plain", str(root)]
            for name, command in {
                "copy, hash, decode masks": [*plain, str(root / "plain")],
                "restorepix fix": fix(root, "out"),
                "restorepix fix --jobs 1": fix(root, "alone", "--jobs", "1"),
            }.items():
                spent[name, number] = found = run(command)
                print(f"| {name}, {number} | {found.cpu_s:.2f} | {found.wall_s:.1f} |", flush=True)
    more = count - few
    each = {
        name: (spent[name, count].cpu_s - spent[name, few].cpu_s) / more
        for name in dict.fromkeys(name for name, _ in spent)
    }
    bare = each["copy, hash, decode masks"]
    for name, seconds in each.items():
        print(f"\n{name}: {1000 * seconds:.1f} ms for one more, {seconds / bare:.2f} times")


def keep_sound(root: Path, count: int, finder: Any) -> None:
    """Leave as many photographs as asked in which nothing is found, and remove the others."""
    from restorepix.formats import read_photo

    kept = 0
    for photo in sorted((root / "photos").iterdir()):
        if kept < count:
            found = finder.find(read_photo(photo.read_bytes(), photo.name), photo.name)
            if not found.mask.hole_pixels:
                kept += 1
                continue
        photo.unlink()
    if kept < count:
        raise SystemExit(f"of {2 * count} photographs only {kept} have no finding")


def measure_detect(count: int) -> None:
    """Photographs in which nothing is found, against the fastest decoder and the detector alone."""
    import simplejpeg
    import torch

    from restorepix.detect.repair import build_finder
    from restorepix.options import DetectOptions, RestoreOptions

    torch.set_num_threads(1)
    finder: Any = build_finder(RestoreOptions(device="cpu", detect=DetectOptions()))
    scanner = finder._scanner
    network = scanner._detector
    calls: Counter[tuple[tuple[int, ...], torch.dtype]] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "in"
        make_folder(root, 2 * count, 3000, 0)
        keep_sound(root, count, finder)
        start = Path(folder) / "start"
        (start / "photos").mkdir(parents=True)
        first = min((root / "photos").iterdir())
        shutil.copy(first, start / "photos")
        encoded = first.read_bytes()
        pixels = np.frombuffer(encoded, np.uint8)
        codec = min(
            measure(lambda: simplejpeg.decode_jpeg(encoded)),
            measure(lambda: cv2.imdecode(pixels, cv2.IMREAD_COLOR)),
        )
        handle = network.register_forward_pre_hook(
            lambda _, inputs: calls.update([(tuple(inputs[0].shape), inputs[0].dtype)])
        )
        rgb = simplejpeg.decode_jpeg(encoded)
        scanner.scan(rgb, rgb.shape[:2])
        handle.remove()

        def time_network() -> float:
            total = 0.0
            for (shape, dtype), number in calls.items():
                image = (torch.rand(shape) * 2 - 1).to(dtype, memory_format=torch.channels_last)
                with torch.inference_mode():
                    total += number * measure(lambda i=image: network(i), 5)
            return total

        # In turn, and the least of each: the speed of a core depends on who shares it.
        bare: list[float] = []
        whole: list[float] = []
        for number in range(3):
            begun = run([*FIX, str(start / "photos"), "-o", str(start / f"o{number}"), *_ALONE])
            found = run([*FIX, str(root / "photos"), "-o", str(root / f"o{number}"), *_ALONE])
            for photo in (root / "photos").iterdir():
                if not filecmp.cmp(photo, root / f"o{number}" / photo.name, shallow=False):
                    raise SystemExit(f"{photo.name} was repainted, which is another measure")
            whole.append((found.cpu_s - begun.cpu_s) / (count - 1))
            bare.append(time_network())
            print(f"round {number}: fix {whole[-1]:.2f}, detector {bare[-1]:.2f}", flush=True)
    fix_s, network_s = min(whole), min(bare)
    print(f"calls of the detector: {[(shape, n) for (shape, _), n in calls.items()]}")
    print("| 12 megapixels, detection on, nothing found | CPU s a photograph |\n|---|---:|")
    print(f"| decode (the faster of simplejpeg and OpenCV) | {codec:.3f} |")
    print(f"| the detector, bare, the same calls | {network_s:.2f} |")
    print(f"| restorepix fix, one photograph more | {fix_s:.2f} |")
    print(f"\nfix takes {fix_s / (codec + network_s):.2f} times its parts")


def measure_scratches(count: int) -> None:
    """Scratches over 1 % of the area, against codec and network alone, and LaMa."""
    import torch

    from restorepix.inpaint import Inpainter
    from restorepix.models.lama import Lama
    from restorepix.models.loading import load_generator
    from restorepix.tiles import plan_windows

    torch.set_num_threads(1)
    device = torch.device("cpu")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "in"
        make_folder(root, count, 3000, 0.01)
        whole = run(fix(root, "out", "--json"))
        empty = Path(folder) / "empty"
        make_folder(empty, 1, 64, 0.01)
        start = run(fix(empty, "out"))
        photo = next((root / "photos").iterdir())
        encoded = np.frombuffer(photo.read_bytes(), np.uint8)
        masks = [cv2.imread(str(path), 0) > 127 for path in sorted((root / "masks").iterdir())]
    pixels = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    codec = measure(lambda: cv2.imdecode(encoded, cv2.IMREAD_COLOR))
    codec += measure(lambda: cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 92]))
    shapes = Counter(
        (window.box.height, window.box.width) for mask in masks for window in plan_windows(mask)
    )
    inpainter = Inpainter(load_generator(None, device), device)
    lama = Lama().eval().to(memory_format=torch.channels_last)
    bare = peer = 0.0
    for shape, windows in shapes.items():
        image = np.random.default_rng(0).random((1, *shape, 3), np.float32)
        hole = np.zeros((1, *shape), np.bool_)
        hole[:, :, shape[1] // 2 : shape[1] // 2 + 3] = True
        bare += windows * measure(lambda i=image, h=hole: inpainter._launch(i, h)())
        tensors = [torch.from_numpy(image).movedim(3, 1), torch.from_numpy(hole)[:, None].float()]
        with torch.inference_mode():
            peer += windows * measure(lambda t=tensors: lama(*t), 1)
    each = (whole.cpu_s - start.cpu_s) / count
    parts = codec + bare / count
    loop = codec + peer / count
    print(f"windows: {dict(shapes)} in {count} photographs")
    print("| 12 megapixels, scratches on 1 % | CPU s a photograph |\n|---|---:|")
    print(f"| decode and encode (OpenCV) | {codec:.3f} |")
    print(f"| our network, bare, on the same windows | {bare / count:.2f} |")
    print(f"| restorepix fix, without its start | {each:.2f} |")
    print(f"| LaMa's network, float32, on the same windows | {peer / count:.2f} |")
    print(
        f"\nfix takes {each / parts:.2f} times its parts, LaMa's loop {loop / each:.1f} times fix"
    )
    print(f"start (CPU s): {start.cpu_s:.2f}; wall of the whole run: {whole.wall_s:.1f} s")


def measure_cold(rounds: int) -> None:
    """One small photograph from a cold start, against importing PyTorch and the work alone."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "in"
        make_folder(root, 1, 480, 0.01)
        command = [*FIX, str(root / "photos" / "00000.jpg"), "--mask"]
        command += [str(root / "masks" / "00000.png"), "--overwrite", "--json"]
        rows: dict[str, list[Spent]] = {"import torch": [], "restorepix fix": []}
        for number in range(rounds + 1):
            found = run([sys.executable, "-c", "import torch"]), run(command)
            if number:
                for name, spent in zip(rows, found, strict=True):
                    rows[name].append(spent)
        work = measure_work(root)
    print("| one 640x480 JPEG, scratches on 1 % | CPU s | wall s |\n|---|---:|---:|")
    for name, every in rows.items():
        cpu = statistics.median(one.cpu_s for one in every)
        print(f"| {name} | {cpu:.2f} | {statistics.median(one.wall_s for one in every):.2f} |")
    cpu, bare = (statistics.median(one.cpu_s for one in rows[name]) for name in rows)
    print(f"| the work alone, warm | {work:.2f} | |")
    print(f"\n{bare / (cpu + work):.2f} times importing PyTorch plus the work")


def measure_work(root: Path) -> float:
    """CPU seconds of restoring one photograph with everything loaded."""
    from restorepix.masks import MaskFile
    from restorepix.options import RestoreOptions
    from restorepix.pipeline import Stopwatch, build_repair, restore_bytes

    options = RestoreOptions(device="cpu")
    repair = build_repair(options)
    data = (root / "photos" / "00000.jpg").read_bytes()
    given = MaskFile((root / "masks" / "00000.png").read_bytes(), "mask")
    return measure(
        lambda: restore_bytes(data, "a.jpg", given, options, repair, to=None, stopwatch=Stopwatch())
    )


def measure_memory(count: int) -> None:
    """Resident memory of the run and its workers after 100 photographs, and after all."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "in"
        make_folder(root, count, 866, 0.0005, every=10)
        command = fix(root, "out", "--json", "--jobs", "2")
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert child.stdout is not None
        found: dict[int, float] = {}
        for number, line in enumerate(child.stdout, 1):
            if "summary" not in json.loads(line) and number in (100, count // 2, count - 5):
                found[number] = read_tree_mb(child.pid)
                print(f"after {number:5}: {found[number]:.1f} MB", flush=True)
        child.wait()
    first, last = found[100], found[count - 5]
    print(f"\n{100 * (last / first - 1):+.1f} % from 100 to {count - 5} photographs of 1 megapixel")


def read_tree_mb(pid: int) -> float:
    """Resident memory of a process and its descendants in MB; shared pages count in each."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    # A worker may be started by any thread of its parent.
    for task in Path(f"/proc/{pid}/task").iterdir():
        if task.name != str(pid):
            children += (task / "children").read_text().split()
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    own = pages * resource.getpagesize() / 1e6
    return own + sum(read_tree_mb(int(child)) for child in children)


def measure_jobs(count: int) -> None:
    """CPU and wall seconds of threads and of processes for the same folder."""
    program = (
        "import sys; from restorepix.engine import run; run.PROCESSES_FROM = int(sys.argv[1]);"
        "from restorepix.cli import main; sys.argv = ['restorepix', *sys.argv[2:]];"
        "__name__ == '__main__' and main()"
    )
    print(f"| {count} photographs of 1 megapixel | CPU s | wall s |\n|---|---:|---:|")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "in"
        make_folder(root, count, 866, 0.002)
        for name, least, jobs in [
            ("one job", 10**6, 1),
            ("two threads", 10**6, 2),
            ("two processes", 1, 2),
        ]:
            arguments = fix(root, name.replace(" ", ""), "--jobs", str(jobs), "--threads", "1")[3:]
            found = run([sys.executable, "-c", program, str(least), *arguments])
            print(f"| {name} | {found.cpu_s:.1f} | {found.wall_s:.1f} |", flush=True)


MEASURES: dict[str, tuple[Callable[[int], None], int]] = {
    "empty": (measure_empty, 60),
    "detect": (measure_detect, 4),
    "scratches": (measure_scratches, 2),
    "cold": (measure_cold, 5),
    "memory": (measure_memory, 2000),
    "jobs": (measure_jobs, 32),
}


def main() -> None:
    """Measure from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("what", choices=[*MEASURES, "plain"])
    parser.add_argument("folders", nargs="*", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--count", type=int, help="photographs, or rounds of cold")
    options = parser.parse_args()
    if options.what == "plain":
        copy_plainly(*options.folders)
        return
    print(f"{describe_setup()}, load average {os.getloadavg()[0]:.1f}\n", flush=True)
    function, usual = MEASURES[options.what]
    function(options.count or usual)


if __name__ == "__main__":
    main()
