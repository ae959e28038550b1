"""The weights of an interatomic potential, as one node."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from aiida import orm
from aiida.common.exceptions import ValidationError

from aiida_e3relax.gnn.checkpoints.model_card import hash_file, hash_stream
from aiida_e3relax.gnn.potentials.registry import POTENTIALS

FACTS = ('licence', 'training_data', 'functional')


class E3RelaxPotentialData(orm.SinglefileData):
    """A file of weights for a potential whose package brings none.

    What a person knows of them stands beside the content hash: licence, training data and functional. Potentials
    whose weights are in their package need no node: the report of a run has package, version and hash.
    """

    HASH_KEY = 'content_hash'
    POTENTIAL_KEY = 'potential'

    def __init__(
        self,
        file: str | Path,
        potential: str,
        licence: str | None = None,
        training_data: str | None = None,
        functional: str | None = None,
        **kwargs: Any,
    ):
        """Make an unstored node from a file of weights.

        Parameters
        ----------
        file
            The weights, in the format that the package of the potential loads.
        potential
            Which potential loads them, a name of `POTENTIALS` such as `mace`.
        licence, training_data, functional
            Such as `MIT`, `MPtrj` and `PBE(+U)`; None where it is not known.

        Raises
        ------
        ValueError
            For a file that is not there, and for a potential that is unknown or takes no weights but its own.
        """
        path = Path(file).absolute()
        if not path.is_file():
            raise ValueError(f'weights `{path}`: no such file; name the file that the package of the potential loads')
        if potential not in POTENTIALS:
            raise ValueError(f'`potential`: expected one of {", ".join(POTENTIALS)}, found {potential!r}')
        if not POTENTIALS[potential].needs_weights:
            taking = ', '.join(name for name, known in POTENTIALS.items() if known.needs_weights)
            raise ValueError(
                f'`potential`: the package of {potential} brings its weights, and takes no others; give none, or those '
                f'of {taking}'
            )
        super().__init__(file=path, **kwargs)
        self.base.attributes.set(self.POTENTIAL_KEY, potential)
        self.base.attributes.set(self.HASH_KEY, hash_file(path))
        for name, value in zip(FACTS, (licence, training_data, functional), strict=True):
            self.base.attributes.set(name, value)
        self.label = self.label or path.stem

    @classmethod
    def get_or_create(cls, file: str | Path, potential: str, **facts: str | None) -> tuple[E3RelaxPotentialData, bool]:
        """Return the stored node with these weights and facts, and whether it was created just now.

        A stored node may know more facts than are given; of several it is the one that knows most, the newest of those.
        The file has the same name, too, by which some packages tell what network the weights are of.

        Raises ValueError as the constructor does.
        """
        node = cls(file, potential, **facts)
        keys = (cls.HASH_KEY, cls.POTENTIAL_KEY, *(name for name in FACTS if node.facts[name] is not None))
        filters: dict[str, Any] = {f'attributes.{key}': node.base.attributes.get(key) for key in keys}
        query = orm.QueryBuilder().append(cls, filters=filters, project='*', tag='weights')
        found = query.order_by({'weights': {'id': 'desc'}}).all(flat=True)
        same = [stored for stored in found if stored.filename == node.filename]
        if same:
            return max(same, key=lambda stored: sum(fact is not None for fact in stored.facts.values())), False
        return node.store(), True

    @property
    def potential(self) -> str:
        """The potential that loads the weights."""
        return self.base.attributes.get(self.POTENTIAL_KEY)

    @property
    def content_hash(self) -> str:
        """``sha256:`` and the hexadecimal digest of the file's bytes."""
        return self.base.attributes.get(self.HASH_KEY)

    @property
    def facts(self) -> dict[str, str | None]:
        """Licence, training data and functional; None where they are not known."""
        return {name: self.base.attributes.get(name) for name in FACTS}

    def _validate(self) -> bool:
        """Check that the file in the repository is the one that was given."""
        super()._validate()
        with self.open(mode='rb') as handle:
            found = hash_stream(handle)
        if found != self.content_hash:
            raise ValidationError(f'weights `{self.filename}`: expected {self.content_hash}, found {found}')
        return True
