"""restorepix from Python: pictures in arrays, or files, without the command line.

    from restorepix import Restorer, detect, fix_file

Importing the names costs nothing; NumPy, OpenCV and PyTorch load with the first call.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from restorepix.errors import PhotoError, UsageError
from restorepix.options import DamageClass, DetectOptions, RestoreOptions, WalkOptions

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from restorepix.masks import FoundMask
    from restorepix.photo import BoolMask, Page
    from restorepix.report import Result

    Pixels = TypeVar("Pixels", bound=npt.NDArray[Any])
else:
    Pixels = TypeVar("Pixels")


class Restorer:
    """Repaints holes in pictures; loads its network once and serves any number of calls.

    Examples:
        >>> import numpy as np
        >>> from restorepix import Restorer
        >>> picture = np.full((64, 96, 3), 200, np.uint8)
        >>> picture[30:34, 10:80] = 0                      # a black scratch
        >>> mask = np.zeros((64, 96), bool)
        >>> mask[29:35, 9:81] = True                       # True = repaint
        >>> repaired = Restorer(device="cpu").inpaint(picture, mask)
        >>> repaired.shape, repaired.dtype
        ((64, 96, 3), dtype('uint8'))
        >>> np.array_equal(repaired[~mask], picture[~mask])  # nothing else changed
        True
        >>> bool(abs(repaired[mask].astype(int) - 200).max() < 40)
        True
    """

    def __init__(
        self,
        *,
        device: str = "auto",
        weights: str | Path | None = None,
        threads: int | None = None,
        download: bool = True,
        texture: str = "auto",
        grain: str = "auto",
    ) -> None:
        """Check the weights and the device; the network itself loads with the first hole.

        Args:
            device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``; one that is named is never
                replaced by another.
            weights: a safetensors file, or the name of a model of ``restorepix models list``;
                None for the bundled weights.
            threads: windows that a CPU works on at a time; None for one.
            download: fetch a named model that is not on this machine.
            texture: ``auto`` gives wide repairs the fine structure of their surround, as far as
                the network's answer lacks it; ``off`` leaves them smooth.
            grain: ``auto`` gives repaired pixels the grain of their surround, where it has any;
                ``off`` leaves them smooth.

        Raises:
            WeightsError: the weights are missing, damaged or of another architecture.
            DeviceError: the device was named and is not there.
            UsageError: a value is out of range.
        """
        from restorepix.pipeline import load_network

        options = RestoreOptions(
            device=device,
            weights=None if weights is None else Path(weights),
            threads=threads,
            download=download,
            texture=texture,
            grain=grain,
        )
        self._network = load_network(options)

    @property
    def device(self) -> str:
        """Where the network runs: ``cpu``, ``cuda:0`` ..."""
        return self._network.device

    @property
    def weights_sha256(self) -> str:
        """SHA-256 in hex of the weights file."""
        return self._network.weights_sha256

    def inpaint(self, image: Pixels, mask: npt.NDArray[Any]) -> Pixels:
        """Return a copy of a picture whose hole is repainted; every other sample is the same.

        Args:
            image: ``(H, W)`` grey, ``(H, W, 3)`` RGB or ``(H, W, 4)`` RGB and opacity; uint8 or
                uint16 over their whole range, or float32 in [0, 1]. Opacity is never changed.
            mask: ``(H, W)``; bool with True = hole, or uint8 with more than 127 = hole.

        Raises:
            UsageError: shapes or types are others.
            WeightsError: the network's answer is not finite.
        """
        import numpy as np

        from restorepix.color import page_to_rgb, rgb_to_native
        from restorepix.composite import composite_page

        page = _build_page(image)
        hole = _build_hole(mask, page)
        if not hole.any():
            return image.copy()
        patches = self._network.inpainter.inpaint(lambda box: page_to_rgb(page, box), hole)
        pixels = composite_page(
            page.pixels,
            hole,
            ((box, rgb_to_native(page, box, rgb, hole[box.slices()])) for box, rgb in patches),
        )
        if page.alpha is not None:
            pixels = np.dstack([pixels, page.alpha])
        return pixels.reshape(image.shape)  # pyright: ignore[reportReturnType] - dtype is kept


def detect(
    image: npt.NDArray[Any],
    *,
    classes: tuple[DamageClass, ...] = ("scratch", "text"),
    sensitivity: str = "normal",
    detector: str | Path | None = None,
    device: str = "auto",
    download: bool = True,
) -> FoundMask:
    """Return where a picture is damaged.

    Args:
        image: as for :meth:`Restorer.inpaint`.
        classes: kinds of damage to look for: ``scratch``, ``text``, ``watermark``.
        sensitivity: ``low``, ``normal``, ``high``, or a number between 0 and 1 as text.
        detector: weights of the detector; None for the default one.
        device: as for :class:`Restorer`.
        download: fetch weights that are not on this machine.

    Returns:
        The finding: ``mask.pages[0]`` is ``(H, W)`` bool, True = damage, or None when there is
        none; ``detected`` has ``pixels`` and ``confidence`` per class; ``review`` holds reasons
        for a person to look at it.

    Raises:
        UsageError: no detector is installed, or shapes, types or values are others.
        WeightsError: the detector's weights are damaged.
        DeviceError: the device was named and is not there.
    """
    from restorepix.detect.repair import build_finder
    from restorepix.photo import Photo

    page = _build_page(image)
    options = RestoreOptions(
        detect=DetectOptions(
            classes=classes,
            sensitivity=sensitivity,
            weights=None if detector is None else Path(detector),
        ),
        device=device,
        download=download,
    )
    return build_finder(options).find(Photo("array", (page,), 1, b""), "image")


def fix_file(
    path: str | Path,
    mask: str | Path | None = None,
    output: str | Path | None = None,
    options: RestoreOptions | None = None,
) -> Result:
    """Restore one file as ``restorepix fix`` does, proof included.

    Args:
        path: the photograph.
        mask: its mask file, or a folder of masks; None only with ``options.detect``.
        output: the file to write; None for ``a-restored.jpg`` beside ``a.jpg``.
        options: everything else; None for the defaults.

    Returns:
        The record of the photograph, whose ``status`` is ``restored`` or ``unchanged``.

    Raises:
        UsageError: there is no mask and nothing is to be detected, or a path does not exist.
        PlanError: the output would replace an original.
        PhotoError: the photograph failed; the message says why, and nothing was written.
        WeightsError: weights are missing or damaged.
        DeviceError: the device was named and is not there.

    Examples:
        >>> from restorepix import fix_file
        >>> result = fix_file("photo.png", "photo_mask.png", "repaired.png")
        >>> result.status, result.preserved, result.holes
        ('restored', 'exact', 1)
    """
    from restorepix.pipeline import build_repair, restore_photo
    from restorepix.plan import build_plan

    options = options or RestoreOptions()
    if mask is None and options.detect is None:
        raise UsageError(
            f"{path}: there is no mask. Pass one, or options with detect=DetectOptions()."
        )
    source = Path(path)
    if source.is_dir():
        raise UsageError(f"{path}: expected a file, found a folder.")
    given = None if mask is None else Path(mask)
    target = None if output is None else Path(output)
    (job,) = build_plan([source], given, target, options, WalkOptions()).jobs
    result = restore_photo(job, options, build_repair(options))
    if result.error is not None:
        raise PhotoError(result.error.message)
    return result


def _build_page(image: npt.NDArray[Any]) -> Page:
    """Return an array as a page of a file."""
    from restorepix.photo import Page

    _check_array("image", image)
    shape = image.shape
    is_picture = image.ndim == 2 or (image.ndim == 3 and shape[2] in (1, 3, 4))
    if not is_picture or image.size == 0:
        raise UsageError(f"the image is {shape}: expected (H, W), (H, W, 3) or (H, W, 4).")
    if image.dtype.name not in ("uint8", "uint16", "float32"):
        raise UsageError(
            f"the image holds {image.dtype}: expected uint8, uint16, or float32 in [0, 1]."
        )
    if image.ndim == 2:
        return Page(image[..., None], "grey")
    if shape[2] == 4:
        return Page(image[..., :3], "rgb", image[..., 3])
    return Page(image, "rgb" if shape[2] == 3 else "grey")


def _check_array(what: str, value: object) -> None:
    import numpy as np

    if not isinstance(value, np.ndarray):
        raise UsageError(
            f"the {what} is a {type(value).__name__}: expected a NumPy array. Of a picture, "
            "np.asarray makes one."
        )


def _build_hole(mask: npt.NDArray[Any], page: Page) -> BoolMask:
    """Return a mask as booleans, True = hole."""
    import numpy as np

    _check_array("mask", mask)
    if mask.shape != (page.height, page.width) or mask.dtype.name not in ("bool", "uint8"):
        raise UsageError(
            f"the mask is {mask.shape} {mask.dtype}: expected {(page.height, page.width)}, bool "
            "with True = hole or uint8 with 255 = hole."
        )
    hole: npt.NDArray[np.bool_] = mask if mask.dtype == np.bool_ else mask > 127
    return hole
