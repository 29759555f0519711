"""Run the command line: ``python -m progan``."""

import sys

from progan.cli.program import main

if __name__ == "__main__":
    sys.exit(main())
