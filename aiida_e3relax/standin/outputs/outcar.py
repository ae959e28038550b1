"""OUTCAR: the long log, from which AiiDA takes ionic and electronic steps and run times."""

import os
import resource
import time

import numpy as np

from aiida_e3relax.standin.degrees_of_freedom import KBAR
from aiida_e3relax.standin.engines import Bands, Energies
from aiida_e3relax.standin.outputs.columns import columns
from aiida_e3relax.standin.outputs.run import OutputFile, RunInfo
from aiida_e3relax.standin.relaxation import Ending, IonicStep

_RULE = ' ' + '-' * 83 + '\n'


class Outcar(OutputFile):
    """Writer of OUTCAR."""

    def __init__(self, run: RunInfo):
        super().__init__(run, 'OUTCAR')
        self.write(_head(run) + _settings(run) + _kpoints(run))

    def electronic_step(self, ionic: int, number: int, energies: Energies, previous: Energies | None) -> None:
        """Write an electronic iteration with its energies."""
        self.write(
            f'\n{"-" * 39} Iteration {ionic:6d}({number:4d})  {"-" * 39}\n\n'
            f'  free energy    TOTEN  = {energies.free:18.8f} eV\n\n'
            f'  energy without entropy = {energies.without_entropy:18.8f}'
            f'  energy(sigma->0) = {energies.extrapolated:18.8f}\n'
        )

    def ionic_step(self, step: IonicStep) -> None:
        """Write stress, lattice, positions, forces and energies."""
        moment = step.response.magnetisation
        if moment is not None:
            electrons = self.run.inputs.n_electrons
            self.write(f'\n number of electron {electrons:15.7f} magnetization {moment:15.7f}\n')
        if step.response.moments is not None and self.run.inputs.settings.lorbit >= 10:
            self.write(_moments(step.response.moments))
        self.write(self._stress(step) + _lattice(self.run.inputs.encut, step) + _forces(step) + self._energies(step))

    def finish(self, ending: Ending) -> None:
        """Write the bands, why the run ended, and the times by which AiiDA knows that it did."""
        bands = self.run.engine.bands()
        if bands is not None:
            self.write(_bands(bands, self.run.engine.kpoints.points))
        self.write(f'\n {ending.value}\n')
        used = resource.getrusage(resource.RUSAGE_SELF)
        self.write(
            '\n\n General timing and accounting informations for this job:\n'
            ' ========================================================\n\n'
            f'                  Total CPU time used (sec): {used.ru_utime + used.ru_stime:12.3f}\n'
            f'                            User time (sec): {used.ru_utime:12.3f}\n'
            f'                          System time (sec): {used.ru_stime:12.3f}\n'
            f'                         Elapsed time (sec): {time.time() - self.run.begin:12.3f}\n\n'
            f'                   Maximum memory used (kb): {used.ru_maxrss:12d}.\n'
            '                   Average memory used (kb):          N/A\n\n'
            f'                          Minor page faults: {used.ru_minflt:12d}\n'
            f'                          Major page faults: {used.ru_majflt:12d}\n'
            f'                 Voluntary context switches: {used.ru_nvcsw:12d}\n'
        )

    def _stress(self, step: IonicStep) -> str:
        stress = -step.response.stress  # VASP's sign: positive under compression
        components = stress[[0, 1, 2, 0, 1, 2], [0, 1, 2, 1, 2, 0]]
        pstress = self.run.inputs.settings.pstress
        return (
            '\n  FORCE on cell =-STRESS in cart. coord.  units (eV):\n'
            '  Direction    XX          YY          ZZ          XY          YZ          ZX\n'
            f'{_RULE}'
            '  Total ' + columns(components * step.geometry.volume, '12.5f') + '\n'
            '  in kB ' + columns(components * KBAR, '12.5f') + '\n'
            f'  external pressure = {np.trace(stress) / 3 * KBAR - pstress:11.2f} kB'
            f'  Pullay stress = {pstress:11.2f} kB\n\n'
        )

    def _energies(self, step: IonicStep) -> str:
        energies, pstress = step.energies[-1], self.run.inputs.settings.pstress
        work = pstress / KBAR * step.geometry.volume
        enthalpy = (
            f'  enthalpy is  TOTEN    = {energies.free + work:18.8f} eV   P V= {work:18.8f}\n\n' if pstress else ''
        )
        return (
            '  FREE ENERGIE OF THE ION-ELECTRON SYSTEM (eV)\n  ---------------------------------------------------\n'
            f'  free  energy   TOTEN  = {energies.free:18.8f} eV\n\n'
            f'  energy  without entropy= {energies.without_entropy:18.8f}'
            f'  energy(sigma->0) = {energies.extrapolated:18.8f}\n{enthalpy if pstress else ""}\n\n'
            f'     LOOP+:  cpu time {step.seconds:10.4f}: real time {step.seconds:10.4f}\n'
        )


def _head(run: RunInfo) -> str:
    inputs = run.inputs
    tags = ''.join(f'   {tag} = {value}\n' for tag, value in inputs.incar.tags.items())
    titles = ''.join(f' POTCAR:    {dataset.title}\n' for dataset in inputs.datasets)
    headers = ''.join(
        f'   VRHFIN ={dataset.element}: stand-in\n   LEXCH  = {dataset.lexch}\n   TITEL  = {dataset.title}\n'
        for dataset in inputs.datasets
    )
    return (
        f' vasp.{run.version}\n {run.disclaimer}\n'
        f' executed on             stand-in date {run.date}\n running on {_n_threads():4d} total cores\n\n\n'
        f' INCAR:\n{tags}\n{titles}{headers}\n\n'
    )


def _n_threads() -> int:
    """Return how many threads OMP_NUM_THREADS gives this process: as many as there are cores if it is no number."""
    value = os.environ.get('OMP_NUM_THREADS', '').split(',')[0].strip()  # the others are for nested regions
    return int(value) if value.isdecimal() and int(value) > 0 else os.cpu_count() or 1


def _settings(run: RunInfo) -> str:
    inputs, settings, engine = run.inputs, run.inputs.settings, run.engine
    return (
        ' Dimension of arrays:\n'
        f'   k-points           NKPTS = {len(engine.kpoints.points):6d}'
        f'   k-points in BZ     NKDIM = {len(engine.kpoints.points):6d}'
        f'   number of bands    NBANDS= {engine.n_bands:6d}\n'
        f'   number of dos      NEDOS = {0:6d}   number of ions     NIONS = {len(inputs.poscar.symbols):6d}\n'
        f'   total plane-waves  NPLWV = {0:6d}\n'
        '   ions per type =             ' + ''.join(f'{count:4d}' for count in inputs.poscar.counts) + '\n\n'
        f'   ENCUT  = {inputs.encut:7.1f} eV\n'
        f'   ISPIN  = {run.ispin:6d}    spin polarized calculation?\n'
        f'   NELM   = {settings.nelm:6d};   NELMIN=  1; NELMDL=  0     # of ELM steps\n'
        f'   EDIFF  = {settings.ediff:.1E}   stopping-criterion for ELM\n'
        f'   EDIFFG = {settings.ediffg:.1E}   stopping-criterion for IOM\n'
        f'   NSW    = {settings.nsw:6d}    number of steps for IOM\n'
        f'   IBRION = {settings.ibrion:6d}    ionic relax: 0-MD 1-quasi-New 2-CG\n'
        f'   ISIF   = {settings.isif:6d}    stress and relaxation\n'
        f'   POTIM  = {settings.potim:.4f}    time-step for ionic-motion\n'
        f'   PSTRESS= {settings.pstress:6.1f} pullay stress\n'
        f'   NELECT = {inputs.n_electrons:12.4f}    total number of electrons\n\n\n'
    )


def _kpoints(run: RunInfo) -> str:
    kpoints = run.engine.kpoints
    lines = ''.join(
        '  ' + columns(point, '12.8f') + f'{weight:12.3f}\n'
        for point, weight in zip(kpoints.points, kpoints.weights, strict=True)
    )
    return f' k-points in reciprocal lattice and weights: stand-in\n{lines}\n\n'


def _lattice(encut: float, step: IonicStep) -> str:
    geometry = step.geometry
    rows = ''.join(
        ' ' + columns(direct, '13.9f') + ' ' + columns(reciprocal, '13.9f') + '\n'
        for direct, reciprocal in zip(geometry.cell, geometry.reciprocal, strict=True)
    )
    lengths = columns(np.linalg.norm(geometry.cell, axis=1), '13.9f')
    return (
        f' VOLUME and BASIS-vectors are now :\n{_RULE}  energy-cutoff  : {encut:11.2f}\n'
        f'  volume of cell : {geometry.volume:11.2f}\n'
        f'      direct lattice vectors                 reciprocal lattice vectors\n{rows}\n'
        f'  length of vectors\n {lengths}\n\n\n'
    )


def _moments(moments: np.ndarray) -> str:
    """Return the table of the sites' moments by angular momentum."""
    table = np.column_stack([moments, moments.sum(axis=1)])
    header = ''.join(f'{name:>10}' for name in [*'spdf'[: moments.shape[1]], 'tot'])
    rows = ''.join(f'{site:5d}   {columns(row, "10.3f")}\n' for site, row in enumerate(table, start=1))
    rule = '-' * (8 + 10 * table.shape[1])
    total = columns(table.sum(axis=0), '10.3f')
    return f'\n magnetization (x)\n\n# of ion{header}\n{rule}\n{rows}{rule}\ntot     {total}\n\n\n'


def _forces(step: IonicStep) -> str:
    rows = ''.join(
        ' ' + columns(position, '13.5f') + ' ' + columns(force, '14.6f') + '\n'
        for position, force in zip(step.geometry.positions, step.response.forces, strict=True)
    )
    drift = columns(step.response.drift, '14.6f')
    return (
        f' POSITION                                       TOTAL-FORCE (eV/Angst)\n{_RULE}{rows}{_RULE}'
        f'    total drift:                          {drift}\n\n\n'
    )


def _bands(bands: Bands, points: np.ndarray) -> str:
    text = f'\n E-fermi : {bands.fermi_level:8.4f}     XC(G=0): {0:8.4f}     alpha+bet : {0:8.4f}\n\n'
    degeneracy = 2.0 / len(bands.eigenvalues)
    for spin, (values, occupations) in enumerate(zip(bands.eigenvalues, bands.occupations, strict=True), start=1):
        if len(bands.eigenvalues) == 2:
            text += f' spin component {spin}\n\n'
        for k, point in enumerate(points):
            text += f' k-point {k + 1:5d} :   ' + columns(point, '10.4f')
            text += '\n  band No.  band energies     occupation\n'
            for band, (value, occupation) in enumerate(zip(values[k], occupations[k], strict=True), start=1):
                text += f'  {band:5d}  {value:11.4f}  {occupation * degeneracy:11.5f}\n'
            text += '\n'
    return text
