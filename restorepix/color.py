"""Between a page's native samples and the network's range: RGB float32 in [0, 1].

The network works in the file's own encoded space: samples of a P3, Adobe RGB or sRGB file are
scaled, never converted, so a repaired pixel is in the profile of its neighbours. Only the hole's
samples come back; known ones are copied from the page.

Three cases need more than scaling:

- Light that is stored linearly (float32, 16-bit scans without gamma) would look nearly black to a
  network trained on ordinary photographs. Such a page goes through one logarithmic curve, fitted
  to the page, and back through its inverse (:func:`fit_curve`). Values above 1 come back above 1.
- Grey is shown as three equal channels, and the mean of the answer is the repaired grey.
- CMYK is shown by the plain formula ``r = (1 - c)(1 - k)``. On the way back the amount of black is
  taken from the surround: as much as known pixels of the same darkness have, so that a flat area
  is separated like its neighbours and not with a foreign black.

Rounding to integers happens once, from float32, which resolves 16 bit: no dithering is needed.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from restorepix.photo import BoolMask, Page
    from restorepix.tiles import Box

Floats = npt.NDArray[np.float32]

_TARGET_MEDIAN: Final = 0.4
"""Where a curve puts the median: that of the scikit-image photographs is between 0.3 and 0.5."""
_DARK_FLOAT: Final = 0.2
"""A float page whose median is below this share of its range gets a curve. A guess: photographs
with a display gamma lie above, linear ones (0.4 ** 2.2 = 0.13) below."""
_DARK_UINT16: Final = 0.05
"""The same for untagged 16-bit pages, lower, for there gamma is the rule. A guess: raw linear scans
of negatives lie below."""
_HEADROOM: Final = 4.0
"""A float page's range ends at this multiple of its 99.9th percentile, or at its maximum: one
broken sample must not turn the picture black. Repaired pixels stay below it."""
_SAMPLES: Final = 1 << 20
"""Samples that percentiles are taken from."""
_BLACK_BINS: Final = 64
_LINEAR_GAMMA: Final = 1.1
"""An ICC tone curve whose exponent is below this counts as linear."""


@dataclass(frozen=True)
class Curve:
    """An invertible map from native samples to [0, 1]: scaling, then a logarithm."""

    low: float
    """Native value shown as 0."""
    high: float
    """Native value shown as 1."""
    strength: float = 0.0
    """k of ``log(1 + k x) / log(1 + k)`` on the scaled sample x; 0 = scaling alone."""

    def encode(self, samples: npt.NDArray[Any]) -> Floats:
        """Return native samples in [0, 1]; what is outside the range, or not finite, is clipped."""
        scaled: Floats = samples.astype(np.float32)
        scaled -= np.float32(self.low)
        scaled /= np.float32(self.high - self.low)
        if samples.dtype.kind == "f":
            np.nan_to_num(scaled, copy=False, nan=0.0, posinf=1.0, neginf=0.0)
        np.clip(scaled, 0, 1, out=scaled)
        if self.strength == 0.0:
            return scaled
        bent: Floats = np.log1p(scaled * np.float32(self.strength))
        bent /= np.float32(np.log1p(self.strength))
        return bent

    def decode(self, shown: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Return native values (not rounded) of samples in [0, 1]."""
        scaled = np.clip(shown, 0, 1).astype(np.float64)
        if self.strength != 0.0:
            scaled = np.expm1(scaled * np.log1p(self.strength)) / self.strength
        return self.low + scaled * (self.high - self.low)


_CURVES: weakref.WeakKeyDictionary[Page, Curve] = weakref.WeakKeyDictionary()
"""Curves of the pages at hand, so that each page is measured once and not once per window."""


def fit_curve(page: Page) -> Curve:
    """Return the curve through which a page is shown to the network.

    uint8: scaling. uint16: scaling, with a logarithm when the profile is linear or the page is as
    dark as only linear data is. float32: scaling from the page's minimum (at most 0) to its
    maximum (at least 1; robustly measured), with a logarithm when that leaves the page dark. The
    logarithm's strength puts the median at 0.4.

    Args:
        page: pixels uint8, uint16 or float32.
    """
    curve = _CURVES.get(page)
    if curve is None:
        curve = _CURVES[page] = _measure_curve(page)
    return curve


def _measure_curve(page: Page) -> Curve:
    pixels = page.pixels
    if pixels.dtype == np.uint8:
        return Curve(0.0, 255.0)
    if page.color == "cmyk":
        return Curve(0.0, 65535.0 if pixels.dtype == np.uint16 else 1.0)
    step = max(1, int((pixels.size / _SAMPLES) ** 0.5))
    some = pixels[::step, ::step].astype(np.float64)
    some = some[np.isfinite(some)]
    if pixels.dtype == np.uint16:
        low, high = 0.0, 65535.0
        dark = 1.0 if is_linear(page.icc) else _DARK_UINT16
    else:
        low, high = _measure_range(pixels, some)
        dark = _DARK_FLOAT
    shown = (some[some > low] - low) / (high - low)
    median = float(np.median(shown)) if shown.size else 1.0
    if median >= min(dark, _TARGET_MEDIAN):
        return Curve(low, high)
    return Curve(low, high, _solve_strength(median))


def _measure_range(pixels: npt.NDArray[Any], some: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Return the range of a float page, without the outliers that one broken sample makes."""
    if some.size == 0:
        return 0.0, 1.0
    finite = pixels if np.isfinite(pixels).all() else pixels[np.isfinite(pixels)]
    top, bottom = np.percentile(some, (99.9, 0.1))
    high = min(float(finite.max()), _HEADROOM * max(float(top), 0.0))
    low = max(float(finite.min()), _HEADROOM * min(float(bottom), 0.0))
    return min(low, 0.0), max(high, 1.0)


def _solve_strength(median: float) -> float:
    """Return k for which ``log(1 + k median) / log(1 + k)`` is the target median."""
    low, high = 1e-3, 1e12
    for _ in range(100):
        middle = (low * high) ** 0.5
        if np.log1p(middle * median) / np.log1p(middle) < _TARGET_MEDIAN:
            low = middle
        else:
            high = middle
    return high


def is_linear(icc: bytes | None) -> bool:
    """Return whether an ICC profile's tone curve is linear (ICC.1:2010, 7.3.1, 10.5, 10.15)."""
    if icc is None or len(icc) < 132:
        return False
    for entry in range(132, min(132 + 12 * int.from_bytes(icc[128:132]), len(icc) - 11), 12):
        if icc[entry : entry + 4] in (b"rTRC", b"kTRC"):
            start = int.from_bytes(icc[entry + 4 : entry + 8])
            curve = icc[start : start + 16]
            break
    else:
        return False
    if len(curve) < 12:
        return False
    count = int.from_bytes(curve[8:12])
    if curve[:4] == b"curv":
        return count == 0 or (count == 1 and int.from_bytes(curve[12:14]) / 256 < _LINEAR_GAMMA)
    parametric = curve[:4] == b"para" and curve[8:10] == b"\0\0"
    return parametric and int.from_bytes(curve[12:16], signed=True) / 65536 < _LINEAR_GAMMA


def page_to_rgb(page: Page, box: Box) -> Floats:
    """Return a part of a page as the network sees it.

    Args:
        page: pixels ``(H, W, 1 | 3 | 4)`` grey, rgb or cmyk; uint8, uint16 or float32.
        box: the part, inside the page.

    Returns:
        ``(box.height, box.width, 3)`` float32 in [0, 1], C-contiguous.
    """
    samples = fit_curve(page).encode(_cut(page, box))
    if page.color == "grey":
        samples = np.repeat(samples, 3, axis=2)
    elif page.color == "cmyk":
        samples = (1 - samples[..., :3]) * (1 - samples[..., 3:])
    return np.ascontiguousarray(samples)


def page_to_bytes(page: Page, box: Box) -> npt.NDArray[np.uint8] | None:
    """Return a part of a page as the network sees it, in levels of 255, where that loses nothing.

    Args:
        page: as for :func:`page_to_rgb`.
        box: the part, inside the page.

    Returns:
        ``(box.height, box.width, 3)`` uint8, perhaps a view of the page: 255 times what
        :func:`page_to_rgb` returns. None for pages that are not 8 bit, and for inks.
    """
    if page.pixels.dtype != np.uint8 or page.color == "cmyk":
        return None
    samples = _cut(page, box)
    return np.repeat(samples, 3, axis=2) if page.color == "grey" else samples


def rgb_to_native(page: Page, box: Box, rgb: npt.NDArray[Any], hole: BoolMask) -> npt.NDArray[Any]:
    """Return a part of a page with its hole filled from the network's answer.

    Args:
        page: the page that :func:`page_to_rgb` was given.
        box: the part, inside the page.
        rgb: ``(box.height, box.width, 3)`` float in [0, 1] (clipped), finite inside the hole.
        hole: ``(box.height, box.width)`` bool, True = take it from ``rgb``.

    Returns:
        ``(box.height, box.width, C)`` a new array of the page's dtype: known samples copied bit
        for bit, the hole's computed in float and rounded once.
    """
    native = _cut(page, box).copy()
    if not hole.any():
        return native
    shown: npt.NDArray[Any] = np.clip(rgb[hole].astype(np.float64), 0, 1)
    if page.color == "grey":
        shown = shown.mean(axis=1, keepdims=True)
    elif page.color == "cmyk":
        shown = _separate(shown, fit_curve(page).encode(native[~hole]).astype(np.float64))
    values = fit_curve(page).decode(shown)
    native[hole] = np.rint(values) if native.dtype.kind == "u" else values
    return native


def _cut(page: Page, box: Box) -> npt.NDArray[Any]:
    return page.pixels[box.top : box.top + box.height, box.left : box.left + box.width]


def _separate(
    rgb: npt.NDArray[np.float64], known: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return inks for colours, with the black that known pixels of the same darkness have.

    Args:
        rgb: ``(N, 3)`` in [0, 1].
        known: ``(M, 4)`` inks in [0, 1] of the surround; M may be 0.

    Returns:
        ``(N, 4)`` inks in [0, 1] that give ``rgb`` by the plain formula, as near as inks can.
    """
    darkness = 1 - rgb.max(axis=1)
    inks = _learn_inks(known, darkness)
    black = np.clip(inks[:, 3], 0, darkness)
    # Under (nearly) full black the other inks cannot be seen: they are those of the surround.
    paper = 1 - black
    seen = paper > 1 / 255
    inks[seen, :3] = np.clip(1 - rgb[seen] / paper[seen, None], 0, 1)
    inks[:, 3] = black
    return inks


def _learn_inks(
    known: npt.NDArray[np.float64], darkness: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return (N, 4) mean inks of known pixels as dark as asked, interpolated over darkness."""
    if len(known) == 0:
        # Nothing to learn from: black grows with the square of darkness, as in common separations.
        return np.stack([np.zeros_like(darkness)] * 3 + [darkness**2], axis=1)
    known_darkness = 1 - (1 - known[:, :3].min(axis=1)) * (1 - known[:, 3])
    bins = np.minimum((known_darkness * _BLACK_BINS).astype(np.intp), _BLACK_BINS - 1)
    counts = np.bincount(bins, minlength=_BLACK_BINS)
    filled = counts > 0
    places = np.bincount(bins, known_darkness, _BLACK_BINS)[filled] / counts[filled]
    means = [np.bincount(bins, ink, _BLACK_BINS)[filled] / counts[filled] for ink in known.T]
    return np.stack([np.interp(darkness, places, mean) for mean in means], axis=1)
