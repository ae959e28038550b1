"""A check for what the stand-in of VASP cannot do, made before a job is submitted."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from aiida import orm

from aiida_e3relax.standin import ENGINE_VARIABLE
from aiida_e3relax.standin.engines import check_elements
from aiida_e3relax.standin.errors import StandInError
from aiida_e3relax.standin.incar import Incar
from aiida_e3relax.standin.tags import check_tags
from aiida_e3relax.workflows.vasp.inputs.incar import incar_tags, write_tags

EXECUTABLE = 'e3relax-vasp-standin'
CHOICE = re.compile(rf'\b{ENGINE_VARIABLE}=["\']?(\w+)')


def find_engine(vasp: Mapping[str, Any]) -> str | None:
    """Return the engine that the inputs of `vasp.v2.vasp` choose; None for VASP itself and where it is not certain."""
    code = vasp.get('code')
    if not isinstance(code, orm.InstalledCode) or code.filepath_executable.name != EXECUTABLE:
        return None
    options = vasp.get('calc', {}).get('metadata', {}).get('options', {})
    texts = (code.prepend_text, options.get('prepend_text', ''), str(options.get('environment_variables', '')))
    engines = CHOICE.findall(code.prepend_text)
    return engines[0] if sum(text.count(ENGINE_VARIABLE) for text in texts) == len(engines) == 1 else None


def find_stand_in_fault(vasp: Mapping[str, Any], structure: orm.StructureData) -> str | None:
    """Return which element or INCAR tag the stand-in does not know, None where it does or is not in use."""
    engine = find_engine(vasp)
    if engine is None:
        return None
    symbols = {kind.name: kind.symbol for kind in structure.kinds}
    try:
        check_elements(engine, [symbols[site.kind_name] for site in structure.sites])
        check_tags(Incar(write_tags(incar_tags(vasp['parameters']))))
    except StandInError as error:
        return f'{vasp["code"].full_label} is the stand-in of VASP: {error}'
    return None
