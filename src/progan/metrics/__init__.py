"""Measures of generated pictures against real ones, made for sets of a few hundred images.

Each measure goes from features to statistics to a number, in three small functions. May import operations, randomness
and the argument checks.
"""
