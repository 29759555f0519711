"""Augmentations: photometric and geometric changes to images before the critic sees them.

An augmentation draws nothing itself; its random numbers are arguments. Imports nothing of progan but the argument
checks.
"""
