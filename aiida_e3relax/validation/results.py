"""The table of a validation: one row for each energy, with what it goes back to in the provenance graph."""

from __future__ import annotations

from typing import Any

import pandas as pd
from aiida import orm

from aiida_e3relax.campaign.submission.processes import Process, State, last_state
from aiida_e3relax.validation.group import ValidationGroup
from aiida_e3relax.validation.submission import STAGES, read_processes
from aiida_e3relax.workflows.comparison.legs import find_stand_in
from aiida_e3relax.workflows.comparison.vasp_runs import read_run
from aiida_e3relax.workflows.network.report import find_row
from aiida_e3relax.workflows.vasp.restarts import created_nodes

ENERGY = 'energy_eV_per_atom'
DIFFERENCE = 'energy_above_relaxed_eV_per_atom'
COLUMNS = (
    'crystal',
    'formula',
    'n_atoms',
    'geometry',
    ENERGY,
    DIFFERENCE,
    'state',
    'reason',
    'kpoints',
    'volume_A3',
    'code_version',
    'stand_in',
    'wall_time_s',
    'checkpoint',
    'model_uuid',
    'network_uuid',
    'structure_uuid',
    'static_uuid',
    'vasp_uuid',
)
"""`geometry` is `relaxed`, `unrelaxed` or the name of the model that predicted it."""


def validation_frame(group: ValidationGroup) -> pd.DataFrame:
    """Return what a validation found so far, one row for each crystal and geometry.

    Returns
    -------
    DataFrame
        With `COLUMNS`. Energies are those of VASP extrapolated to no smearing (E0), and `DIFFERENCE` is the one of the
        geometry minus that of the relaxed crystal by the same inputs and k-points; NaN where either is missing, with
        the `reason`. UUIDs name the checkpoint, the run of the network, the geometry, the static run and its last VASP
        calculation.
    """
    settings = group.settings
    processes = read_processes(settings, group.settings_node)
    rows: list[dict[str, Any]] = []
    names = [settings.crystals[label]['name'] for label in settings.order]
    shown = settings.order if len(set(names)) < len(names) else names
    for label, name_shown in zip(settings.order, shown, strict=True):
        of_crystal = [_make_row(settings.crystals[label], processes.static.get((label, s), []), s) for s in STAGES]
        for name, tries in processes.networks.items():
            row = _make_row(settings.crystals[label], processes.static.get((label, name), []), name)
            of_crystal.append(row | _network_facts(label, tries, row['state']))
        reference = of_crystal[0][ENERGY]
        for row in of_crystal:
            has_both = row[ENERGY] is not None and reference is not None
            row[DIFFERENCE] = row[ENERGY] - reference if has_both else None
            if row[ENERGY] is not None and reference is None:
                row['reason'] = 'the relaxed crystal has no energy'
            row['crystal'] = name_shown
        rows += of_crystal
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    numbers = [ENERGY, DIFFERENCE, 'volume_A3', 'wall_time_s']
    return frame.astype(dict.fromkeys(numbers, float))


def _make_row(crystal: dict[str, str], tries: list[Process], stage: str) -> dict[str, Any]:
    """Return the row of a geometry, without what the network says of it."""
    relaxed: Any = orm.load_node(uuid=crystal['relaxed'])
    kpoints: Any = orm.load_node(uuid=crystal['kpoints'])
    row: dict[str, Any] = dict.fromkeys(COLUMNS)
    row |= {
        'formula': relaxed.get_formula('hill_compact'),
        'n_atoms': len(relaxed.sites),
        'geometry': stage,
        'kpoints': 'x'.join(map(str, kpoints.get_kpoints_mesh()[0])),
        'state': str(last_state(tries)),
        'reason': '',
        'structure_uuid': crystal.get(stage),
    }
    if not tries:
        return row
    static: Any = orm.load_node(tries[-1].pk)
    row['static_uuid'] = static.uuid
    if 'structure' in static.outputs:
        row |= {
            'structure_uuid': static.outputs.structure.uuid,
            'volume_A3': static.outputs.structure.get_cell_volume(),
        }
    elif 'structure' in static.inputs:
        row['volume_A3'] = static.inputs.structure.get_cell_volume()
    jobs = [node for node in static.called_descendants if isinstance(node, orm.CalcJobNode)]
    if jobs:
        job = max(jobs, key=lambda node: node.pk or 0)
        outputs = created_nodes(job)
        run = read_run(outputs.get('retrieved'), outputs.get('misc'))
        row |= {
            'vasp_uuid': job.uuid,
            'code_version': run.code_version,
            'stand_in': find_stand_in(run.code_version),
            'wall_time_s': run.wall_time,
        }
    if tries[-1].state is State.FINISHED:
        energy = static.outputs.misc.get_dict().get('total_energies', {}).get('energy_extrapolated')
        row |= {'reason': 'VASP wrote no energy'} if energy is None else {ENERGY: energy / row['n_atoms']}
    elif tries[-1].state is not State.RUNNING:
        row['reason'] = tries[-1].exit_message or f'the static run <{static.pk}> was {tries[-1].state}'
    return row


def _network_facts(label: str, tries: list[Process], state: str) -> dict[str, Any]:
    """Return what the run of the network says of a crystal, with the reason where it has no prediction of it."""
    run: Any = orm.load_node(tries[-1].pk)
    model = run.inputs.predict.model
    facts = {'checkpoint': model.content_hash, 'model_uuid': model.uuid, 'network_uuid': run.uuid}
    if state != State.WAITING or last_state(tries) is State.RUNNING:
        return facts
    if 'report' not in run.outputs:
        reason = tries[-1].exit_message or f'<{run.pk}> was {tries[-1].state}'
        return facts | {'state': 'not predicted', 'reason': f'the run of the network failed: {reason}'}
    row = find_row(run.outputs.report.get_dict(), label)
    if row['status'] == 'ok':
        return facts
    return facts | {'state': 'not predicted', 'reason': f'the network failed: {row["status"]}: {row["message"]}'}
