"""Tensor operations, each with a plain reference and, where they pay, faster paths.

Every operation can be differentiated any number of times, as a gradient penalty asks for. Imports nothing of progan but
the argument checks.
"""
