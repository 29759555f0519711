"""Objectives (functions of scores) and regularisers (functions of the critic).

A loss takes scores, or a callable ``critic: images -> scores``; level, alpha, devices and augmentation never appear in
its signature. Imports nothing of progan but the argument checks.
"""
