"""Judging a set of images: checks, near-duplicates, odd ones out, and whether mirror images belong.

May import ``data.decoding``, the folder listing, ``storage`` and ``render``.
"""
