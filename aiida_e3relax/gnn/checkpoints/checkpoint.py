"""Checkpoints: one file with the weights and what is needed to rebuild the model, and a model card beside it."""

from __future__ import annotations

import dataclasses
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from aiida_e3relax.common.errors import CheckpointError
from aiida_e3relax.common.messages import short
from aiida_e3relax.common.out_of_memory import is_out_of_memory
from aiida_e3relax.gnn.checkpoints import missing_checkpoint
from aiida_e3relax.gnn.checkpoints.content import read_elements, read_model, read_training
from aiida_e3relax.gnn.checkpoints.frames import warn_of_frame
from aiida_e3relax.gnn.checkpoints.model_card import (
    card_path,
    check_card,
    hash_file,
    is_calibrated,
    read_card,
    write_card,
)
from aiida_e3relax.gnn.checkpoints.reference import read_reference
from aiida_e3relax.gnn.models.base import RelaxationModel
from aiida_e3relax.gnn.models.reference_set import ReferenceSet

FORMAT_VERSION = 1


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A model read from a file.

    Attributes
    ----------
    model
        In evaluation mode, on the CPU.
    architecture
        Its name in the registry.
    elements
        Atomic numbers that it was trained on.
    training
        How it was trained.
    content_hash
        ``sha256:`` and the digest of the file.
    reference
        Environments that it was trained on, to which others have a distance; None where the file holds none.
    card
        The model card that lies beside the file; empty where none does.
    """

    model: RelaxationModel
    architecture: str
    elements: list[int]
    training: dict[str, Any]
    content_hash: str
    reference: ReferenceSet | None = None
    card: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def is_calibrated(self) -> bool:
        """Whether what it states of its errors has their size, see `model_card.is_calibrated`."""
        return is_calibrated(self.architecture, self.training)


def save_atomically(path: str | Path, content: dict[str, Any]) -> None:
    """Write `content` with torch so that a reader sees the old file or the new one, never a part.

    Raises OSError where it cannot be written; nothing is left then.
    """
    path = Path(path)
    partial = path.with_name(path.name + '.partial')
    try:
        with partial.open('wb') as handle:  # torch's own files tell no reason when they cannot be written
            torch.save(content, handle)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def save_checkpoint(
    path: str | Path,
    architecture: str,
    model: RelaxationModel,
    elements: list[int],
    training: dict[str, Any],
    half: bool = False,
) -> None:
    """Write `model` as a checkpoint.

    Parameters
    ----------
    path
        The file; an existing one is replaced atomically.
    architecture
        The model's name in the registry.
    model
        The model, with its ``hyperparameters``.
    elements
        Atomic numbers that the model was trained on; predictions for others are refused.
    training
        How it was trained, in plain numbers and words.
    half
        Keep the weights in half precision, for a file of half the size; the model that reads them is float32 again.
    """
    weights = {key: value.detach().cpu().clone() for key, value in model.state_dict().items()}
    if half:
        weights = {key: value.half() for key, value in weights.items()}
    content = {
        'format_version': FORMAT_VERSION,
        'architecture': architecture,
        'hyperparameters': dataclasses.asdict(model.hyperparameters),
        'elements': elements,
        'training': training,
        'weights': weights,
    }
    save_atomically(path, content)


def mend_card(path: Path) -> None:
    """Write the model card of a checkpoint anew where it is that of the one before, as after a kill between the two.

    Both must be of one run, whose card changes by its `training` alone.
    """
    if not (path.is_file() and card_path(path).is_file()):
        return
    card = read_card(path)
    if card.get('content_hash') != hash_file(path):
        write_card(path, card | {'training': load_content(path)['training']})


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Return the model stored at `path`.

    Only tensors and plain containers are unpickled (``weights_only``). Where a model card lies beside the file, its
    content hash must be the file's.

    Raises
    ------
    CheckpointError
        For a file that is missing, damaged, of another format version, not the one its card describes, or with a field
        that is not what it must be, whose name the message has.
    """
    path = Path(path)
    if not path.is_file():
        raise missing_checkpoint(path)
    digest = hash_file(path)
    card: dict[str, Any] = {}
    if card_path(path).is_file():
        card = read_card(path)
        check_card(card, digest, source=str(path))
    content = load_content(path)
    version = content.get('format_version')
    if type(version) is not int or version != FORMAT_VERSION:
        raise CheckpointError(
            f'{path}: checkpoint format {short(repr(version))}, expected {FORMAT_VERSION}: use the release that wrote '
            'it, or a checkpoint made by `e3relax train`'
        )
    try:
        elements, training, model = read_elements(content), read_training(content), read_model(content)
        reference = read_reference(content, model)
    except ValueError as error:
        raise CheckpointError(f'{path}: does not hold a model of this release: {error}') from error
    warn_of_frame(path, model, training)
    return Checkpoint(model.eval(), content['architecture'], elements, training, digest, reference, card)


def load_content(path: Path) -> dict[str, Any]:
    """Return the dictionary stored at `path`; raises CheckpointError for a file that holds none."""
    if not path.is_file():
        raise missing_checkpoint(path)
    try:
        _check_archive(path)
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # torch's, of kinds of tensors that are refused afterwards
            content = torch.load(path, map_location='cpu', weights_only=True)
    except Exception as error:  # damaged pickles raise anything
        if is_out_of_memory(error):
            raise
        reason = short(str(error).partition('\n')[0] or type(error).__name__, 200)
        raise CheckpointError(f'{path}: damaged or not a checkpoint ({reason}): fetch it again') from error
    if not isinstance(content, dict):
        raise CheckpointError(f'{path}: holds a {type(content).__name__}, not a checkpoint')
    return content


def _check_archive(path: Path) -> None:
    """Raise BadZipFile for an archive with a wrong checksum, which torch does not look at, or that inflates."""
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if compressed := [member.filename for member in members if member.compress_type != zipfile.ZIP_STORED]:
            raise zipfile.BadZipFile(f'{compressed[0]} is compressed, which those of a checkpoint never are')
        if sum(member.file_size for member in members) > path.stat().st_size:
            raise zipfile.BadZipFile('its parts are larger than the whole')
        if (member := archive.testzip()) is not None:
            raise zipfile.BadZipFile(f'wrong checksum of {member}')
