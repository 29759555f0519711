"""Bytes on disk: atomic writes, tensors in the safetensors layout, and files that strangers may have written.

Imports nothing of progan but the argument checks.
"""
