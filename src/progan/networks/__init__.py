"""The two networks and what they are built from: layers, blocks, the architecture that shapes both.

Mathematics only: which kernel computes an operation is decided in ``progan.ops``. May import ``ops``, ``randomness``
and the argument checks.
"""
