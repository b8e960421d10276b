"""A limit on the numbers that a network's constructor may allocate.

The config in a weights file decides how large the network is. A hostile one could ask for more
memory than the machine has, long before the tensors are compared with the file.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch.overrides import TorchFunctionMode

_SIZED: frozenset[object] = frozenset(
    {torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn}
)
"""Functions whose first arguments are the sizes of what they make."""


class OverBudgetError(Exception):
    """A network wants more numbers than its weights file could hold."""


class _Counting(TorchFunctionMode):
    def __init__(self, budget: int) -> None:
        super().__init__()
        self.left = budget

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        options = dict(kwargs or {})
        if func in _SIZED:
            first: Any = options.get("size", args[0] if args else 0)
            numbers = cast(
                "Sequence[Any]", first if isinstance(first, (list, tuple, torch.Size)) else args
            )
            self.left -= math.prod(size for size in numbers if isinstance(size, int))
            if self.left < 0:
                raise OverBudgetError("it is far larger than the file")
        return func(*args, **options)


@contextmanager
def limit_numbers(budget: int) -> Generator[None]:
    """Let the block allocate at most ``budget`` numbers in new tensors of given sizes.

    Raises:
        OverBudgetError: it wants more; raised before they are allocated.
    """
    with _Counting(budget):
        yield
