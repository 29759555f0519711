"""Image files: headers, decoding, colour, bit depth, and limits against crafted files.

May import ``storage`` and the argument checks; Pillow is imported where a file is decoded.
"""
