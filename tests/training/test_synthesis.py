"""Damage synthesis: exact targets for each class, seeds that decide, unmarked negatives."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from restorepix.models.detector import CLASSES
from training.damage import Floats
from training.masks import find_fonts
from training.synthesis.ageing import age, finish
from training.synthesis.canvas import IGNORE, Canvas
from training.synthesis.fonts import is_held_out, split_fonts, write_words
from training.synthesis.negatives import NEGATIVE_KINDS, STRUCTURE_KINDS, paint_negative
from training.synthesis.sample import (
    Library,
    PhotoSource,
    SynthesisConfig,
    draw_sample,
    open_library,
    show_target,
    synthesise,
)
from training.synthesis.scratches import SCRATCH_KINDS, paint_scratch
from training.synthesis.text import draw_line, paint_caption, paint_date, paint_handwriting
from training.synthesis.watermarks import paint_watermark

SIZE = 96


def grey_canvas(seed: int = 0, level: float = 120) -> Canvas:
    return Canvas(np.full((SIZE, SIZE, 3), level, np.float32), np.random.default_rng(seed))


def fake_elements() -> list[np.ndarray]:
    element = np.zeros((40, 30), np.uint8)
    cv2.line(element, (3, 3), (25, 36), 255, 3)
    return [element]


def moved(canvas: Canvas, level: float = 120) -> Floats:
    return np.abs(canvas.image - level).max(2)


@pytest.mark.parametrize("kind", sorted(SCRATCH_KINDS))
def test_every_kind_of_scratch_marks_what_it_changed(kind: str) -> None:
    marked = 0
    for seed in range(8):
        canvas = grey_canvas(seed)
        paint_scratch(canvas, fake_elements(), kind)
        scratch, text, watermark = canvas.targets
        assert not text.any() and not watermark.any()
        marked += int((scratch == 1).sum())
        # Nothing outside target and ignored edge moved visibly.
        assert float(moved(canvas)[scratch == 0].max(initial=0)) <= 14
    assert marked > 20


@pytest.mark.parametrize("paint", ["caption", "date", "handwriting"])
def test_every_kind_of_writing_marks_its_ink(paint: str) -> None:
    marked = 0
    for seed in range(12):
        canvas = grey_canvas(seed)
        if paint == "caption":
            paint_caption(canvas, ())
        elif paint == "date":
            paint_date(canvas, ())
        else:
            paint_handwriting(canvas)
        scratch, text, watermark = canvas.targets
        assert not scratch.any() and not watermark.any()
        marked += int((text == 1).sum())
        assert float(moved(canvas)[text == 0].max(initial=0)) <= 14
    assert marked > 100


def test_watermarks_are_as_strong_as_asked_and_marked() -> None:
    marked = 0
    for seed in range(20):
        canvas = grey_canvas(seed)
        paint_watermark(canvas, (), (0.3, 0.3))
        scratch, text, watermark = canvas.targets
        assert not scratch.any() and not text.any()
        marked += int((watermark == 1).sum())
        # Emboss may be stronger; a plain mark of 0.3 moves mid-grey by 0.3 of 135 at most.
        assert float(moved(canvas).max()) <= 0.56 * 135
    assert marked > 500


def test_target_equals_the_shape_where_it_can_be_seen() -> None:
    canvas = grey_canvas()
    shape = np.zeros((SIZE, SIZE), np.float32)
    shape[10:20, 30:60] = 1
    canvas.paint("text", shape, (255, 255, 255), "replace", 0.5)
    assert np.array_equal(canvas.targets[1] == 1, shape > 0.5)
    assert not (canvas.targets[1] == IGNORE).any()


def test_damage_that_cannot_be_seen_counts_neither_way() -> None:
    canvas = grey_canvas(level=255)
    shape = np.zeros((SIZE, SIZE), np.float32)
    shape[10:20, 30:60] = 1
    canvas.paint("scratch", shape, (255, 255, 255))
    assert not (canvas.targets[0] == 1).any()
    assert np.array_equal(canvas.targets[0] == IGNORE, shape > 0)


def test_later_damage_does_not_erase_earlier_targets() -> None:
    canvas = grey_canvas()
    shape = np.zeros((SIZE, SIZE), np.float32)
    shape[10:20, 30:60] = 1
    canvas.paint("scratch", shape, (255, 255, 255))
    canvas.paint("scratch", shape * 0.2, (0, 0, 0))
    assert np.array_equal(canvas.targets[0] == 1, shape == 1)


@pytest.mark.parametrize("kind", sorted(NEGATIVE_KINDS | STRUCTURE_KINDS))
def test_hard_negatives_change_the_picture_and_mark_nothing(kind: str) -> None:
    changed = 0.0
    for seed in range(6):
        canvas = grey_canvas(seed)
        canvas.image = canvas.image + np.random.default_rng(seed).normal(0, 30, canvas.image.shape)
        canvas.image = np.clip(canvas.image, 0, 255).astype(np.float32)
        before = canvas.image.copy()
        paint_negative(canvas, (), kind)
        assert not canvas.targets.any()
        changed += float(np.abs(canvas.image - before).max())
    assert changed > 20


def test_ageing_keeps_shape_and_range() -> None:
    for seed in range(30):
        rng = np.random.default_rng(seed)
        image = rng.uniform(0, 255, (40, 50, 3)).astype(np.float32)
        result = finish(age(image, rng), rng)
        assert result.shape == image.shape and result.dtype == np.float32
        assert float(result.min()) >= 0 and float(result.max()) <= 255


def photo(seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return cv2.resize(rng.integers(0, 255, (9, 9, 3), np.uint8), (SIZE, SIZE))


def test_a_seed_decides_everything() -> None:
    library, config = Library(), SynthesisConfig()
    first = synthesise(photo(), np.random.default_rng([1, 2, 3]), library, config)
    again = synthesise(photo(), np.random.default_rng([1, 2, 3]), library, config)
    other = synthesise(photo(), np.random.default_rng([1, 2, 4]), library, config)
    assert np.array_equal(first.image, again.image) and np.array_equal(first.target, again.target)
    assert not np.array_equal(first.image, other.image)


def test_clean_samples_have_no_target_and_classes_can_be_forced() -> None:
    for seed in range(6):
        rng = np.random.default_rng(seed)
        clean = synthesise(photo(), rng, Library(), SynthesisConfig(clean=1.0))
        assert not clean.target.any()
        for channel, name in enumerate(CLASSES):
            sample = synthesise(photo(), rng, Library(), SynthesisConfig(), classes=[name])
            others = np.delete(sample.target, channel, 0)
            assert not others.any()


def test_held_out_families_and_elements_never_mix_with_training(tmp_path: Path) -> None:
    for number in range(40):
        cv2.imwrite(str(tmp_path / f"dust-{number:03d}.png"), np.full((4, 4), 200, np.uint8))
    counts = [len(open_library(tmp_path, held_out=held).elements) for held in (False, True)]
    assert sum(counts) == 40 and 2 <= counts[1] <= 16
    assert is_held_out("DejaVuSans-Bold.ttf") == is_held_out("DejaVuSans-Oblique.ttf")
    paths = find_fonts()
    families = [{font.path.name.split("-")[0] for font in split_fonts(paths, held_out=held)}
                for held in (False, True)]  # fmt: skip
    assert not families[0] & families[1]


@pytest.mark.parametrize("script", ["latin", "arabic", "cjk", "cyrillic"])
def test_words_are_short_and_never_empty(script: str) -> None:
    for seed in range(50):
        words = write_words(np.random.default_rng(seed), script, 20)
        assert 1 <= len(words) <= 20


def test_a_drawn_line_touches_every_side_of_its_canvas() -> None:
    alpha = draw_line("HEIM", 20, None)
    assert alpha.size and float(alpha.max()) > 0.9
    rows, columns = np.nonzero(alpha > 0.2)
    assert rows.min() <= 2 and rows.max() >= alpha.shape[0] - 3
    assert columns.min() <= 4 and columns.max() >= alpha.shape[1] - 5


def test_crops_come_from_the_cache_and_targets_can_be_shown() -> None:
    pixels = np.arange(64 * 80 * 3, dtype=np.uint8)
    source = PhotoSource(pixels, np.array([[0, 64, 80]]))
    sample = draw_sample(source, Library(), SynthesisConfig(), 48, (1, 0, 0))
    assert sample.image.shape == (48, 48, 3) and sample.target.shape == (3, 48, 48)
    assert set(np.unique(sample.target)) <= {0, 1, IGNORE}
    assert show_target(sample.image, sample.target).shape == (48, 48, 3)
