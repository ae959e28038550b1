"""Relax a crystal with VASP from where the network predicts it to relax, and see what that saved.

Run it with `verdi run workflows/relax_workchain.py STRUCTURE`, in a profile prepared by `aiida-e3relax setup`.
It is the command `aiida-e3relax relax`; its own help is `verdi run -- workflows/relax_workchain.py --help`.
"""

from aiida_e3relax.cli.relax import relax

if __name__ == '__main__':
    relax()
