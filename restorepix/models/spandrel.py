"""Inpainters that the package spandrel recognises, for those who own their weights.

``pip install 'restorepix[spandrel]'`` brings https://github.com/chaiNNer-org/spandrel and with it
torchvision, whose version has to suit that of torch. Where ``spandrel_extra_arches`` is installed
as well (architectures under non-commercial licences, such as MAT), its architectures are known too.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from restorepix.errors import WeightsError


class SpandrelAnswer(NamedTuple):
    """What the adapter answers."""

    refined: Tensor
    """(B, 3, H, W) in [-1, 1]."""


class SpandrelInpainter(nn.Module):
    """A network that spandrel built, called as every inpainter here."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        """Let spandrel recognise and load tensors by name.

        Raises:
            WeightsError: spandrel cannot be imported.
            ValueError: it knows no inpainter with such tensors.
        """
        super().__init__()
        try:
            import spandrel as imported  # pyright: ignore[reportMissingImports]  # noqa: I001

            if find_spec("spandrel_extra_arches") is not None:
                import spandrel_extra_arches  # pyright: ignore[reportMissingImports]

                extra = cast("Any", spandrel_extra_arches)
                extra.install(ignore_duplicates=True)
        except Exception as error:  # torchvision fails in many ways  # noqa: BLE001
            raise WeightsError(
                f"spandrel cannot be imported ({type(error).__name__}: {error}). It needs a "
                "torchvision that suits your torch: install both from one place, see "
                "https://pytorch.org/get-started."
            ) from error
        library = cast("Any", imported)
        try:
            state = library.canonicalize_state_dict(tensors)
            found = library.ModelLoader().load_from_state_dict(state)
        except library.UnsupportedModelError as error:
            raise ValueError("spandrel knows no network with such tensors") from error
        if not isinstance(found, library.MaskedImageModelDescriptor) or found.input_channels != 3:
            raise ValueError(f"spandrel knows it as {found.architecture.name}, which fills no hole")
        self._run = found
        # Registered, so that it moves to devices with this module.
        self.network: nn.Module = found.model

    def forward(self, image: Tensor, mask: Tensor) -> SpandrelAnswer:
        """Predict the hole's content, sample by sample, as spandrel wants it.

        Args:
            image: (B, 3, H, W) float RGB in [-1, 1]; the hole may hold anything.
            mask: (B, 1, H, W) float in {0, 1}, 1 = hole.

        Returns:
            ``refined``, (B, 3, H, W) in [-1, 1].
        """
        known = torch.where(mask > 0, 0, (image + 1) / 2)
        answers: list[Tensor] = [
            self._run(known[place : place + 1], mask[place : place + 1])
            for place in range(len(image))
        ]
        return SpandrelAnswer(torch.cat(answers) * 2 - 1)
