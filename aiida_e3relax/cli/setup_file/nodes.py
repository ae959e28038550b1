"""Potentials of VASP and models of the network in a profile: found as a file has them, or made."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

from aiida.common.exceptions import AiidaException
from aiida_vasp.data.potcar import PotcarData, PotcarGroup

from aiida_e3relax.cli.resources import STANDIN_FAMILY, provide_potentials
from aiida_e3relax.cli.setup_file.settings import DEFAULT_MODEL, FamilySettings, SetupSettings
from aiida_e3relax.cli.setup_file.step import Step
from aiida_e3relax.common.messages import describe_error
from aiida_e3relax.data.model import E3RelaxModelData
from aiida_e3relax.gnn.checkpoints import DEFAULT_CHECKPOINT

FAMILY = 'potential family'


def plan_family(label: str, wanted: FamilySettings, settings: SetupSettings) -> Step:
    """Return what is to be done for a family of potentials, the stand-in's by its name.

    Raises ValueError where there is none and no POTCARs are named to make it of.
    """
    if PotcarData.get_potcar_group(label) is not None:
        return Step(FAMILY, label)
    if label == STANDIN_FAMILY:
        return Step(FAMILY, label, 'created', provide_potentials)
    if wanted.path is None:
        known = ', '.join(sorted(group.label for group in PotcarGroup.collection.all())) or 'none'
        raise ValueError(
            f'there is none of this name in the profile (found {known}); give as `path` the folder or archive of '
            "POTCARs that VASP's server has, or upload it with `aiida-vasp potcar uploadfamily`"
        )
    path = settings.path(wanted.path)
    if not _holds_potentials(path):
        raise ValueError(f'path: expected a folder or tar archive of POTCARs, found none at {path}')
    return Step(FAMILY, label, 'created', lambda: _upload(label, path, wanted.description or f'POTCARs of {path.name}'))


def plan_model(name: str, settings: SetupSettings) -> Step:
    """Return what is to be done for a model; raises ValueError for a file that is no checkpoint with its card."""
    model = E3RelaxModelData(DEFAULT_CHECKPOINT if name == DEFAULT_MODEL else settings.path(name))
    if (stored := model.find_stored()) is not None:
        return Step('model', f'{stored.name} <{stored.pk}>')
    return Step('model', model.name, 'created', model.store)


def _holds_potentials(path: Path) -> bool:
    """Return whether aiida-vasp finds POTCARs at `path`; archives are not opened."""
    if path.is_file():
        return tarfile.is_tarfile(path)
    names = ((folder, name) for folder, _, files in os.walk(path) for name in files)
    return any('POTCAR' in name or tarfile.is_tarfile(Path(folder) / name) for folder, name in names)


def _upload(label: str, path: Path, description: str) -> None:
    """Upload a family, wholly or not at all; raises ValueError."""
    try:
        _, added, _ = PotcarData.upload_potcar_family(str(path), label, description, stop_if_existing=False)
        if not added:
            raise ValueError('no POTCAR was found there')
    except (AiidaException, OSError, ValueError, KeyError, AttributeError, IndexError, tarfile.TarError) as error:
        if (group := PotcarData.get_potcar_group(label)) is not None:
            PotcarGroup.collection.delete(group.pk)
        raise ValueError(
            f'potential family {label}: aiida-vasp cannot upload {path}: {describe_error(error)}'
        ) from error
