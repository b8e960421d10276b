"""Architectures by name: what turns a weights file into a network, ours and those of plugins.

A weights file names its architecture and config in its header. The name is looked up here, the
network is built from the config and every tensor of the file is loaded into it, strictly. Files of
others that carry no such header are recognised by the names of their tensors. A package adds an
architecture of its own by an entry point (docs/weights.md)::

    [project.entry-points."restorepix.inpainters"]
    my-architecture = "my_package:ARCHITECTURE"

Looking up imports no torch; building does.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from restorepix.errors import WeightsError
from restorepix.models.header import Header, TensorSpec
from restorepix.models.lab.catalogue import LAB_MODELS, build_method

if TYPE_CHECKING:
    from torch import Tensor, nn

Kind = Literal["inpainter", "detector"]

ENTRY_POINTS: Final[Mapping[Kind, str]] = {
    "inpainter": "restorepix.inpainters",
    "detector": "restorepix.detectors",
}
"""Groups of entry points in which packages name their architectures."""


@dataclass(frozen=True)
class Architecture:
    """One architecture: how it is recognised and built.

    What ``build`` returns is called in evaluation mode, under autocast or in float32:

    - an inpainter as ``network(image, mask)``: image (B, 3, H, W) float32 RGB in [-1, 1] whose
      hole may hold anything, mask (B, 1, H, W) float32 in {0, 1}, 1 = hole, any H and W from 16.
      The answer's attribute ``refined`` is (B, 3, H, W) in [-1, 1] and is read inside the hole
      only. Samples of a batch must not influence each other.
    - a detector as ``network(image)``: image (B, 3, H, W) float32 RGB in [-1, 1], H and W
      multiples of 16; the answer is (B, 3, H, W) logits: scratch, text, watermark.
    """

    name: str
    """What headers call it; a number at its end changes with whatever changes its tensors."""
    kind: Kind
    build: Callable[[Mapping[str, Any]], nn.Module]
    """Makes the network, with any weights, from the header's config. Raises TypeError or
    ValueError on a config that does not fit."""
    recognise: Callable[[Mapping[str, TensorSpec]], Mapping[str, Any] | None] | None = None
    """For files without our header: the config that the tensors' names and shapes show, or None
    when the file is of another architecture."""
    rename: Callable[[str], str] | None = None
    """From a tensor's name in the file to its name in the network."""
    adopt: Callable[[dict[str, Tensor]], nn.Module] | None = None
    """In place of ``build``: makes the network from the file's tensors, all of which it has to use.
    Raises TypeError, ValueError or RuntimeError when it cannot."""
    float32: bool = False
    """Whether it must run in float32 throughout, where ours would run in bfloat16."""
    weightless: bool = False
    """Whether it has nothing to load: the config says all."""


def _build_two_stage(config: Mapping[str, Any]) -> nn.Module:
    from restorepix.models.generator import Generator, GeneratorConfig

    return Generator(GeneratorConfig.from_mapping(config))


def _build_detector(config: Mapping[str, Any]) -> nn.Module:
    from restorepix.models.detector import Detector, DetectorConfig

    return Detector(DetectorConfig.from_mapping(config))


TWO_STAGE: Final = "restorepix-two-stage-1"
"""The architecture of the bundled inpainter: :class:`restorepix.models.generator.Generator`."""

DETECTOR: Final = "restorepix-detector-1"
"""The architecture of :class:`restorepix.models.detector.Detector`."""


def _build_lama(config: Mapping[str, Any]) -> nn.Module:
    from restorepix.models.lama import Lama, LamaConfig

    return Lama(LamaConfig.from_mapping(config))


def _recognise_lama(tensors: Mapping[str, TensorSpec]) -> Mapping[str, Any] | None:
    # One glance at the names, so that torch is imported for a likely file alone.
    if not any(name.endswith("model.1.ffc.convl2l.weight") for name in tensors):
        return None
    from restorepix.models.lama import recognise_lama

    return recognise_lama(tensors)


def _rename_lama(name: str) -> str:
    from restorepix.models.lama import rename_tensor

    return rename_tensor(name)


LAMA: Final = Architecture(
    "lama", "inpainter", _build_lama, _recognise_lama, _rename_lama, float32=True
)
"""LaMa's generator, :mod:`restorepix.models.lama`; weights are the user's to bring."""

SPANDREL: Final = "spandrel"
"""What a file is called that the package spandrel is left to recognise."""

METHOD: Final = Architecture("method", "inpainter", build_method, float32=True, weightless=True)
"""What learns nothing, by its name in :data:`restorepix.models.lab.catalogue.METHODS`. No file can
name it."""

_BUILT_IN: Final = (
    Architecture(TWO_STAGE, "inpainter", _build_two_stage),
    *(Architecture(lab.architecture, "inpainter", lab.build) for lab in LAB_MODELS.values()),
    LAMA,
    Architecture(DETECTOR, "detector", _build_detector),
)


def _adopt_by_spandrel(tensors: dict[str, Tensor]) -> nn.Module:
    from restorepix.models.spandrel import SpandrelInpainter

    return SpandrelInpainter(tensors)


def _build_nothing(config: Mapping[str, Any]) -> nn.Module:
    raise TypeError("spandrel builds networks from tensors alone")


_SPANDREL: Final = Architecture(
    SPANDREL, "inpainter", _build_nothing, adopt=_adopt_by_spandrel, float32=True
)


def list_architectures() -> dict[str, Architecture]:
    """Every architecture by name: the built-in ones, then those of installed plugins.

    Raises:
        WeightsError: a plugin cannot be imported, is no ``Architecture``, or takes a name that is
            taken; the message names its package.
    """
    return dict(_collect())


@cache
def _collect() -> tuple[tuple[str, Architecture], ...]:
    found = _list_built_in()
    for kind, group in ENTRY_POINTS.items():
        for point in entry_points(group=group):
            package = point.dist.name if point.dist is not None else point.value
            try:
                loaded: object = point.load()
            except Exception as error:  # a plugin may fail in any way  # noqa: BLE001
                raise WeightsError(
                    f"{package}: its entry point {group}:{point.name} cannot be imported "
                    f"({type(error).__name__}: {error}). Update or uninstall that package."
                ) from error
            if not isinstance(loaded, Architecture) or loaded.kind != kind:
                raise WeightsError(
                    f"{package}: its entry point {group}:{point.name} must be a restorepix "
                    f"Architecture of the kind {kind}. Update or uninstall that package."
                )
            if loaded.name in found:
                raise WeightsError(
                    f"{package}: it names an architecture {loaded.name!r}, which is there already. "
                    "Uninstall one of the packages that name it."
                )
            found[loaded.name] = loaded
    return tuple(found.items())


def find_architecture(
    path: Path, header: Header, kind: Kind
) -> tuple[Architecture, Mapping[str, Any]]:
    """The architecture and the config of a file, from its header.

    Args:
        path: what to call the file in messages.
        header: its header.
        kind: what it is wanted for.

    Raises:
        WeightsError: nothing here knows it, it is of the other kind, or its config is no table.
    """
    name = header.metadata.get("architecture")
    # Plugins are asked only when nothing built in knows the file: asking imports them.
    for collect in (_list_built_in, list_architectures):
        known = collect()
        if name is not None:
            if name in known:
                return _check_kind(path, known[name], kind), _read_config(path, header)
            continue
        for architecture in known.values():
            shown = architecture.recognise and architecture.recognise(header.tensors)
            if shown is not None:
                return _check_kind(path, architecture, kind), shown
    if name is None and kind == "inpainter" and find_spec("spandrel") is not None:
        return _SPANDREL, {}
    expected = ", ".join(
        repr(one.name) for one in list_architectures().values() if one.kind == kind
    )
    raise WeightsError(
        f"{path}: architecture is {'not named' if name is None else repr(name)}, expected "
        f"{expected}. Choose weights exported for this version of restorepix, or install what "
        "knows them: a plugin, or restorepix[spandrel] for other published inpainters "
        "(docs/weights.md)."
    )


def _list_built_in() -> dict[str, Architecture]:
    return {architecture.name: architecture for architecture in _BUILT_IN}


def _read_config(path: Path, header: Header) -> Mapping[str, Any]:
    try:
        config: object = json.loads(header.metadata.get("config", ""))
    except (ValueError, RecursionError) as error:
        raise WeightsError(
            f"{path}: the header's config is no JSON ({error}). Export the weights again."
        ) from error
    if not isinstance(config, dict):
        raise WeightsError(
            f"{path}: the header's config is no JSON object. Export the weights again."
        )
    return cast("dict[str, Any]", config)


def _check_kind(path: Path, architecture: Architecture, kind: Kind) -> Architecture:
    if architecture.kind != kind:
        raise WeightsError(
            f"{path}: {architecture.name!r} is a {architecture.kind}, expected {_describe(kind)}. "
            "Choose another file."
        )
    return architecture


def _describe(kind: Kind) -> str:
    return "an inpainter" if kind == "inpainter" else "a detector"


def load_network(
    path: Path,
    architecture: Architecture,
    config: Mapping[str, Any],
    tensors: Mapping[str, TensorSpec],
) -> nn.Module:
    """Build a network and load a checked file into it, strictly.

    Args:
        path: the safetensors file; not read for an architecture without weights.
        architecture: as :func:`find_architecture` found it.
        config: likewise.
        tensors: what the header says of its tensors.

    Returns:
        The network in float32 on the CPU, in evaluation mode.

    Raises:
        WeightsError: the config does not fit the architecture, asks for far more memory than the
            file could fill, or tensors are missing, left over, of another shape, or no floats.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file  # pyright: ignore[reportUnknownVariableType]

    if architecture.weightless:
        return architecture.build(config).eval()
    network = None
    if architecture.adopt is None:
        network = _build(path, architecture, config, tensors)
    rename = architecture.rename or str
    try:
        state = {rename(name): tensor for name, tensor in load_file(path).items()}
        if network is None:
            assert architecture.adopt is not None
            return architecture.adopt(state).float().eval()
        for name, target in network.state_dict().items():
            if name in state and state[name].is_floating_point() != target.is_floating_point():
                raise ValueError(
                    f"{name} is {str(state[name].dtype).removeprefix('torch.')}, expected "
                    f"{str(target.dtype).removeprefix('torch.')}"
                )
        network.load_state_dict(state)
    except (SafetensorError, RuntimeError, TypeError, ValueError) as error:
        reason = str(error).strip().splitlines()
        raise WeightsError(
            f"{path}: the tensors do not fit the network ({reason[0]}"
            f"{' ' + reason[1].strip() if len(reason) > 1 else ''}). Choose another file."
        ) from error
    return network.float().eval()


def _build(
    path: Path,
    architecture: Architecture,
    config: Mapping[str, Any],
    tensors: Mapping[str, TensorSpec],
) -> nn.Module:
    from restorepix.models.budget import OverBudgetError, limit_numbers

    budget = 2 * sum(spec.numbers for spec in tensors.values()) + (1 << 20)
    try:
        with limit_numbers(budget):
            return architecture.build(config)
    except (TypeError, ValueError, ArithmeticError) as error:
        raise WeightsError(
            f"{path}: the header's config does not fit {architecture.name} of this version "
            f"({error}). Choose another file."
        ) from error
    except (OverBudgetError, RuntimeError) as error:
        raise WeightsError(
            f"{path}: the header's config describes a network that the file cannot fill "
            f"({error}). Choose another file."
        ) from error
