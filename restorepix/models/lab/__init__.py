"""The laboratory: the published systems that the default inpainter learned from, written anew.

Each module is one system, small enough to read beside its paper. Every inpainter here is called as
``model(image, mask)`` with an image (B, 3, H, W) in [-1, 1] and a mask (B, 1, H, W), 1 = hole, and
answers with ``Answer``; so ``restorepix.inpaint.Inpainter`` runs each of them over windows of any
photograph. Their losses, critics and schedules are in training/lab; docs/systems.md compares them.
"""
