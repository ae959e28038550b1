"""Import of the checkpoints that the authors of E3Relax, E3Relax-H2 and DeepRelax publish."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from torch import Tensor

from aiida_e3relax.common.errors import CheckpointError
from aiida_e3relax.common.messages import describe_error
from aiida_e3relax.gnn.checkpoints.checkpoint import (
    Checkpoint,
    load_checkpoint,
    load_content,
    save_checkpoint,
)
from aiida_e3relax.gnn.checkpoints.content import build_model, check_hyperparameters, read_training, read_weights
from aiida_e3relax.gnn.checkpoints.model_card import hash_file, write_card

MARKS = {
    'lattice_scalar_emb.weight': 'e3relax-h2-published',
    'scalar_l1_emb.weight': 'e3relax-published',
    'dist_displace_branch.0.weight': 'deeprelax-published',
}
"""A parameter that only one model has, under its authors' name, and the model's name in the registry."""

CIRCUMSTANCES = ('epoch', 'step', 'ema_decay', 'ema_updates')
"""Facts of the training that are copied from the authors' file."""


def import_published(source: Path, output: Path) -> Checkpoint:
    """Write the weights in `source` as the checkpoint `output` with its model card, and return it as read back.

    The running average of the weights is taken: the entry ``ema`` of an E3Relax-H2 file, all of the others. The sizes
    of the network follow from the shapes, but for DeepRelax's radial functions, of which the authors take as many as
    numbers for the cell offset. The reach of the radial basis (30 A) and the graph are those that they use throughout.
    The file does not say which elements the weights were trained on: all that the embedding has a row for are taken.

    Parameters
    ----------
    source
        A file as the authors' training writes it.
    output
        The ``.pt`` file to write.

    Raises
    ------
    CheckpointError
        For a file that is missing, damaged, or holds no such weights.
    """
    content = load_content(source)
    weights = content.get('ema', content)
    architecture = _architecture(weights, source)
    try:
        weights = read_weights(weights, 'weights')
        sizes = _hyperparameters(architecture, weights)
        check_hyperparameters(architecture, sizes, weights)
        model = build_model(architecture, sizes, weights)
        circumstances = read_training({'training': {key: content[key] for key in CIRCUMSTANCES if key in content}})
    except (KeyError, IndexError, ValueError) as error:
        raise CheckpointError(
            f'{source}: not the weights of a whole {architecture} model: {describe_error(error)}'
        ) from error
    rows = len(weights['atom_emb.embeddings.weight'])
    elements = list(range(1, rows + 1 if architecture == 'deeprelax-published' else rows))
    origin = {'imported_from': source.name, 'content_hash': hash_file(source)}
    save_checkpoint(output, architecture, model, elements, {**origin, **circumstances})
    card = {
        'name': output.stem,
        'version': 1,
        'architecture': architecture,
        'licence': 'that of the imported file',
        'training_data': origin,
        'metrics': {},
    }
    write_card(output, card)
    return load_checkpoint(output)


def _architecture(weights: object, source: Path) -> str:
    """Return the name in the registry of the model that `weights` belong to."""
    for mark, architecture in MARKS.items():
        if isinstance(weights, dict) and mark in weights:
            return architecture
    raise CheckpointError(
        f"{source}: expected the weights of E3Relax-H2, E3Relax or DeepRelax under their authors' names, found none of "
        f'{", ".join(MARKS)}: name the model.pt that their training wrote'
    )


def _hyperparameters(architecture: str, weights: dict[str, Tensor]) -> dict[str, Any]:
    """Return the hyper-parameters that the weights imply; raises KeyError where some are missing."""
    blocks = 'message_layers' if architecture == 'deeprelax-published' else 'message_passing_layers'
    layers = {match[1] for name in weights if (match := re.match(rf'{blocks}\.(\d+)\.', name))}
    sizes: dict[str, Any] = {'features': weights['atom_emb.embeddings.weight'].shape[1], 'layers': len(layers)}
    edge_features = weights[f'{blocks}.0.edge_proj.weight'].shape[1]
    if architecture == 'deeprelax-published':
        return {**sizes, 'radial_functions': edge_features // 2, 'offset_features': edge_features // 2}
    sizes |= {'radial_functions': edge_features, 'lattice_update': 'published'}
    if architecture == 'e3relax-h2-published':
        sizes['l_max'] = len(weights[f'{blocks}.0.inv_norm.weight']) - 1
    return sizes
