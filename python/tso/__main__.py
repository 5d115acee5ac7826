"""`python -m tso` is the console script `tso`."""

import sys

from tso.cli import main

if __name__ == "__main__":
    sys.exit(main())
