"""``python -m aiida_e3relax.gnn.cli`` is ``e3relax``."""

import sys

from aiida_e3relax.gnn.cli import main

if __name__ == '__main__':
    sys.exit(main())
