"""The network side: crystals in, predicted relaxed crystals out.

Imports torch, never aiida. Runs on the GPU machine as the console script ``e3relax``.
"""

import os

# oneDNN and what calls it keep a compiled kernel for every shape that they meet, a thousand each, some 100 kB a kernel;
# a stream of batches meets new shapes all the time. Both are read when torch is loaded, hence here.
os.environ.setdefault('ONEDNN_PRIMITIVE_CACHE_CAPACITY', '64')
os.environ.setdefault('LRU_CACHE_CAPACITY', '64')
