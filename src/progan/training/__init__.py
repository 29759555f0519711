"""Training: the step, the state that it changes, planning, callbacks, and the trainer that puts them together.

May import every room but those that judge and report. Only the package's public face imports the trainer.
"""
