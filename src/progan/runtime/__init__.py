"""The machine: device and precision, memory, streams, several processes, signals, busy cores, progress bars.

May import ``ops`` and ``storage``; knows nothing of networks or runs.
"""
