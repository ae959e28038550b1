"""Relax a layer and a magnetic oxide with real PBE, raw and from the prediction, and print the ledgers.

    aiida-e3relax setup --engine gpaw
    verdi run benchmarks/real_pbe.py mos2 nio --folder ledgers

Needs GPAW (`pip install '.[dft]'`), which computes behind the VASP stand-in: some minutes of a core each. Both legs
of a crystal wait for each other, so that they have the core for themselves. What `aiida-e3relax show` prints goes to
FOLDER/NAME.txt, with the vacuum vector of the layer and the moments of the oxide at the end of each leg under it.
`--pre-relaxer sevennet-mf-0` takes that in the network's place. With `--second-opinion-steps N` CHGNet takes N steps
from the prediction, and with `--raw-leg-of` the raw leg of an earlier chain is compared.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from aiida import orm
from aiida.engine import run_get_node
from ase.build import mx2
from rich.console import Console

from aiida_e3relax.campaign.results.trajectories import read_trajectories
from aiida_e3relax.cli.resources import NETWORK_CODE, STANDIN_CODE, STANDIN_FAMILY
from aiida_e3relax.cli.trajectory import format_trajectories
from aiida_e3relax.common.mappings import merge
from aiida_e3relax.workflows.comparison.text import format_chain
from aiida_e3relax.workflows.vasp.chain import E3RelaxVaspWorkChain
from aiida_e3relax.workflows.vasp.messages import LEG_NAMES

VACUUM_TOLERANCE = 1e-6  # A


@dataclasses.dataclass(frozen=True)
class Case:
    """A raw crystal, the protocol of its relaxation, and inputs over it."""

    structure: orm.StructureData
    protocol: str
    overrides: Mapping[str, Any]


def mos2() -> Case:
    """Monolayer of 2H-MoS2, 2 % too wide (PBE: 3.18 A), one S pulled out by 0.1 A."""
    atoms = mx2('MoS2', kind='2H', a=1.02 * 3.18, thickness=3.13, vacuum=6.0)
    atoms.cell[2] = [0, 0, 15]
    atoms.positions[2, 2] += 0.1
    atoms.pbc = (True, True, False)
    return Case(orm.StructureData(ase=atoms), 'e3relax-2d', {})


def nio() -> Case:
    """Antiferromagnetic NiO, planes along [111], its O off their sites by 0.15 A; PBE + U.

    Atoms move, the cell stays, so that 400 eV and few k-points do: the stress of oxides needs twice as much.
    """
    cell = 4.19 * np.array([[1, 0.5, 0.5], [0.5, 1, 0.5], [0.5, 0.5, 1]])
    diagonal = cell.sum(axis=0)
    shift = 0.15 / np.linalg.norm(diagonal)
    structure = orm.StructureData(cell=cell)
    for name, height in (('Ni1', 0.0), ('Ni2', 0.5), ('O', 0.25 + shift), ('O', 0.75 - shift)):
        structure.append_atom(position=height * diagonal, symbols=name.rstrip('12'), name=name)
    vasp = {
        'kpoints': [3, 3, 3],
        'magmom_mapping': {'Ni1': 2.0, 'Ni2': -2.0, 'O': 0.0},
        'ldau_mapping': {'mapping': {'Ni': ['d', 6.2]}},
        'parameters': {'incar': {'lorbit': 11}},
    }
    return Case(structure, 'fast', {'freedom': 'positions', 'vasp': {'vasp': vasp}})


CASES = {case.__name__: case for case in (mos2, nio)}


def main() -> None:
    """Relax what the command line names, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('names', nargs='+', choices=CASES, metavar='|'.join(CASES))
    parser.add_argument('--folder', type=Path, default=Path('ledgers'), help='Where the ledgers go.')
    parser.add_argument('--pre-relaxer', default='network', help='(default: %(default)s)')
    parser.add_argument('--second-opinion-steps', type=int, metavar='N', help='Steps of CHGNet from the prediction.')
    parser.add_argument('--raw-leg-of', metavar='PK', help='An earlier chain of the same crystal.')
    arguments = parser.parse_args()
    more: dict[str, Any] = {'reference_leg': 'always'}
    if arguments.second_opinion_steps is not None:
        opinion = {'second_opinion': 'chgnet', 'second_opinion_steps': arguments.second_opinion_steps}
        more['network'] = {'predict': {'parameters': opinion}}
    if arguments.raw_leg_of:
        more['reference_leg'] = orm.load_node(arguments.raw_leg_of).uuid
    arguments.folder.mkdir(parents=True, exist_ok=True)
    for name in arguments.names:
        case = CASES[name]()
        case = dataclasses.replace(case, overrides=merge(case.overrides, more))
        chain = relax(case, arguments.pre_relaxer, arguments.folder.resolve() / '.one-at-a-time')
        with (arguments.folder / f'{name}.txt').open('w', encoding='utf-8') as file:
            for console in (Console(), Console(file=file, width=120)):
                report(chain, console)


def relax(case: Case, pre_relaxer: str, lock: Path) -> orm.WorkChainNode:
    """Run the chain, jobs of VASP one at a time by a lock on that file, and return its node."""
    in_turn = {'prepend_text': f'exec 9>{lock}\nflock 9'}
    builder = E3RelaxVaspWorkChain.get_builder_from_protocol(
        case.structure,
        f'{STANDIN_CODE.format(engine="gpaw")}@localhost',
        f'{NETWORK_CODE}@localhost',
        potential_family=STANDIN_FAMILY,
        protocol=case.protocol,
        pre_relaxer=pre_relaxer,
        overrides=case.overrides,
        options={'resources': {'num_machines': 1, 'num_mpiprocs_per_machine': 1}, **in_turn},
    )
    return run_get_node(builder).node


def report(chain: orm.WorkChainNode, console: Console) -> None:
    """Print the ledger, the trajectory of both legs, and what the chain had to keep."""
    console.print(f'{datetime.date.today()}, chain {chain.uuid}')
    console.print(format_chain(chain))
    console.print(format_trajectories(read_trajectories(chain)))
    raw = chain.inputs.structure
    for leg, name in LEG_NAMES.items():
        if leg not in chain.outputs:
            continue
        outputs = chain.outputs[leg]
        if not raw.pbc[2]:
            change = np.abs(np.array(outputs.structure.cell[2]) - raw.cell[2]).max()
            kept = 'kept' if change <= VACUUM_TOLERANCE else 'NOT kept'
            console.print(f'From {name}: the vacuum vector changed by {change:.1e} A, {kept}')
        moments = outputs.misc.get_dict().get('site_magnetization', {}).get('sphere', {}).get('x', {})
        for site, moment in moments.get('site_moment', {}).items():
            kind = outputs.structure.sites[int(site) - 1].kind_name
            console.print(f'From {name}: site {site}, {kind}: {moment["tot"]:+.3f} Bohr magnetons')


if __name__ == '__main__':
    main()
