"""What a trained generator is shared as: one file and its card, an ONNX model, a program, a web page, a model on a hub.

May import run directories, sampling, networks, rendering and reports; knows nothing of training.
"""

from progan.export.card import model_card, write_card
from progan.export.hub import pull_from_hub, push_to_hub
from progan.export.one_file import describe, save_generator
from progan.export.onnx_file import OnnxModel, save_onnx
from progan.export.page import WebPage, save_page
from progan.export.program_file import save_program
from progan.runs.generator_file import GeneratorRecord

__all__ = [
    "GeneratorRecord",
    "OnnxModel",
    "WebPage",
    "describe",
    "model_card",
    "pull_from_hub",
    "push_to_hub",
    "save_generator",
    "save_onnx",
    "save_page",
    "save_program",
    "write_card",
]
