"""A strict reader of YAML that people wrote: nothing is dropped in silence."""

from __future__ import annotations

import re
from itertools import accumulate
from typing import Any

import yaml

MOST_VALUES = 100_000
LONGEST = 2**20
DEEPEST = 100
_DEEPER = {'[': 1, '{': 1, ']': -1, '}': -1}


class _Loader(yaml.SafeLoader):
    """Refuses a name that stands twice, and takes 1e-3 for a number as YAML 1.2 does (PyYAML takes it for text)."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        names = [name.value for name, _ in node.value if isinstance(name, yaml.ScalarNode)]
        if repeated := next((name for name in names if names.count(name) > 1), None):
            raise yaml.MarkedYAMLError(problem=f'{repeated!r} stands there twice', problem_mark=node.start_mark)
        return super().construct_mapping(node, deep)


_NUMBER = re.compile(r'[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+$')
_Loader.add_implicit_resolver('tag:yaml.org,2002:float', _NUMBER, list('-+.0123456789'))


def load_yaml(text: str) -> Any:
    """Return what YAML `text` says; raises ValueError, in one line, for what is none or would grow without bounds."""
    if len(text) > LONGEST:
        raise ValueError(f'it is longer than {LONGEST:,} characters')
    if max(accumulate(_DEEPER.get(character, 0) for character in text), default=0) > DEEPEST:
        raise ValueError('lists or names lie too deep in each other')
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        if _size(node, {}) > MOST_VALUES:
            raise ValueError(f'it stands for more than {MOST_VALUES:,} values')
        return loader.construct_document(node)
    except RecursionError as error:
        raise ValueError('lists or names lie too deep in each other') from error
    except yaml.MarkedYAMLError as error:
        line = '' if error.problem_mark is None else f' in line {error.problem_mark.line + 1}'
        raise ValueError(f'it is not YAML{line}: {error.problem or error.context}') from error
    except yaml.YAMLError as error:
        raise ValueError(f'it is not YAML: {" ".join(str(error).split())}') from error


def _size(node: yaml.Node, known: dict[int, int]) -> int:
    """Return how many values a node stands for, those of its aliases written out."""
    if id(node) not in known:
        parts = node.value if isinstance(node, yaml.CollectionNode) else ()
        flat = (part for pair in parts for part in pair) if isinstance(node, yaml.MappingNode) else parts
        known[id(node)] = 1 + sum(_size(part, known) for part in flat)
    return known[id(node)]
