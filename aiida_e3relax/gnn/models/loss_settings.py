"""What losses can be asked for. Needs no torch."""

from __future__ import annotations

import dataclasses

COORDINATE_ERRORS = ('fractional', 'pacd', 'displacement')


@dataclasses.dataclass(frozen=True)
class LossSettings:
    """Which errors a loss counts, and how much.

    Attributes
    ----------
    coordinates
        ``fractional``: the error of fractional coordinates, measured in the target's cell. Unlike that of Cartesian
        coordinates it does not count the error of the cell a second time, and it is the same for every way of wrapping
        the input's atoms into the cell. ``pacd``: the periodicity-aware Cartesian displacement loss, the error of
        Cartesian coordinates (E3Relax-H2, eqs. 37-39). ``displacement``: the length of an atom's Cartesian
        displacement (E3Relax, eq. 19), which knows no image: an atom that the target has in another cell than the
        input is as far away as it is written.
    cell_weight
        Weight of the mean absolute error of the cell's nine components beside that of the coordinates. The authors'
        code has 1; the sum over lattice vectors that eq. 40 prints is 9.
    layer_weights
        The alpha_t of eq. 40, one for every layer; None is 1 for each.
    """

    coordinates: str = 'fractional'
    cell_weight: float = 1.0
    layer_weights: tuple[float, ...] | None = None
