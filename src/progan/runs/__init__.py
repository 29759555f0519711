"""A run directory: its record, its checkpoints, and everything that is restored from it.

May import ``recipe``, ``networks``, ``sampling``, ``schedule`` and ``storage``; knows nothing of training.
"""
