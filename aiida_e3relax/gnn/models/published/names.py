"""The parameter names of the authors' files, taken as ours when weights are loaded."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import Any

from torch import nn

SHARED_NAMES = {
    r'atom_emb\.embeddings\.': 'embedding.',
    r'message_(?:passing_)?layers\.(\d+)\.x_proj\.': r'layers.\1.message_passing.source.',
    r'message_(?:passing_)?layers\.(\d+)\.edge_proj\.': r'layers.\1.message_passing.edge_filter.',
    r'(?:message_)?update_layers\.(\d+)\.vec_proj\.': r'layers.\1.self_interaction.vector_mix.',
    r'(?:message_)?update_layers\.(\d+)\.xvec_proj\.': r'layers.\1.self_interaction.scalar_mix.',
}
"""What the three published models have in common: the start of an authors' name, as a pattern, and ours."""

CENTRES = 'radial_basis.rbf.offset'
"""The centres of the radial basis, which some of the authors' files hold and ours do not: they are always the same."""


def accept_authors_names(model: nn.Module, names: Mapping[str, str]) -> None:
    """Let ``model.load_state_dict`` take the authors' names beside its own.

    Parameters
    ----------
    model
        A model with a ``radial_basis``.
    names
        What replaces the start of a name, by regular expression.
    """
    patterns = {re.compile(pattern): replacement for pattern, replacement in names.items()}
    model.register_load_state_dict_pre_hook(functools.partial(_rename, patterns))


def _rename(
    patterns: dict[re.Pattern[str], str], model: nn.Module, weights: dict[str, Any], prefix: str, *_: Any
) -> None:
    centres = weights.pop(prefix + CENTRES, None)
    if centres is not None:
        model.radial_basis.centres.copy_(centres)  # type: ignore[union-attr, operator]
    for name in list(weights):
        for pattern, replacement in patterns.items():
            if pattern.match(name, len(prefix)):
                own = prefix + pattern.sub(replacement, name[len(prefix) :], count=1)
                weights[own] = weights.pop(name)
                break
