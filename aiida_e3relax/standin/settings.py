"""What an INCAR asks for, as typed and checked values."""

from dataclasses import dataclass
from typing import NamedTuple

from aiida_e3relax.standin.errors import StandInError
from aiida_e3relax.standin.incar import Incar
from aiida_e3relax.standin.tags import check_tags


class Degrees(NamedTuple):
    """Which degrees of freedom an ISIF value releases."""

    positions: bool
    shape: bool
    volume: bool


ISIF = {
    0: Degrees(True, False, False),
    1: Degrees(True, False, False),
    2: Degrees(True, False, False),
    3: Degrees(True, True, True),
    4: Degrees(True, True, False),
    5: Degrees(False, True, False),
    6: Degrees(False, True, True),
    7: Degrees(False, False, True),
    8: Degrees(True, False, True),
}


@dataclass(frozen=True)
class HubbardU:
    """Dudarev's correction for one species of the POSCAR: angular momentum and U - J in eV."""

    angular_momentum: int
    effective_u: float


@dataclass(frozen=True)
class Settings:
    """Settings of a run; field names are those of the INCAR tags, in lower case.

    Energies in eV, ``pstress`` in kB. ``encut`` and ``gga`` are None where the POTCAR decides, ``magmom`` where every
    site starts with 1 bohr magneton. ``smass`` is None, as where SMASS is negative, for a velocity quench with
    IBRION = 3. ``released_axes`` says
    for x, y, z whether the lattice may change along it (LATTICE_CONSTRAINTS). ``hubbard`` has one entry per species.
    """

    nsw: int
    ibrion: int
    isif: int
    potim: float
    smass: float | None
    ediff: float
    ediffg: float
    nelm: int
    pstress: float
    released_axes: tuple[bool, bool, bool]
    encut: float | None
    ismear: int
    sigma: float
    ispin: int
    magmom: tuple[float, ...] | None
    isym: int
    gga: str | None
    hubbard: tuple[HubbardU | None, ...]
    lorbit: int

    @classmethod
    def from_incar(cls, incar: Incar) -> 'Settings':
        """Read the settings with VASP's defaults.

        Raises
        ------
        StandInError
            If a tag is not supported or a value is out of range.
        """
        check_tags(incar)
        nsw = incar.integer('NSW', 0)
        ediff = incar.real('EDIFF', 1e-4)
        settings = cls(
            nsw=nsw,
            ibrion=incar.integer('IBRION', -1 if nsw <= 0 else 0),
            isif=incar.integer('ISIF', 2),
            potim=incar.real('POTIM', 0.5),
            smass=incar.real('SMASS', 0.0) if incar.real('SMASS', -1.0) >= 0 else None,
            ediff=ediff,
            ediffg=incar.real('EDIFFG', 10 * ediff),
            nelm=incar.integer('NELM', 60),
            pstress=incar.real('PSTRESS', 0.0),
            released_axes=_released_axes(incar),
            encut=incar.real('ENCUT', 0.0) if 'ENCUT' in incar else None,
            ismear=incar.integer('ISMEAR', 1),
            sigma=incar.real('SIGMA', 0.2),
            ispin=incar.integer('ISPIN', 1),
            magmom=tuple(incar.reals('MAGMOM')) if 'MAGMOM' in incar else None,
            isym=incar.integer('ISYM', 2),
            gga=incar.text('GGA', '').upper() or None,
            hubbard=_hubbard(incar),
            lorbit=incar.integer('LORBIT', 0),
        )
        settings._check()
        return settings

    @property
    def static(self) -> bool:
        """Whether the atoms stay where they are: IBRION = -1 or no ionic steps."""
        return self.ibrion < 0 or self.nsw <= 0

    def _check(self) -> None:
        for name, value, allowed in (
            ('IBRION', self.ibrion, (-1, 1, 2, 3)),
            ('ISIF', self.isif, tuple(ISIF)),
            ('ISPIN', self.ispin, (1, 2)),
        ):
            if value not in allowed:
                note = ", VASP's default when NSW > 0" if (name, value) == ('IBRION', 0) else ''
                raise StandInError(
                    f'INCAR: {name} must be one of {", ".join(map(str, allowed))} for the stand-in, '
                    f'found {value}{note}; set {name}'
                )
        for name, number in (('POTIM', self.potim), ('EDIFF', self.ediff), ('NELM', self.nelm), ('SIGMA', self.sigma)):
            if number <= 0:
                raise StandInError(f'INCAR: {name} must be positive, found {number}; correct it')
        if self.encut is not None and self.encut <= 0:
            raise StandInError(f'INCAR: ENCUT must be positive, found {self.encut}; correct it')


def _released_axes(incar: Incar) -> tuple[bool, bool, bool]:
    if 'LATTICE_CONSTRAINTS' not in incar:
        return (True, True, True)
    values = incar.logicals('LATTICE_CONSTRAINTS')
    if len(values) != 3:
        raise StandInError(f'INCAR: LATTICE_CONSTRAINTS needs three logicals, found {len(values)}; give x, y and z')
    return (values[0], values[1], values[2])


def _hubbard(incar: Incar) -> tuple[HubbardU | None, ...]:
    if not incar.logical('LDAU', False):
        return ()
    if incar.integer('LDAUTYPE', 2) != 2:
        raise StandInError(f'INCAR: LDAUTYPE must be 2 (Dudarev), found {incar.text("LDAUTYPE", "")}; set LDAUTYPE = 2')
    missing = [tag for tag in ('LDAUL', 'LDAUU') if tag not in incar]
    if missing:
        raise StandInError(f'INCAR: LDAU = .TRUE. needs {" and ".join(missing)}, one value per species; add them')
    angular_momenta, u_values = incar.integers('LDAUL'), incar.reals('LDAUU')
    j_values = incar.reals('LDAUJ') if 'LDAUJ' in incar else [0.0] * len(u_values)
    if not len(angular_momenta) == len(u_values) == len(j_values):
        raise StandInError('INCAR: LDAUL, LDAUU and LDAUJ differ in length; give one value per species in each')
    if not all(-1 <= angular_momentum <= 3 for angular_momentum in angular_momenta):
        raise StandInError(f'INCAR: LDAUL must be -1, 0, 1, 2 or 3, found {incar.text("LDAUL", "")}; correct it')
    return tuple(
        HubbardU(angular_momentum, u - j) if angular_momentum >= 0 and u != j else None
        for angular_momentum, u, j in zip(angular_momenta, u_values, j_values, strict=True)
    )
