"""In how many crystals of a training set a vacuum is found, before and after their relaxation.

Usage: `python benchmarks/vacuum.py substitution.npz pnictides.npz`, files that `e3relax data` made. A layer that is
found counts here, be it one with a vacuum, as a monolayer is, or layers that the starting
cell of a hypothetical crystal holds as far apart.
"""

import sys
from collections import Counter

import numpy as np

from aiida_e3relax.crystals.datasets.pairs_file import read_pairs
from aiida_e3relax.crystals.freedom.vacuum import find_gap

NAMES = {0: 'molecules', 1: 'wires', 2: 'layers'}


def main() -> None:
    """Print one row of Markdown for each set and state."""
    print('| data | crystals | ' + ' | '.join(NAMES.values()) + ' | their vacuum (A), 5 %, median, 95 % |')
    print('|---|---|---|---|---|---|')
    for path in sys.argv[1:]:
        pairs = read_pairs(path)
        for state, crystals in (('unrelaxed', pairs.unrelaxed), ('relaxed', pairs.as_filed)):
            found = [gap for index in range(len(crystals)) if (gap := find_gap(crystals.select([index])))]
            counts = Counter(gap.dimension for gap in found)
            widths = [gap.width for gap in found if gap.dimension == 2]
            spread = ', '.join(f'{width:.1f}' for width in np.percentile(widths, [5, 50, 95])) if widths else ''
            row = ' | '.join(str(counts[dimension]) for dimension in NAMES)
            print(f'| {path} {state} | {len(crystals)} | {row} | {spread} |', flush=True)


if __name__ == '__main__':
    main()
