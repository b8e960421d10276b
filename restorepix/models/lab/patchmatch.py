"""PatchMatch inpainting: no training, the hole is copied together from patches of the picture.

Barnes et al., "PatchMatch" (SIGGRAPH 2009) finds for every patch a similar one: a random guess,
propagation from two neighbours in alternating scans (section 3.2), random search at halving radii
(eq. 1). Around it, coarse to fine, Wexler et al. (PAMI 2007) vote the hole's colours, in both
directions: patches of the hole should look like known ones, and known ones should be found in the
hole (Simakov et al., CVPR 2008, eq. 1).

A scan is vectorised exactly: patches on one anti-diagonal depend on the previous one alone, so a
whole diagonal moves at a time and the result is that of the pixel by pixel loop.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import torch

from restorepix.models.fill import pull_push

Pixels = npt.NDArray[np.float32]
Places = npt.NDArray[np.intp]
Hole = npt.NDArray[np.bool_]

GRADIENT_WEIGHT = 0.5
"""Of differences in gradients beside those in colours. A guess, not studied."""


@dataclass(frozen=True)
class PatchMatchOptions:
    """How the hole is searched for."""

    radius: int = 3
    """Patches have 2 * radius + 1 pixels a side."""
    max_passes: int = 7
    """Most passes of propagation and search for one field; level l of the pyramid has 2 + l, so
    that each scans both ways at least once."""
    completeness: float = 0.5
    """Weight of votes by which known patches ask to be found in the hole; 0 for none. The finest
    level has none: nearly all patches are known, and asking them takes most of the time."""
    seed: int = 1
    """Of the random guesses: equal seeds give equal bytes."""


def build_features(image: Pixels) -> Pixels:
    """(H, W, 3) RGB in [0, 255] -> (H, W, 5): colours and both weighted gradients of luma."""
    luma = image @ np.array([0.299, 0.587, 0.114], np.float32)
    down = np.diff(luma, axis=0, append=luma[-1:])
    right = np.diff(luma, axis=1, append=luma[:, -1:])
    gradients = GRADIENT_WEIGHT * np.stack([down, right], 2)
    return np.concatenate([image, gradients], 2).astype(np.float32)


def split_patches(hole: Hole, radius: int) -> tuple[Hole, Hole]:
    """Centres of patches inside the picture: those that touch the hole, and those that do not."""
    side = 2 * radius + 1
    touched = cv2.dilate(hole.astype(np.uint8), np.ones((side, side), np.uint8)) > 0
    inside = np.zeros_like(hole)
    inside[radius : hole.shape[0] - radius, radius : hole.shape[1] - radius] = True
    return touched & inside, ~touched & inside


class Field:
    """For every query patch the place of a similar key patch, and how far it is.

    ``distance`` never rises: every change is accepted only if it is an improvement.
    """

    def __init__(
        self,
        query_features: Pixels,
        key_features: Pixels,
        queries: Hole,
        keys: Hole,
        radius: int,
        rng: np.random.Generator,
        guess: Places | None = None,
    ) -> None:
        """Start from ``guess`` where it is allowed, and from random keys elsewhere.

        Args:
            query_features: (H, W, F) in which queries are looked at.
            key_features: (H, W, F) in which keys are.
            queries: (H, W) bool, True at centres of query patches.
            keys: (H, W) bool, True at centres of key patches; one at least.
            radius: of patches.
            rng: random guesses.
            guess: (H, W, 2) places of keys, read at queries.
        """
        self._key_features = key_features
        self._keys = keys
        self._rng = rng
        self._offsets = np.stack(
            np.meshgrid(*[np.arange(-radius, radius + 1)] * 2, indexing="ij"), 2
        ).reshape(-1, 2)
        self.places: Places = np.argwhere(queries)
        allowed = np.argwhere(keys)
        self.found: Places = allowed[rng.integers(0, len(allowed), len(self.places))]
        if guess is not None:
            wanted = guess[self.places[:, 0], self.places[:, 1]]
            good = self._is_key(wanted)
            self.found[good] = wanted[good]
        self._patches = self._gather(query_features, self.places)
        self.distance = self._measure(np.arange(len(self.places)), self.found)
        self._number = np.full(queries.shape, -1, np.intp)
        self._number[queries] = np.arange(len(self.places))
        diagonal = self.places.sum(1)
        order = np.argsort(diagonal, kind="stable")
        cuts = np.flatnonzero(np.diff(diagonal[order])) + 1
        self._diagonals = np.split(order, cuts)

    def improve(self, passes: int) -> None:
        """Run passes of propagation and random search, every other one backwards."""
        for number in range(passes):
            step = 1 if number % 2 == 0 else -1
            for diagonal in self._diagonals[::step]:
                for move in ((0, step), (step, 0)):
                    self._propagate(diagonal, move)
            self._search()

    def spread(self, shape: tuple[int, int]) -> Places:
        """(H, W, 2) places of keys at queries; elsewhere -1."""
        whole = np.full((*shape, 2), -1, np.intp)
        whole[self.places[:, 0], self.places[:, 1]] = self.found
        return whole

    def _gather(self, features: Pixels, places: Places) -> Pixels:
        at = places[:, None] + self._offsets
        return features[at[..., 0], at[..., 1]].reshape(len(places), -1)

    def _is_key(self, places: Places) -> npt.NDArray[np.bool_]:
        height, width = self._keys.shape
        row, column = places[:, 0], places[:, 1]
        inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        return inside & self._keys[row.clip(0, height - 1), column.clip(0, width - 1)]

    def _measure(self, numbers: Places, places: Places) -> npt.NDArray[np.float32]:
        """Sum of squared differences between queries, by number, and key patches."""
        parts: list[npt.NDArray[np.float32]] = []
        for start in range(0, len(numbers), 8192):  # bounds memory
            part = slice(start, start + 8192)
            gap = self._patches[numbers[part]] - self._gather(self._key_features, places[part])
            parts.append(np.einsum("ij,ij->i", gap, gap))
        return np.concatenate(parts) if parts else np.zeros(0, np.float32)

    def _offer(self, numbers: Places, places: Places) -> None:
        """Take those of the offered keys that are closer."""
        good = self._is_key(places)
        numbers, places = numbers[good], places[good]
        if len(numbers) == 0:
            return
        distance = self._measure(numbers, places)
        closer = distance < self.distance[numbers]
        self.found[numbers[closer]] = places[closer]
        self.distance[numbers[closer]] = distance[closer]

    def _propagate(self, numbers: Places, move: tuple[int, int]) -> None:
        """Offer each query what its neighbour at minus ``move`` found, moved along."""
        before = self.places[numbers] - move
        inside = ((before >= 0) & (before < np.array(self._number.shape))).all(1)
        numbers, before = numbers[inside], before[inside]
        neighbour = self._number[before[:, 0], before[:, 1]]
        has = neighbour >= 0
        self._offer(numbers[has], self.found[neighbour[has]] + move)

    def _search(self) -> None:
        """Offer keys at random around what is found, at radii halving from the whole picture."""
        radius = max(self._keys.shape)
        everyone = np.arange(len(self.places))
        while radius >= 1:
            jump = self._rng.integers(-radius, radius + 1, (len(everyone), 2))
            self._offer(everyone, self.found + jump)
            radius //= 2


def _vote(
    image: Pixels, hole: Hole, coherent: Field, complete: Field | None, options: PatchMatchOptions
) -> Pixels:
    """Every hole pixel becomes the weighted mean of what patches over it propose."""
    height, width = hole.shape
    total = np.zeros((height * width, 4))
    radius = options.radius
    fields = [(coherent, coherent.places, coherent.found, 1.0)]
    if complete is not None:
        fields.append((complete, complete.found, complete.places, options.completeness))
    for field, targets, sources, share in fields:
        # A patch's say falls with its distance, measured against the better quarter of them all.
        scale = max(float(np.percentile(field.distance, 25)), 1.0)
        weight = share * np.exp(-field.distance.astype(np.float64) / (2 * scale)) + 1e-12
        for row in range(-radius, radius + 1):
            for column in range(-radius, radius + 1):
                target = (targets[:, 0] + row) * width + targets[:, 1] + column
                colour = image[sources[:, 0] + row, sources[:, 1] + column]
                for channel in range(3):
                    total[:, channel] += np.bincount(
                        target, weight * colour[:, channel], height * width
                    )
                total[:, 3] += np.bincount(target, weight, height * width)
    voted = (total[:, :3] / np.maximum(total[:, 3:], 1e-300)).reshape(height, width, 3)
    has = hole & (total[:, 3] > 0).reshape(height, width)
    return np.where(has[..., None], voted, image).astype(np.float32)


def _halve(image: Pixels, hole: Hole) -> tuple[Pixels, Hole]:
    """Half the size: means of known pixels; a pixel with none is hole."""
    rows, columns = -(-hole.shape[0] // 2), -(-hole.shape[1] // 2)
    pad = ((0, 2 * rows - hole.shape[0]), (0, 2 * columns - hole.shape[1]))
    known = np.pad(~hole, pad).astype(np.float32)
    colour = np.pad(image, (*pad, (0, 0))) * known[..., None]
    count = known.reshape(rows, 2, columns, 2).sum((1, 3))
    summed = colour.reshape(rows, 2, columns, 2, 3).sum((1, 3))
    return (summed / np.maximum(count, 1)[..., None]).astype(np.float32), count == 0


def _fill(image: Pixels, hole: Hole) -> Pixels:
    batch = torch.tensor(image).permute(2, 0, 1)[None]
    mask = torch.tensor(hole)[None, None].float()
    return pull_push(batch, mask)[0].permute(1, 2, 0).numpy()


def inpaint_patchmatch(
    image: npt.NDArray[np.uint8],
    mask: npt.NDArray[np.bool_],
    options: PatchMatchOptions | None = None,
    start: npt.NDArray[np.uint8] | None = None,
) -> npt.NDArray[np.uint8]:
    """Fill the hole from the rest of the picture.

    Args:
        image: (H, W, 3) uint8 RGB; content of the hole is ignored.
        mask: (H, W) bool, True = hole.
        options: see there.
        start: (H, W, 3) uint8 picture to start from, such as a network's answer; then only the two
            finest levels are searched.

    Returns:
        (H, W, 3) uint8, equal to ``image`` outside the hole. If no whole patch is known, the
        smooth fill that the search starts from.
    """
    options = options or PatchMatchOptions()
    if not mask.any():
        return image.copy()
    rng = np.random.default_rng(options.seed)
    pixels = np.where(mask[..., None], 0, image).astype(np.float32)
    levels = [(pixels, mask)]
    starts = [None if start is None else start.astype(np.float32)]
    side = 2 * options.radius + 1
    deepest = 2 if start is not None else 64
    while len(levels) < deepest and min(levels[-1][1].shape) >= 4 * side:
        smaller, hole = _halve(*levels[-1])
        _, keys = split_patches(hole, options.radius)
        if not hole.any() or not keys.any():
            break
        levels.append((smaller, hole))
        last = starts[-1]
        starts.append(None if last is None else _halve(last, np.zeros(last.shape[:2], np.bool_))[0])
    current = _fill(*levels[-1]) if starts[-1] is None else starts[-1]
    guess: Places | None = None
    for level in reversed(range(len(levels))):
        pixels, hole = levels[level]
        current = np.where(hole[..., None], _enlarge(current, hole.shape), pixels)
        queries, keys = split_patches(hole, options.radius)
        if queries.any() and keys.any():
            guess = None if guess is None else _double(guess, hole.shape)
            for _ in range(1 + 2 * level):
                current, guess = _refine(current, hole, queries, keys, guess, level, options, rng)
    painted = np.rint(current).clip(0, 255).astype(np.uint8)
    return np.where(mask[..., None], painted, image)


def _refine(
    current: Pixels,
    hole: Hole,
    queries: Hole,
    keys: Hole,
    guess: Places | None,
    level: int,
    options: PatchMatchOptions,
    rng: np.random.Generator,
) -> tuple[Pixels, Places]:
    """One round: match, then vote; returns the picture and the field to go on from."""
    passes = min(options.max_passes, 2 + level)
    features = build_features(current)
    coherent = Field(features, features, queries, keys, options.radius, rng, guess)
    coherent.improve(passes)
    complete = None
    if options.completeness > 0 and level > 0:
        complete = Field(features, features, keys, queries, options.radius, rng)
        complete.improve(passes)
    voted = _vote(current, hole, coherent, complete, options)
    return voted, coherent.spread(hole.shape)


def _enlarge(image: Pixels, shape: tuple[int, ...]) -> Pixels:
    enlarged = cv2.resize(image, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR)
    return np.asarray(enlarged, np.float32)


def _double(field: Places, shape: tuple[int, ...]) -> Places:
    """A field at twice the size: each pixel takes its parent's place, doubled, and its own step."""
    rows, columns = np.arange(shape[0]), np.arange(shape[1])
    parent = field[rows // 2][:, columns // 2]
    step = np.stack(np.meshgrid(rows % 2, columns % 2, indexing="ij"), 2)
    return np.where(parent < 0, -1, 2 * parent + step)
