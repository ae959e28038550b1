"""The network side: crystals in, predicted relaxed crystals out.

Imports torch, never aiida. Runs on the GPU machine as the console script ``e3relax``.
"""
