"""Damaged photographs with exact masks, for the detector: aged first, then damaged.

``sample`` puts one together; ``scratches``, ``text`` and ``watermarks`` paint what is to be found,
``negatives`` what only looks like it, ``ageing`` what is neither.
"""
