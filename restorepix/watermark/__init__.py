"""Overlays that repeat: found over a folder, estimated, and taken off instead of painted over."""
