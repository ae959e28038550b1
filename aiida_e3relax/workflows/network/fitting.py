"""The batch that fitted into the memory of a device, by the reports of earlier runs of a code."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from aiida import orm

from aiida_e3relax.calculations.predict import E3RelaxCalculation
from aiida_e3relax.calculations.predict_parameters import PredictParameters
from aiida_e3relax.data.model import E3RelaxModelData

FITTED = 'max_edges_fitted'
"""The key of a report, where memory ran out within a run, and the extra of one that was restarted for that reason."""
LOOKED_AT = 20
"""The last runs of a code. After so many in which memory did not run out, the usual batch is tried again."""


@dataclasses.dataclass(frozen=True)
class Fitting:
    """The bound on the edges of a batch that fitted into the memory of the device called `device`, in the run `pk`."""

    max_edges: int
    device: str
    pk: int


def find_fitting(code: orm.AbstractCode, model: E3RelaxModelData, parameters: PredictParameters) -> Fitting | None:
    """Return what fitted last on the device of a code, for a model of this kind and in this precision.

    The device is that of the last run, on a GPU where one of them was: same name, same memory. None where memory has
    not run out there of late.
    """
    query = orm.QueryBuilder().append(orm.AbstractCode, filters={'id': code.pk}, tag='code')
    query.append(
        orm.CalcJobNode,
        with_incoming='code',
        filters={'process_type': E3RelaxCalculation.build_process_type(), 'attributes.exit_status': 0},
        project=['id', f'extras.{FITTED}'],
        tag='run',
    )
    names = ('device', 'dtype', 'model', FITTED)
    query.append(
        orm.Dict, with_incoming='run', edge_filters={'label': 'report'}, project=[f'attributes.{n}' for n in names]
    )
    query.order_by({'run': {'id': 'desc'}}).limit(LOOKED_AT)
    kind = {'architecture': model.architecture, 'hyperparameters': model.card.get('hyperparameters')}
    runs = [
        (pk, device, dtype, within or after_restart)
        for pk, after_restart, device, dtype, of_model, within in query.all()
        if {name: (of_model or {}).get(name) for name in kind} == kind and _is_asked_for(device, dtype, parameters)
    ]
    # A run that fell back on the processor says nothing of the GPU that the next one gets.
    runs = [run for run in runs if _used(run[1]) != 'cpu'] or runs
    for pk, device, dtype, fitted in runs:
        same = (_hardware(device), dtype) == (_hardware(runs[0][1]), runs[0][2])
        if same and fitted:
            return Fitting(fitted, device.get('name') or device['used'], pk)
    return None


def _is_asked_for(device: Mapping[str, Any], dtype: str, parameters: PredictParameters) -> bool:
    """Return whether a run was on such a device, and in such a precision, as the parameters ask for."""
    asked = parameters.device.partition(':')[0]
    return asked in ('auto', _used(device)) and parameters.dtype in ('auto', dtype)


def _used(device: Mapping[str, Any]) -> str:
    return device['used'].partition(':')[0]


def _hardware(device: Mapping[str, Any]) -> tuple[Any, Any]:
    return device.get('name'), device.get('memory_mb')
