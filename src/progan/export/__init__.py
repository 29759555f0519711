"""What a trained generator is shared as: one file, a card that describes it, an ONNX model, a web page.

May import run directories, sampling, networks, rendering and reports; knows nothing of training.
"""

from progan.export.card import model_card, write_card
from progan.export.one_file import describe, save_generator
from progan.export.onnx_file import OnnxModel, save_onnx
from progan.export.page import WebPage, save_page
from progan.runs.generator_file import GeneratorRecord

__all__ = [
    "GeneratorRecord",
    "OnnxModel",
    "WebPage",
    "describe",
    "model_card",
    "save_generator",
    "save_onnx",
    "save_page",
    "write_card",
]
