"""Which INCAR tags the stand-in honours, which it may pass over, and which it must refuse."""

from difflib import get_close_matches

from aiida_e3relax.standin.errors import StandInError
from aiida_e3relax.standin.incar import Incar


def _tags(names: str) -> frozenset[str]:
    return frozenset(names.split())


IONIC = _tags('SYSTEM NSW IBRION ISIF POTIM EDIFFG PSTRESS SMASS LATTICE_CONSTRAINTS NELM')
"""Honoured with every engine."""

ELECTRONIC = _tags(
    'ENCUT EDIFF ISMEAR SIGMA ISPIN MAGMOM ISYM GGA KSPACING KGAMMA LDAU LDAUTYPE LDAUL LDAUU LDAUJ LORBIT'
)
"""Honoured by engines that have electrons; the others name them as without effect."""

PASSED_OVER = _tags(
    """
    PREC ALGO IALGO LREAL NELMIN NELMDL LWAVE LCHARG NPAR NCORE KPAR NSIM LPLANE LSCALU LSCALAPACK
    ISTART INIWAV AMIX BMIX AMIX_MAG BMIX_MAG AMIN MAXMIX IMIX LMAXMIX LASPH ADDGRID NBLOCK KBLOCK NWRITE
    LELF LVTOT LVHAR LAECHG NEDOS EMIN EMAX SYMPREC LDAUPRINT NBANDS ENAUG NGX NGY NGZ NGXF NGYF NGZF ROPT LCORR
    NFREE APACO NPACO LH5
    """
)
"""Numerics, parallelisation and further output files of VASP: accepted, named on stdout, without effect."""

_ACCEPTED: dict[str, frozenset[str]] = {
    **dict.fromkeys(
        _tags(
            'LHFCALC LNONCOLLINEAR LSORBIT LUSE_VDW LVDW LOPTICS LEPSILON LCALCEPS LCALCPOL LRPA LSOL LEFG LDIPOL '
            'LCHIMAG LKPROJ'
        ),
        _tags('F FALSE'),
    ),
    **dict.fromkeys(_tags('IVDW ICORELEVEL IMAGES MDALGO AEXX'), _tags('0 0.0')),
    'METAGGA': _tags('NONE --'),
    'NUPDOWN': _tags('-1 -1.0'),
    'ICHARG': _tags('0 1 2'),
    'ALGO': _tags('N NORMAL V VERYFAST VERY_FAST F FAST A ALL D DAMPED C CONJUGATE E EXACT'),
    'IALGO': _tags('38 44 46 48 53 54 58 68 90'),
}
"""Tags with the values that leave the physics as it is, for instance by switching a feature off; no others pass."""


def without_effect(incar: Incar, electronic: bool) -> list[str]:
    """Return the tags present that do not act on the run.

    Parameters
    ----------
    incar
        The tags.
    electronic
        Whether the engine has electrons.
    """
    inert = PASSED_OVER if electronic else PASSED_OVER | ELECTRONIC
    return sorted(inert & incar.tags.keys())


def check_tags(incar: Incar) -> None:
    """Refuse tags that would change the physics and that no engine implements.

    Raises
    ------
    StandInError
        Names the tag, its value, and what to do.
    """
    known = IONIC | ELECTRONIC | PASSED_OVER
    for tag, value in incar.tags.items():
        if tag in _ACCEPTED and value.strip('. ').upper() not in _ACCEPTED[tag]:
            raise StandInError(f'INCAR: {tag} = {value} is not supported by the stand-in; remove it or use VASP')
        if tag not in known | _ACCEPTED.keys():
            near = get_close_matches(tag, known | _ACCEPTED.keys(), n=1)
            hint = f' (did you mean {near[0]}?)' if near else ''
            raise StandInError(
                f'INCAR: tag {tag} is not known to the stand-in{hint}; correct it, remove it or use VASP'
            )
