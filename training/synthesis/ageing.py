"""What time and machines do to a whole photograph: before damage, and after it."""

from __future__ import annotations

import cv2
import numpy as np

from training.damage import Floats, blur


def age(image: Floats, rng: np.random.Generator) -> Floats:
    """A photograph as it may have looked before it was damaged: grey, sepia, faded, soft, uneven.

    Args:
        image: (H, W, 3) float32 in [0, 255].
        rng: source of all randomness.

    Returns:
        (H, W, 3) float32 in [0, 255].
    """
    kind = rng.random()
    if kind < 0.3:
        grey = image @ np.array([0.299, 0.587, 0.114], np.float32)
        image = np.repeat(grey[..., None], 3, 2)
        if kind < 0.13:  # sepia, selenium, cyanotype: black and white get a colour each
            dark = rng.uniform((20, 10, 0), (70, 50, 45)).astype(np.float32)
            light = rng.uniform((215, 205, 165), (255, 250, 240)).astype(np.float32)
            image = dark + (light - dark) * image / 255
    elif kind < 0.45:  # faded dyes: contrast lost, one colour gone more than the others
        low = rng.uniform(0, 60, 3).astype(np.float32)
        high = rng.uniform(175, 255, 3).astype(np.float32)
        image = low + (high - low) * image / 255
    if rng.random() < 0.2:
        image = blur(image, rng.uniform(0.4, 1.6))
    if rng.random() < 0.12:  # light falls off to the corners
        height, width = image.shape[:2]
        rows, columns = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
        image = image * (1 - rng.uniform(0.1, 0.5) * (rows**2 + columns**2) / 2)[..., None]
    if rng.random() < 0.35:
        image = add_grain(image, rng, rng.uniform(1, 11))
    if rng.random() < 0.3:
        image = recompress(image, int(rng.integers(35, 96)))
    return np.clip(image, 0, 255).astype(np.float32)


def finish(image: Floats, rng: np.random.Generator) -> Floats:
    """What a scanner and a file add after the damage: softness, noise, sharpening, JPEG."""
    if rng.random() < 0.2:
        image = blur(image, rng.uniform(0.3, 0.8))
    if rng.random() < 0.15:
        image = np.asarray(image + rng.uniform(0.3, 1) * (image - blur(image, 1.2)), np.float32)
    if rng.random() < 0.3:
        image = add_grain(image, rng, rng.uniform(0.5, 5))
    if rng.random() < 0.5:
        image = recompress(image, int(rng.integers(60, 98)))
    return np.clip(image, 0, 255).astype(np.float32)


def add_grain(image: Floats, rng: np.random.Generator, levels: float) -> Floats:
    """Noise of a standard deviation of ``levels``, fine or as large as silver grain."""
    height, width = image.shape[:2]
    channels = 1 if rng.random() < 0.6 else 3
    noise = rng.standard_normal((height, width, channels), np.float32)
    if rng.random() < 0.5:
        sigma = rng.uniform(0.5, 1.2)
        noise = blur(noise, sigma).reshape(height, width, channels)
        noise /= max(float(noise.std()), 1e-6)
    return np.asarray(image + levels * noise, np.float32)


def recompress(image: Floats, quality: int) -> Floats:
    """The picture as a JPEG of ``quality`` decodes."""
    bgr = np.ascontiguousarray(np.clip(np.rint(image), 0, 255).astype(np.uint8)[..., ::-1])
    done, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert done, "OpenCV encodes any uint8 picture as JPEG"
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1], np.float32)
