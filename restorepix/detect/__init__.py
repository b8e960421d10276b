"""Seeing the damage: from a photograph to the mask of what is to be repainted.

``scan`` runs the network over a picture of any size, ``findings`` turns its maps into pieces of
damage, ``pages`` recognises what is no photograph, ``infrared`` reads the dust channel of film
scans, and ``repair`` hands it all to the pipeline.
"""

import sys
from types import ModuleType
from typing import Any


class _CallableModule(ModuleType):
    """``restorepix.detect`` is this package and the public function of that name in one."""

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Return where a picture is damaged; see :func:`restorepix.api.detect`."""
        from restorepix.api import detect

        return detect(*arguments, **options)


sys.modules[__name__].__class__ = _CallableModule
