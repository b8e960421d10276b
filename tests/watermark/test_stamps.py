"""Date stamps whose digits differ: found by their layout, masked photograph by photograph."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from restorepix.watermark.stamps import StampSearch, find_strokes
from tests.conftest import encode_picture
from tests.watermark.conftest import draw_stamp

ORANGE, WHITE = (255, 140, 30), (245, 245, 245)
DATES = [f"{90 + n % 9} {1 + 5 * n % 12:2d} {1 + 7 * n % 28:2d}" for n in range(12)]


@pytest.fixture(scope="module")
def large():
    """Twelve cuts of (240, 360, 3) uint8 of scikit-image's photographs."""
    from skimage import data

    cuts = []
    for picture in (data.astronaut(), data.chelsea(), data.coffee(), data.rocket()):
        whole = cv2.resize(picture, (720, 520), interpolation=cv2.INTER_AREA)
        cuts += [whole[t : t + 240, v : v + 360] for t, v in ((0, 0), (280, 0), (140, 360))]
    return [np.ascontiguousarray(cut) for cut in cuts]


def as_jpeg(photo, quality=90):
    data = np.frombuffer(encode_picture(photo, ".jpg", quality=quality, subsampling=2), np.uint8)
    return cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1]


def search(photos):
    looking = StampSearch([photo.shape[:2] for photo in photos])
    for photo in photos:
        looking.add(photo.astype(np.float32) / 255)
    return looking.find()


def mark(photos, dates, color, place=(-30, -110), is_upright=False, pitch=None):
    """Photographs with dates, and the share of ink (H, W) in each of their pixels."""
    marked, inks = [], []
    for photo, date in zip(photos, dates, strict=False):
        ink = np.zeros(photo.shape[:2], np.float32)
        drawn = draw_stamp(date, 14, pitch)
        drawn = drawn.T if is_upright else drawn
        top, left = photo.shape[0] + place[0], photo.shape[1] + place[1]
        ink[top : top + drawn.shape[0], left : left + drawn.shape[1]] = drawn
        a = ink[..., None]
        marked.append(np.rint(photo * (1 - a) + np.array(color) * a).astype(np.uint8))
        inks.append(ink)
    return marked, inks


def judge(stamp, photos, inks, smeared_px):
    """How many photographs got a mask, and the least share of ink that any mask covers."""
    seen = [find_strokes(p.astype(np.float32) / 255, stamp, smeared_px=smeared_px) for p in photos]
    covered = [(one.mask & (ink > 0.3)).sum() / (ink > 0.3).sum()
               for one, ink in zip(seen, inks, strict=True)
               if one.mask is not None and not one.may_remain]  # fmt: skip
    sizes = [one.mask.sum() for one in seen if one.mask is not None]
    assert max(sizes) < 14 * 110 and min(sizes) > 100
    return len(sizes), min(covered)


@pytest.mark.parametrize("color", [ORANGE, WHITE])
@pytest.mark.parametrize("is_jpeg", [True, False])
def test_dates_that_differ_are_masked_stroke_by_stroke(large, color, is_jpeg):
    marked, inks = mark(large, DATES, color)
    if is_jpeg:
        marked = [as_jpeg(photo) for photo in marked]
    (stamp,) = search(marked)
    assert stamp.anchor == (1, 1) and not stamp.is_upright
    assert abs(stamp.box.top - 210) <= 2 and abs(stamp.box.height - 14) <= 2
    found, least = judge(stamp, marked, inks, int(is_jpeg))
    assert found >= 9 and least > 0.9


@pytest.mark.parametrize("pitch", [10.5, 11.25, 12.75])
def test_a_photograph_that_was_made_smaller_after_stamping(large, pitch):
    marked, inks = mark(large, DATES, ORANGE, pitch=pitch)
    marked = [as_jpeg(cv2.resize(one, None, fx=0.8, fy=0.8, interpolation=cv2.INTER_AREA))
              for one in marked]  # fmt: skip
    inks = [cv2.resize(ink, None, fx=0.8, fy=0.8, interpolation=cv2.INTER_AREA) for ink in inks]
    (stamp,) = search(marked)
    found, least = judge(stamp, marked, inks, 1)
    assert found >= 9 and least > 0.9


def test_a_stamp_that_cannot_be_seen_is_listed(large):
    (stamp,) = search(mark(large, DATES, WHITE)[0])
    seen = find_strokes(np.full((240, 360, 3), 0.97, np.float32), stamp)
    assert seen.mask is None and seen.is_doubtful


def test_five_photographs_are_enough(large):
    marked, inks = mark(large[4:9], DATES, ORANGE)
    (stamp,) = search(marked)
    found, least = judge(stamp, marked, inks, 0)
    assert found >= 4 and least > 0.9


def test_photographs_of_many_sizes_share_a_corner(large):
    cut = [photo[2 * n :, 3 * (11 - n) :] for n, photo in enumerate(large)]
    marked, inks = mark(cut, DATES, ORANGE)
    (stamp,) = search(marked)
    assert stamp.anchor == (1, 1)
    found, least = judge(stamp, marked, inks, 0)
    assert found >= 9 and least > 0.9


def test_a_date_along_the_side_is_found(large):
    marked, inks = mark(large, DATES, ORANGE, (-110, -30), is_upright=True)
    (stamp,) = search(marked)
    assert stamp.is_upright
    found, least = judge(stamp, marked, inks, 0)
    assert found >= 9 and least > 0.9


def test_a_photograph_without_the_stamp_is_not_touched(large):
    marked, _ = mark(large[:10], DATES, ORANGE)
    (stamp,) = search([*marked, *large[10:]])
    for photo in large:
        assert find_strokes(photo.astype(np.float32) / 255, stamp).mask is None


def test_the_same_date_everywhere_is_no_stamp_that_differs(large):
    assert search(mark(large, DATES[:1] * 12, ORANGE)[0]) == []


def test_clean_photographs_have_no_stamp(large):
    assert search(large) == []
    assert search([as_jpeg(photo, 75) for photo in large[:5]]) == []


def test_photographs_of_one_scene_have_no_stamp(large):
    rng = np.random.default_rng(0)
    scene_of = large[0]
    for shake in (0, 4, 20):
        scene = []
        for _ in range(8):
            top, left = rng.integers(0, shake + 1, 2)
            light = scene_of[top : top + 220, left : left + 340] * rng.uniform(0.9, 1.1)
            scene.append(np.clip(light + rng.normal(0, 3, light.shape), 0, 255).astype(np.uint8))
        assert search(scene) == []
