"""What the layer sizes of networks have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self, cast


class LayerSizes:
    """Base of the frozen dataclasses that stand in the headers of weights files."""

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Self:
        """The config of a TOML table or JSON object, whose lists become tuples.

        Raises:
            TypeError: a key that is no field.
        """
        fields: dict[str, Any] = {
            key: tuple(cast("list[int]", value)) if isinstance(value, list) else value
            for key, value in values.items()
        }
        return cls(**fields)
