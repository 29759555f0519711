"""What a trained generator is shared as: one file, and a card that describes it.

May import run directories, sampling, networks, rendering and reports; knows nothing of training.
"""

from progan.export.card import model_card, write_card
from progan.export.one_file import describe, save_generator
from progan.runs.generator_file import GeneratorRecord

__all__ = ["GeneratorRecord", "describe", "model_card", "save_generator", "write_card"]
