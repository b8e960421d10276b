"""The batch engine: many photographs in hand at a time, none lost, each accounted for once."""

from restorepix.engine.run import InterruptedRunError, run_plan

__all__ = ["InterruptedRunError", "run_plan"]
