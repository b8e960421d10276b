"""Grain that matches: film grain and sensor noise for the repaired pixels of a grainy picture.

A network trained on differences predicts the mean of what could be in a hole. Grain cannot be
predicted, so its mean is smooth, and a repaired scratch in a grainy scan shows as a clean line.
Here the grain of the known surround is measured and the part that the prediction lacks is added,
inside the hole alone:

1. *Evidence.* Around the hole, known blocks of 16x16 px lose what is smooth (a fitted quadric);
   blocks that look like noise (no direction, even, unclipped) and are among the flattest of their
   brightness tell the grain. When they are few, differ more from each other than grain does, or
   hold too little to be seen, there is no grain, and nothing changes.
2. *Model.* For each channel a standard deviation as a function of brightness, and one spectrum,
   matrix-valued, so that the grain's size and its correlation between channels come along.
3. *Synthesis.* White noise, a pure function of the picture's content and of the pixel's place,
   goes through the filter that is the spectrum's square root. So the answer depends neither on
   windows nor on threads.
4. *Only what is missing.* A prediction next to known pixels carries part of their grain. For each
   distance from them its fine energy is compared with what the model expects, and grain fills up
   the rest.

Pictures are (h, w, 3) float32 RGB in [0, 1], the network's range. Masks: True = hole.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from restorepix.photo import BoolMask
from restorepix.surround import Patches, ReadRgb, Repaired, Rgb
from restorepix.tiles import Box

Floats = npt.NDArray[np.float64]

BLOCK_PX: Final = 16
"""Side of the blocks that grain is measured in: grain of 4 px still varies often within one."""

SURROUND_PX: Final = 96
"""How far from a hole's box evidence is looked for."""

GUARD_PX: Final = 3
"""Known pixels this near to a hole are no evidence: damage has soft edges."""

MOST_BLOCKS: Final = 300
"""Most blocks that are looked at around one patch, spread evenly."""

MOST_POOLED: Final = 1024
"""Most blocks that all patches of a picture share."""

FEWEST_FLAT: Final = 16
"""Fewest flat blocks that tell anything."""

LEAST_SIGMA: Final = 1.5 / 255
"""Weaker grain is not seen, and not added."""

MOST_COHERENCE: Final = 0.5
"""Blocks whose gradients agree on a direction more than this are edges, not grain."""

MOST_UNEVEN: Final = 5.0
"""Blocks of which one quarter has this many times the variance of another are not grain."""

MOST_KURTOSIS: Final = 6.0
"""Blocks with longer tails (a Gaussian's are 3) hold something sparse."""

FLATTEST: Final = 2.5
"""Blocks up to this multiple of the least variance of their brightness count as flat."""

LEAST_SHARE: Final = 0.12
"""Least share of the unclipped blocks that are flat. In photographs with noise: 0.16 and more."""

MOST_PEAK: Final = 3.0
"""Most that one frequency stands out from its neighbours: grain, up to 1.9; a tiled wall, 9."""

BANDS: Final = ((0.28, 0.71), (0.16, 0.28))
"""Frequencies, in cycles a pixel, in which grain is recognised: the finest band in which it is."""

LOW_BAND: Final = (0.05, 0.16)
"""Frequencies that grain shares with everything else."""

COARSE: Final = 0.12
"""Grain with less energy in the finest band, over the other and by frequency, is coarse: noise
blurred by 0.9 px has 0.05 to 0.09, white noise 0.45 to 0.8."""

MOST_SPREAD: Final = (0.34, 0.42)
"""Most that the energy of fine and of coarse grain varies between flat blocks of a brightness, in
the band that it is recognised in (standard deviation of its natural logarithm). Measured on
photographs cut to 256 px: of 60 with white noise of 4 and 8 levels, nine in ten up to 0.31 and
0.25; with blurred noise of 6 and 12 levels, three in four up to 0.39 and 0.36. Of 300 without
noise, 2 pass all tests with these values. With 0.3 and 0.4 none does, and more grain is lost."""

LEAST_COARSE: Final = 0.22
"""Coarse grain has at least this share of the low band's energy in the band above. Blurred noise
has 0.25 to 0.45, texture often less."""

SPREAD: Final = (0.18, 0.3)
"""How much they vary by chance alone."""

LEAST_BAND: Final = 0.5 / 255
"""Least standard deviation in that band: rounding to 8 bits alone makes 0.2 / 255 of it."""

PRIOR_BLOCKS: Final = 2.0
"""How many blocks the typical level weighs, against those of a brightness."""

BANDWIDTH: Final = 0.08
"""Of brightness, within which blocks are compared and levels are smoothed."""

LEVELS: Final = 33
"""Entries of the table of standard deviations over brightness."""

REACH_PX: Final = 5
"""Farthest tap of the grain's filter."""

RIM_PX: Final = (1.0, 2.0, 4.0, 8.0)
"""Distances to known pixels, at which the prediction's own grain is measured."""

MISSING: Final = (0.9, 0.95, 1.0, 1.0)
"""Share of the grain's variance that is missing at these distances, unless a picture's own pixels
tell otherwise."""

PRIOR_PX: Final = 48
"""How many pixels that opinion weighs."""

_CONTEXT_PX: Final = 12
"""Of a patch, in which its prediction is judged: more than the fine part's filter reaches."""

CELL_PX: Final = 64
"""White noise is drawn in cells of this side."""


class Blocks(NamedTuple):
    """What blocks of known pixels look like: N of them."""

    brightness: Floats
    """(N, 3) mean of each channel."""
    variance: Floats
    """(N, 3) of each channel about its quadric."""
    is_even: BoolMask
    """(N,) whether the block may be nothing but grain, by its own looks."""
    is_clipped: BoolMask
    """(N,) whether it touches black or white."""
    residual: Rgb
    """(N, 16, 16, 3) what is left without the quadric."""


@dataclass(frozen=True)
class Grain:
    """The grain of a surround."""

    sigma: Floats
    """(3, LEVELS) standard deviation of each channel, over brightness from 0 to 1."""
    kernel: Rgb
    """(3, 3, 2 REACH_PX + 1, 2 REACH_PX + 1): channel c of unit grain is the sum over d of white
    noise d filtered with ``kernel[c, d]``."""
    fine: Floats
    """(3,) variance of unit grain's fine part (see :func:`find_fine`)."""

    def find_sigma(self, brightness: Rgb) -> Rgb:
        """Return the standard deviation at (..., 3) brightness."""
        table = np.linspace(0, 1, LEVELS)
        sigma = np.empty_like(brightness)
        for channel in range(3):
            sigma[..., channel] = np.interp(brightness[..., channel], table, self.sigma[channel])
        return sigma


def add_grain(read: ReadRgb, mask: BoolMask, patches: Patches) -> list[tuple[Box, Rgb]]:
    """Return repaired patches with the grain of their surround.

    Args:
        read: returns the (h, w, 3) float32 RGB of a box of the damaged picture.
        mask: (H, W) bool, True = hole.
        patches: boxes inside the picture with (h, w, 3) float32 RGB; together they hold every
            hole pixel once, and lie on a grid of 256 px (:class:`restorepix.inpaint.Patch`).

    Returns:
        As many patches with the same boxes. Those without evidence of grain are the same objects.
        Hole pixels are clipped to [0, 1]; what patches hold at known pixels is kept.
    """
    if not patches:
        return []
    share = max(8, MOST_POOLED // len(patches))
    found: list[Grain | bool | None] = []
    pool: list[Blocks] = []
    for box, _ in patches:
        blocks = look_around(read, mask, box)
        found.append(fit_grain(blocks))
        pool.append(_thin(blocks, share))
    pooled = fit_grain(_join(pool))
    everywhere = pooled if isinstance(pooled, Grain) else None
    answers: list[tuple[Box, Rgb]] = []
    picture = Repaired(read, mask, patches)
    key: int | None = None
    for (box, rgb), own in zip(patches, found, strict=True):
        grain = everywhere if own is None else own
        if not isinstance(grain, Grain):
            answers.append((box, rgb))
            continue
        if key is None:
            key = _hash_surround(read, mask, patches[0][0])
        area = picture.grow(box, _CONTEXT_PX)
        hole = mask[area.slices()]
        grown = _fill_up(picture.read(area), hole, area, grain, key)
        here = box.shift(-area.top, -area.left).slices()
        answers.append((box, np.where(hole[here][..., None], grown[here], rgb)))
    return answers


def look_around(read: ReadRgb, mask: BoolMask, box: Box) -> Blocks:
    """Return blocks of known pixels around a box.

    Args:
        read: as for :func:`add_grain`.
        mask: (H, W) bool, True = hole.
        box: of a patch.
    """
    region = box.grow(SURROUND_PX).intersect(Box(0, 0, *mask.shape))
    assert region is not None, "a patch lies inside its picture"
    hole = mask[region.slices()].astype(np.uint8)
    hole = cv2.dilate(hole, np.ones((2 * GUARD_PX + 1, 2 * GUARD_PX + 1), np.uint8))
    if min(hole.shape) < BLOCK_PX:
        return _measure_blocks(np.empty((0, BLOCK_PX, BLOCK_PX, 3), np.float32))
    # With its anchor at the corner, dilation tells for every place if the block below has a hole.
    touched = cv2.dilate(hole, np.ones((BLOCK_PX, BLOCK_PX), np.uint8), anchor=(0, 0))
    step = BLOCK_PX // 2
    inside = touched[: hole.shape[0] - BLOCK_PX + 1 : step, : hole.shape[1] - BLOCK_PX + 1 : step]
    places = np.argwhere(inside == 0) * step
    if len(places) > MOST_BLOCKS:
        places = places[np.arange(MOST_BLOCKS) * len(places) // MOST_BLOCKS]
    rgb = read(region)
    blocks = np.empty((len(places), BLOCK_PX, BLOCK_PX, 3), np.float32)
    for block, (row, column) in zip(blocks, places.tolist(), strict=True):
        block[:] = rgb[row : row + BLOCK_PX, column : column + BLOCK_PX]
    return _measure_blocks(np.nan_to_num(blocks))


def fit_grain(blocks: Blocks) -> Grain | bool | None:
    """Return the grain that blocks show.

    Returns:
        A model; False where the blocks show that there is none to be seen; None where they do not
        tell (too few of them are flat, or what they hold is texture).
    """
    count = len(blocks.brightness)
    if count < FEWEST_FLAT:
        return None
    total = blocks.variance.mean(axis=1)
    bright = blocks.brightness.mean(axis=1)
    usable = blocks.is_even & ~blocks.is_clipped
    near = np.abs(bright[:, None] - bright[None, :]) < BANDWIDTH
    least = np.full(count, -1.0)
    for index in np.flatnonzero(usable):
        others = np.sort(total[near[index] & ~blocks.is_clipped])
        if len(others) >= FEWEST_FLAT // 2:
            least[index] = others[max(2, len(others) // 20)]
    flat = usable & (total <= FLATTEST * least)
    if np.count_nonzero(flat) < max(
        FEWEST_FLAT, LEAST_SHARE * np.count_nonzero(~blocks.is_clipped)
    ):
        return None
    if np.sqrt(total[flat].mean()) < LEAST_SIGMA:
        return False
    # Clipped blocks tell of their own brightness: pure black has no grain.
    used = flat | blocks.is_clipped
    brightness, flat = blocks.brightness[used], flat[used]
    waves = np.fft.fft2(blocks.residual[used] * _window()[..., None], axes=(1, 2))
    waves = waves.astype(np.complex64)
    power = waves.real.astype(np.float64) ** 2 + waves.imag.astype(np.float64) ** 2
    for band, spread in zip(BANDS, SPREAD, strict=True):
        energies = power[:, _select_band(band)].sum(axis=1)
        levels = _fit_levels(brightness, energies, flat)
        expected = _look_up(levels, brightness[flat]).mean(axis=1)
        if expected.mean() < LEAST_BAND**2:
            continue
        logs = np.log(np.maximum(energies[flat].mean(axis=1), 1e-12) / expected)
        low, high = np.quantile(logs, (0.16, 0.84))
        if (high - low) / 2 > max(MOST_SPREAD):
            continue
        spectrum = _find_spectrum(waves[flat], energies[flat])
        if not _is_grain(spectrum, (high - low) / 2):
            return None
        # Texture raises the energies of some blocks; grain alone makes them vary by SPREAD.
        levels *= min(float(np.exp(low + spread)), 1.0)
        levels *= np.einsum("yxcc->c", spectrum)[:, None]
        if float(_look_up(levels, brightness[flat]).mean()) < LEAST_SIGMA**2:
            return False
        kernel = _fit_kernel(spectrum)
        return Grain(np.sqrt(levels), kernel, _measure_fine(kernel))
    return None


def draw_grain(grain: Grain, box: Box, key: int) -> Rgb:
    """Return unit grain for a box: each channel has mean 0 and variance 1.

    The same place gets the same grain in every box that holds it, up to rounding.

    Args:
        grain: its kernel is used.
        box: where; it may leave the picture.
        key: of the picture.

    Returns:
        (box.height, box.width, 3) float32.
    """
    white = _draw_white(box.grow(REACH_PX), key)
    unit = np.zeros_like(white)
    for channel in range(3):
        for source in range(3):
            taps = grain.kernel[channel, source]
            unit[..., channel] += cv2.filter2D(
                np.ascontiguousarray(white[..., source]), cv2.CV_32F, taps
            )
    return unit[REACH_PX:-REACH_PX, REACH_PX:-REACH_PX]


def find_fine(image: Rgb) -> Rgb:
    """Return what a (h, w, C) picture has beyond its blur by 1.5 px: the fine part."""
    return image - cv2.GaussianBlur(image, (7, 7), 1.5).reshape(image.shape)


def _fill_up(repaired: Rgb, hole: BoolMask, area: Box, grain: Grain, key: int) -> Rgb:
    """Return a repaired (h, w, 3) area with the grain that it lacks, in [0, 1]."""
    brightness = cv2.blur(repaired, (5, 5)).reshape(repaired.shape).astype(np.float32)
    sigma = grain.find_sigma(np.clip(brightness, 0, 1))
    added = draw_grain(grain, area, key) * sigma * hole[..., None]
    share = _find_missing(repaired, added, sigma, hole, grain)
    grown = repaired + np.sqrt(share)[..., None] * added
    return np.clip(grown, 0, 1).astype(np.float32)


def _find_missing(repaired: Rgb, added: Rgb, sigma: Rgb, hole: BoolMask, grain: Grain) -> Rgb:
    """Return (h, w) the share of the grain's variance that a repair lacks, by distance.

    Args:
        repaired: (h, w, 3) with predictions in the hole.
        added: (h, w, 3) all grain that could be added; 0 at known pixels.
        sigma: (h, w, 3) standard deviation of the grain.
        hole: (h, w).
        grain: the model.
    """
    distance = cv2.distanceTransform(hole.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    expected = np.maximum(sigma, 1e-6) ** 2 * grain.fine.astype(np.float32)
    has = find_fine(repaired) ** 2 / expected
    adds = find_fine(added) ** 2 / expected
    shares: list[float] = []
    for place, (limit, missing) in enumerate(zip(RIM_PX, MISSING, strict=True)):
        low = RIM_PX[place - 1] if place else 0.0
        last = place == len(RIM_PX) - 1
        ring = hole & (distance > low) & ((distance <= limit) | last)
        count = int(np.count_nonzero(ring))
        share = missing
        if count:
            # A quarter of squared Gaussians lie below 0.1015: edges in the prediction do not count.
            present = float(np.quantile(has[ring], 0.25)) / 0.1015
            found = (1 - present) / max(float(adds[ring].mean()), 0.05)
            weight = count / (count + PRIOR_PX)
            share = weight * min(max(found, 0.0), 1.0) + (1 - weight) * missing
        shares.append(share)
    return np.interp(distance, RIM_PX, shares).astype(np.float32)


@cache
def _quadrics() -> Rgb:
    """Return (256, 6) an orthonormal basis of the quadrics over a block."""
    rows, columns = np.mgrid[:BLOCK_PX, :BLOCK_PX].astype(np.float64) / BLOCK_PX - 0.5
    terms = [rows**0, rows, columns, rows * columns, rows**2, columns**2]
    basis, _ = np.linalg.qr(np.stack([term.ravel() for term in terms], axis=1))
    return basis.astype(np.float32)


def _measure_blocks(blocks: Rgb) -> Blocks:
    """Return what (N, 16, 16, 3) blocks look like."""
    count = len(blocks)
    basis = _quadrics()
    pixels = blocks.transpose(0, 3, 1, 2).reshape(count, 3, BLOCK_PX * BLOCK_PX)
    left = pixels - (pixels @ basis) @ basis.T
    variance = (left * left).sum(axis=2, dtype=np.float64) / (BLOCK_PX * BLOCK_PX - 6)
    square = left.reshape(count, 3, BLOCK_PX, BLOCK_PX)
    down = square[:, :, 1:, :-1] - square[:, :, :-1, :-1]
    right = square[:, :, :-1, 1:] - square[:, :, :-1, :-1]
    down2, right2, both = (
        (one * other).sum(axis=(1, 2, 3), dtype=np.float64)
        for one, other in ((down, down), (right, right), (down, right))
    )
    coherence = np.hypot(down2 - right2, 2 * both) / np.maximum(down2 + right2, 1e-12)
    squares = left * left
    half = BLOCK_PX // 2
    quarters = squares.reshape(count, 3, 2, half, 2, half).sum(axis=(1, 3, 5)).reshape(count, 4)
    uneven = quarters.max(axis=1) / np.maximum(quarters.min(axis=1), 1e-12)
    fourth = (squares * squares).mean(axis=2, dtype=np.float64)
    kurtosis = fourth / np.maximum(squares.mean(axis=2, dtype=np.float64), 1e-12) ** 2
    clipped = ((pixels <= 0.004) | (pixels >= 0.996)).mean(axis=2).max(axis=1)
    return Blocks(
        pixels.mean(axis=2, dtype=np.float64),
        variance,
        (coherence <= MOST_COHERENCE)
        & (uneven <= MOST_UNEVEN)
        & (kurtosis.max(axis=1) <= MOST_KURTOSIS),
        clipped > 0.03,
        square.transpose(0, 2, 3, 1).astype(np.float32, copy=False),
    )


@cache
def _window() -> Rgb:
    """Return (16, 16) a window under which noise keeps its variance."""
    window = np.hanning(BLOCK_PX + 1)[:-1]
    square = window[:, None] * window[None, :]
    return (square / np.sqrt((square**2).sum()) / BLOCK_PX).astype(np.float32)


@cache
def _select_band(band: tuple[float, float]) -> BoolMask:
    """Return (16, 16) which frequencies belong to a band."""
    along = np.fft.fftfreq(BLOCK_PX)
    frequency = np.hypot(along[:, None], along[None, :])
    return (frequency > band[0]) & (frequency <= band[1])


def _join(parts: Sequence[Blocks]) -> Blocks:
    return Blocks(
        np.concatenate([part.brightness for part in parts]),
        np.concatenate([part.variance for part in parts]),
        np.concatenate([part.is_even for part in parts]),
        np.concatenate([part.is_clipped for part in parts]),
        np.concatenate([part.residual for part in parts]),
    )


def _thin(blocks: Blocks, most: int) -> Blocks:
    """Return at most so many of the blocks, spread evenly."""
    count = len(blocks.brightness)
    if count <= most:
        return blocks
    kept = np.arange(most) * count // most
    return Blocks(
        blocks.brightness[kept],
        blocks.variance[kept],
        blocks.is_even[kept],
        blocks.is_clipped[kept],
        blocks.residual[kept],
    )


def _fit_levels(brightness: Floats, energies: Floats, flat: BoolMask) -> Floats:
    """Return (3, LEVELS) mean energies over brightness.

    Args:
        brightness: (N, 3) of the blocks.
        energies: (N, 3).
        flat: (N,) which blocks are flat; the others are clipped, and tell of less.
    """
    table = np.linspace(0, 1, LEVELS)
    width = np.where(flat, BANDWIDTH, BANDWIDTH / 3)
    levels = np.empty((3, LEVELS))
    for channel in range(3):
        typical = float(np.median(energies[flat, channel]))
        weights = np.exp(-0.5 * ((table[:, None] - brightness[None, :, channel]) / width) ** 2)
        found = np.minimum(energies[:, channel], 4 * typical)
        levels[channel] = (weights @ found + PRIOR_BLOCKS * typical) / (
            weights.sum(axis=1) + PRIOR_BLOCKS
        )
    return levels


def _look_up(levels: Floats, brightness: Floats) -> Floats:
    """Return (N, 3) of (3, LEVELS) levels at (N, 3) brightness."""
    table = np.linspace(0, 1, LEVELS)
    found = np.empty_like(brightness)
    for channel in range(3):
        found[:, channel] = np.interp(brightness[:, channel], table, levels[channel])
    return found


def _find_spectrum(waves: npt.NDArray[np.complex64], energies: Floats) -> Floats:
    """Return (16, 16, 3, 3) the spectrum of flat blocks whose band has a variance of 1.

    Mean spectra of flat blocks would contain what little texture they have, mostly low
    frequencies. So each frequency is reduced to what the quieter blocks have there.

    Args:
        waves: (N, 16, 16, 3).
        energies: (N, 3) variances in the band.
    """
    unit = waves / np.sqrt(np.maximum(energies, 1e-12)).astype(np.float32)[:, None, None, :]
    power = unit.real.astype(np.float64) ** 2 + unit.imag.astype(np.float64) ** 2
    power = power.transpose(0, 3, 1, 2).reshape(-1, BLOCK_PX, BLOCK_PX)
    # 20 % of exponential values lie below 0.223 of their mean.
    quiet = _mirror(np.quantile(power, 0.2, axis=0) / 0.223)
    mean = _mirror(power.mean(axis=0))
    wrapped = [np.pad(one, 1, mode="wrap") for one in (quiet, mean)]
    smooth = [cv2.blur(one, (3, 3))[1:-1, 1:-1] for one in wrapped]
    share = np.minimum(smooth[0] / np.maximum(smooth[1], 1e-12), 1)
    cross = np.einsum("nyxc,nyxd->yxcd", unit, unit.conj()).real.astype(np.float64) / len(unit)
    return _mirror(cross) * share[..., None, None]


def _is_grain(spectrum: Floats, spread: float) -> bool:
    """Return whether a spectrum, and how much its energy varies, are those of grain."""
    power = np.einsum("yxcc->yx", spectrum)
    around = cv2.blur(np.pad(power, 2, mode="wrap"), (5, 5))[2:-2, 2:-2]
    fine, middle, low = (_select_band(band) for band in (*BANDS, LOW_BAND))
    if (power / np.maximum(around, 1e-12))[fine | middle].max() > MOST_PEAK:
        return False
    fine, middle, low = (float(power[band].mean()) for band in (fine, middle, low))
    if fine >= COARSE * middle:
        return spread <= MOST_SPREAD[0]
    return spread <= MOST_SPREAD[1] and middle >= LEAST_COARSE * low


def _mirror(spectrum: Floats) -> Floats:
    """Return the mean of a spectrum and its mirror image: grain looks the same in a mirror."""
    flipped: Floats = np.roll(spectrum[:, ::-1], 1, axis=1)
    return (spectrum + flipped) / 2


def _fit_kernel(spectrum: Floats) -> Rgb:
    """Return the filters that turn white noise into unit grain; see :class:`Grain`."""
    values, vectors = np.linalg.eigh((spectrum + spectrum.transpose(0, 1, 3, 2)) / 2)
    roots = np.sqrt(np.maximum(values, 0))
    root = np.einsum("yxce,yxe,yxde->yxcd", vectors, roots, vectors)
    taps = np.fft.ifft2(root, axes=(0, 1)).real
    centre = BLOCK_PX // 2
    taps = np.roll(taps, (centre, centre), axis=(0, 1))
    kept = slice(centre - REACH_PX, centre + REACH_PX + 1)
    kernel = taps[kept, kept].transpose(2, 3, 0, 1)
    energy = (kernel**2).sum(axis=(1, 2, 3), keepdims=True)
    return np.ascontiguousarray(kernel / np.sqrt(np.maximum(energy, 1e-12))).astype(np.float32)


def _measure_fine(kernel: Rgb) -> Floats:
    """Return (3,) the variance of unit grain's fine part."""
    side = kernel.shape[2] + 2 * 4
    padded = np.zeros((side, side, 9), np.float32)
    padded[4:-4, 4:-4] = kernel.reshape(9, *kernel.shape[2:]).transpose(1, 2, 0)
    fine = np.stack([find_fine(padded[..., i : i + 1])[..., 0] for i in range(9)])
    return (fine.astype(np.float64) ** 2).sum(axis=(1, 2)).reshape(3, 3).sum(axis=1)


def _draw_white(box: Box, key: int) -> Rgb:
    """Return (h, w, 3) white noise that depends on the key and each pixel's place alone."""
    white = np.empty((box.height, box.width, 3), np.float32)
    for cell in _list_cells(box):
        # Places may be negative, keys not.
        place = ((cell.top // CELL_PX + 1) << 32) + cell.left // CELL_PX + 1
        source = np.random.Generator(np.random.Philox(key=[key, place]))
        noise = source.standard_normal((CELL_PX, CELL_PX, 3), np.float32)
        part = cell.intersect(box)
        assert part is not None
        here = part.shift(-box.top, -box.left).slices()
        white[here] = noise[part.shift(-cell.top, -cell.left).slices()]
    return white


def _list_cells(box: Box) -> Iterator[Box]:
    for top in range(box.top // CELL_PX * CELL_PX, box.bottom, CELL_PX):
        for left in range(box.left // CELL_PX * CELL_PX, box.right, CELL_PX):
            yield Box(top, left, CELL_PX, CELL_PX)


def _hash_surround(read: ReadRgb, mask: BoolMask, box: Box) -> int:
    """Return a number that the mask's extent and the known pixels around a box decide."""
    region = box.grow(8).intersect(Box(0, 0, *mask.shape))
    assert region is not None, "a patch lies inside its picture"
    known = np.ascontiguousarray(read(region))[~mask[region.slices()]]
    return zlib.crc32(known.tobytes(), zlib.crc32(repr((mask.shape, box)).encode()))
