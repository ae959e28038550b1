"""The energy of a crystal as it is: one static VASP run, with the inputs that the chain has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiida import orm
from aiida.engine import ExitCode, ToContext, WorkChain
from aiida.engine.processes.workchains.workchain import WorkChainSpec

from aiida_e3relax.calculations.batches import take_structure
from aiida_e3relax.common.mappings import merge
from aiida_e3relax.data.batch import StructureBatchData
from aiida_e3relax.workflows.vasp.inputs.incar import STATIC_TAGS
from aiida_e3relax.workflows.vasp.inputs.legs import set_monitors, set_species
from aiida_e3relax.workflows.vasp.inputs.species import (
    is_named_by_elements,
    name_species,
    species_mappings,
    translate_species,
)
from aiida_e3relax.workflows.vasp.messages import describe_failure
from aiida_e3relax.workflows.vasp.restarts import ResilientVaspWorkChain


class E3RelaxStaticWorkChain(WorkChain):
    """Compute the energy of a crystal at the geometry that it has.

    The crystal is `structure`, or the one called `label` in the `batch` that the network predicted. The k-points are
    given as a mesh, so that the energies of several geometries of one compound compare.
    """

    @classmethod
    def define(cls, spec: WorkChainSpec) -> None:  # type: ignore[override]
        """Define the inputs, outline, output and exit code."""
        super().define(spec)
        spec.input('structure', valid_type=orm.StructureData, required=False, help='The crystal.')
        spec.input(
            'batch',
            valid_type=StructureBatchData,
            required=False,
            help='Crystals, as the network predicts them, in the place of `structure`.',
        )
        spec.input(
            'label',
            valid_type=orm.Str,
            required=False,
            serializer=orm.to_aiida_type,
            help='The name in `batch` of the crystal to compute.',
        )
        spec.expose_inputs(
            ResilientVaspWorkChain,
            namespace='vasp',
            exclude=('structure', 'kpoints_spacing', 'clean_workdir'),
            namespace_options={'help': 'The run of VASP; that nothing moves is set here.'},
        )
        spec.inputs['vasp']['kpoints'].required = True  # type: ignore[index]
        spec.input(
            'clean_workdir',
            valid_type=orm.Bool,
            default=lambda: orm.Bool(True),
            serializer=orm.to_aiida_type,
            help='Whether to clean the working directory of the job once it is done.',
        )
        spec.input(
            'campaign',
            valid_type=orm.Dict,
            required=False,
            help='The settings of the validation that this run is a part of; recorded, so that it is found from there.',
        )
        spec.inputs.validator = validate_crystal
        spec.outline(cls.compute, cls.results)  # type: ignore[arg-type]
        spec.output('structure', valid_type=orm.StructureData, help='The crystal that was computed.')
        spec.output('misc', valid_type=orm.Dict, help='Energies, forces, stress and more, as aiida-vasp gives them.')
        spec.exit_code(
            410,
            'ERROR_STATIC_RUN_FAILED',
            message='VASP has no energy of the crystal ({detail}): read what VASP wrote with `verdi calcjob outputcat '
            '<pk of the job> vasp_output`, mend the inputs in `vasp` and run again.',
        )

    def compute(self) -> ToContext:
        """Run VASP."""
        structure = self.inputs.get('structure')
        if structure is None:
            structure = take_structure(self.inputs.batch, self.inputs.label, **_linked('take_prediction'))
        self.out('structure', structure)
        inputs = self.exposed_inputs(ResilientVaspWorkChain, 'vasp')
        set_species(inputs, translate_species(structure, **species_mappings(inputs)))
        set_monitors(inputs)
        inputs.parameters = orm.Dict(merge(inputs.parameters.get_dict(), {'incar': STATIC_TAGS}))
        inputs.clean_workdir = self.inputs.clean_workdir
        inputs.metadata.call_link_label = 'static'
        if not is_named_by_elements(structure):
            structure = name_species(structure, **_linked('name_species'))
        running = self.submit(ResilientVaspWorkChain, structure=structure, **inputs)
        self.report(f'VASP computes {structure.get_formula()} as it is: <{running.pk}>')
        return ToContext(static=running)

    def results(self) -> ExitCode | None:
        """Hand on what VASP found."""
        static = self.ctx.static
        if not static.is_finished_ok:
            detail = f'the static run {describe_failure(static)}'
            self.report(detail)
            return self.exit_codes.ERROR_STATIC_RUN_FAILED.format(detail=detail)
        self.out('misc', static.outputs.misc)
        return None


def validate_crystal(inputs: Mapping[str, Any], _: Any) -> str | None:
    """Return what is wrong with the inputs that name the crystal, or None."""
    given = {name for name in ('structure', 'batch', 'label') if name in inputs}
    if given not in ({'structure'}, {'batch', 'label'}):
        found = ', '.join(f'`{name}`' for name in sorted(given)) or 'none of them'
        return f'expected `structure`, or `batch` and `label`, found {found}'
    if 'batch' in given and inputs['label'].value not in inputs['batch']:
        return f'`label`: `batch` holds no crystal `{inputs["label"].value}`; give one of its labels'
    return None


def _linked(label: str) -> dict[str, Any]:
    """Return the argument that names the link to a calculation function that is called."""
    return {'metadata': {'call_link_label': label}}
