"""Folders of VASP relaxations: first and last ionic step of ``vasprun.xml``, else POSCAR and CONTCAR."""

from __future__ import annotations

import warnings
from functools import partial
from pathlib import Path

from aiida_e3relax.gnn.data.sources.base import Candidate, Sites, Source, SourceOptions, sites_of_structure

_VASPRUNS = ('vasprun.xml', 'vasprun.xml.gz')


def recognises(path: Path) -> bool:
    """Return whether a VASP run lies in or below the folder `path`."""
    return path.is_dir() and next(_runs(path), None) is not None


def open_source(path: Path, options: SourceOptions) -> Source:
    """Return one candidate for each folder with a run."""
    candidates = []
    for run in sorted(_runs(path)):
        label = str(run.relative_to(path)) if run != path else path.resolve().name
        candidates.append(Candidate(label, '', partial(_load, run)))
    return Source('vasp', str(path), path.resolve().name, candidates)


def _runs(path: Path):
    """Yield the folders that hold a run, once each."""
    for folder in (path, *(p for p in path.rglob('*') if p.is_dir())):
        names = {p.name for p in folder.iterdir()}
        if not names.isdisjoint(_VASPRUNS) or {'POSCAR', 'CONTCAR'} <= names:
            yield folder


def _load(run: Path) -> tuple[Sites, Sites]:
    vasprun = next((run / name for name in _VASPRUNS if (run / name).is_file()), None)
    return _first_and_last_step(vasprun) if vasprun else _poscar_and_contcar(run)


def _first_and_last_step(vasprun: Path) -> tuple[Sites, Sites]:
    from pymatgen.io.vasp.outputs import Vasprun

    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # missing POTCARs and unconverged cycles; what matters is looked at below
        run = Vasprun(vasprun, parse_dos=False, parse_eigen=False, parse_potcar_file=False, exception_on_bad_xml=False)
    steps = run.ionic_steps
    if len(steps) < 2:
        raise ValueError(f'{vasprun.name} has {len(steps)} ionic steps: nothing was relaxed')
    if not run.converged_ionic:
        raise ValueError(f'the relaxation did not converge in {len(steps)} ionic steps')
    return sites_of_structure(steps[0]['structure']), sites_of_structure(steps[-1]['structure'])


def _poscar_and_contcar(run: Path) -> tuple[Sites, Sites]:
    from pymatgen.io.vasp.inputs import Poscar

    before, after = (
        sites_of_structure(Poscar.from_file(run / name, check_for_potcar=False).structure)
        for name in ('POSCAR', 'CONTCAR')
    )
    return before, after
