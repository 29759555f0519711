"""The command line ``progan``, thin over public names. May import everything; no other room imports it.

Each command is a module with `HELP`, `EXAMPLE`, `add_options` and `run`. None of them imports torch before it runs, so
that help and errors in the options are printed at once. The example's programs share what has no underscore.
"""
