"""Tensor operations, each with a plain reference and, where they pay, faster paths.

Per operation there is one module: a public function, its reference in plain torch, and its paths beside it.
``dispatch`` is the one table that says which path is used where. Every operation can be differentiated any number of
times, as a gradient penalty asks for. Imports nothing of progan but the argument checks.
"""
