"""vasprun.xml, which AiiDA and pymatgen read."""

from xml.sax.saxutils import escape

import numpy as np
from ase.data import atomic_masses, atomic_numbers

from aiida_e3relax.common import fortran
from aiida_e3relax.standin.degrees_of_freedom import KBAR
from aiida_e3relax.standin.engines import Bands, Energies
from aiida_e3relax.standin.incar import Incar
from aiida_e3relax.standin.inputs import Inputs
from aiida_e3relax.standin.kpoints import KPoints
from aiida_e3relax.standin.outputs.run import OutputFile, RunInfo
from aiida_e3relax.standin.outputs.xml import Value, energy, item, structure, varray, vector
from aiida_e3relax.standin.relaxation import Ending, IonicStep

_LISTS = frozenset(['MAGMOM', 'LDAUL', 'LDAUU', 'LDAUJ'])


class VasprunWriter(OutputFile):
    """Writer of vasprun.xml: a ``<calculation>`` per ionic step; bands with the last one."""

    def __init__(self, run: RunInfo):
        super().__init__(run, 'vasprun.xml')
        self._open_calculation = False
        self._last: IonicStep | None = None
        inputs = run.inputs
        self.write(
            '<?xml version="1.0" encoding="UTF-8"?>\n<modeling>\n'
            + _generator(run)
            + ' <incar>\n'
            + ''.join(item(tag, _typed(inputs.incar, tag)) for tag in inputs.incar.tags)
            + ' </incar>\n'
            + _kpoints(run.engine.kpoints)
            + _parameters(run)
            + _atominfo(inputs)
            + structure(inputs.poscar.geometry, 'initialpos', inputs.poscar.movable)
        )

    def electronic_step(self, ionic: int, number: int, energies: Energies, previous: Energies | None) -> None:
        """Write an ``<scstep>``, after the head of a new calculation if it is the first."""
        if number == 1:
            self._close_calculation()
            self.write(' <calculation>\n')
            self._open_calculation = True
        self.write(' <scstep>\n' + energy(energies) + ' </scstep>\n')

    def ionic_step(self, step: IonicStep) -> None:
        """Write geometry, forces (eV/A), stress (kB, VASP's sign) and energies."""
        self._last = step
        self.write(
            structure(step.geometry)
            + varray('forces', step.response.forces)
            + varray('stress', -step.response.stress * KBAR)
            + energy(step.energies[-1])
            + f'  <time name="totalsc">{step.seconds:10.2f}{step.seconds:10.2f}</time>\n'
        )

    def finish(self, ending: Ending) -> None:
        """Write the bands, the final geometry and the end of the document."""
        bands = self.run.engine.bands()
        if bands is not None:
            self.write(_eigenvalues(bands))
        self._close_calculation()
        if self._last is not None:
            self.write(structure(self._last.geometry, 'finalpos'))
        self.write('</modeling>\n')

    def _close_calculation(self) -> None:
        if self._open_calculation:
            self.write(' </calculation>\n')
            self._open_calculation = False


def _generator(run: RunInfo) -> str:
    day, time = run.date.split()
    return (
        ' <generator>\n'
        + item('program', 'vasp')
        + item('version', run.version)
        + item('subversion', run.disclaimer)
        + item('platform', 'stand-in')
        + item('date', day.replace('.', ' '))
        + item('time', time)
        + ' </generator>\n'
    )


def _typed(incar: Incar, tag: str) -> Value:
    """Return a tag's value as the number, logical or list that it looks like, else as text."""
    text = incar.tags[tag]
    if tag in _LISTS:
        return incar.reals(tag)
    if text.strip('.').upper() in ('T', 'F', 'TRUE', 'FALSE'):
        return incar.logical(tag, False)
    try:
        values = [fortran.real(word) for word in text.split()]
    except ValueError:
        return text
    if len(values) > 1:
        return values
    return int(text) if text.strip('+-').isdigit() else values[0]


def _kpoints(kpoints: KPoints) -> str:
    generation = ''
    if kpoints.divisions is not None:
        generation = (
            f'  <generation param="{"Gamma" if kpoints.gamma else "Monkhorst-Pack"}">\n'
            f'   <v type="int" name="divisions">{" ".join(map(str, kpoints.divisions))}</v>\n'
            f'   <v name="usershift">{vector(kpoints.shift)}</v>\n'
            + ''.join(
                f'   <v name="genvec{k + 1}">{vector(np.eye(3)[k] / kpoints.divisions[k])}</v>\n' for k in range(3)
            )
            + f'   <v name="shift">{vector(np.zeros(3))}</v>\n  </generation>\n'
        )
    lists = varray('kpointlist', kpoints.points) + varray('weights', kpoints.weights[:, None])
    return f' <kpoints>\n{generation}{lists} </kpoints>\n'


def _parameters(run: RunInfo) -> str:
    inputs, settings = run.inputs, run.inputs.settings
    values: dict[str, Value] = {
        'PREC': inputs.incar.text('PREC', 'normal'),
        'ENMAX': float(inputs.encut),
        'EDIFF': settings.ediff,
        'NELECT': float(inputs.n_electrons),
        'NBANDS': run.engine.n_bands,
        'ISPIN': run.ispin,
        'NELM': settings.nelm,
        'ISMEAR': settings.ismear,
        'SIGMA': settings.sigma,
        'NSW': settings.nsw,
        'IBRION': settings.ibrion,
        'ISIF': settings.isif,
        'POTIM': settings.potim,
        'PSTRESS': settings.pstress,
        'EDIFFG': settings.ediffg,
        'LORBIT': settings.lorbit,
        'GGA': settings.gga or '--',
        'METAGGA': '--',
        'AEXX': 0.0,
        'HFSCREEN': 0.0,
        'IVDW': 0,
        **dict.fromkeys(('LEPSILON', 'LCALCPOL', 'LCHIMAG', 'LHFCALC', 'LUSE_VDW', 'LNONCOLLINEAR', 'LSORBIT'), False),
        'LDAU': bool(settings.hubbard) and run.engine.electronic,
    }
    if values['LDAU']:
        species = settings.hubbard
        values['LDAUTYPE'] = 2
        values['LDAUL'] = [float(u.angular_momentum) if u else -1.0 for u in species]
        values['LDAUU'] = [u.effective_u if u else 0.0 for u in species]
        values['LDAUJ'] = [0.0] * len(species)
    body = ''.join(item(name, value) for name, value in values.items())
    return f' <parameters>\n  <separator name="general">\n{body}  </separator>\n </parameters>\n'


def _atominfo(inputs: Inputs) -> str:
    poscar = inputs.poscar
    groups = list(zip(poscar.species, poscar.counts, inputs.datasets, strict=True))
    atoms = ''.join(
        f'    <rc><c>{symbol:2s}</c><c>{k:4d}</c></rc>\n' * count
        for k, (symbol, count, _) in enumerate(groups, start=1)
    )
    types = ''.join(
        f'    <rc><c>{count:4d}</c><c>{symbol:2s}</c><c>{atomic_masses[atomic_numbers[symbol]]:16.8f}</c>'
        f'<c>{dataset.zval:16.8f}</c><c>{escape(dataset.title):40s}</c></rc>\n'
        for symbol, count, dataset in groups
    )
    return (
        f' <atominfo>\n  <atoms>{len(poscar.symbols):8d} </atoms>\n  <types>{len(groups):8d} </types>\n'
        '  <array name="atoms">\n   <dimension dim="1">ion</dimension>\n'
        '   <field type="string">element</field>\n   <field type="int">atomtype</field>\n'
        f'   <set>\n{atoms}   </set>\n  </array>\n'
        '  <array name="atomtypes">\n   <dimension dim="1">type</dimension>\n'
        '   <field type="int">atomspertype</field>\n   <field type="string">element</field>\n   <field>mass</field>\n'
        '   <field>valence</field>\n   <field type="string">pseudopotential</field>\n'
        f'   <set>\n{types}   </set>\n  </array>\n </atominfo>\n'
    )


def _eigenvalues(bands: Bands) -> str:
    body = ''
    for spin, (spin_values, spin_occupations) in enumerate(
        zip(bands.eigenvalues, bands.occupations, strict=True), start=1
    ):
        body += f'     <set comment="spin {spin}">\n'
        for k, (values, occupations) in enumerate(zip(spin_values, spin_occupations, strict=True), start=1):
            rows = ''.join(f'       <r>{e:9.4f} {o:9.4f} </r>\n' for e, o in zip(values, occupations, strict=True))
            body += f'      <set comment="kpoint {k}">\n{rows}      </set>\n'
        body += '     </set>\n'
    return (
        '  <eigenvalues>\n   <array>\n    <dimension dim="1">band</dimension>\n'
        '    <dimension dim="2">kpoint</dimension>\n    <dimension dim="3">spin</dimension>\n'
        f'    <field>eigene</field>\n    <field>occ</field>\n    <set>\n{body}    </set>\n'
        '   </array>\n  </eigenvalues>\n'
    )
