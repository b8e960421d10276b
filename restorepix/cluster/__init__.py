"""Where one machine is not enough: the same photographs, books and results on a Ray cluster."""

from restorepix.cluster.run import run_on_ray

__all__ = ["run_on_ray"]
