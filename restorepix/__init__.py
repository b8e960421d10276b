"""Batch restoration of photographs: repaint what a mask marks and change nothing else."""

__version__ = "0.1.0"
