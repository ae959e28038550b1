"""The sums over edges as Triton kernels: one program for each atom and block of features, over the atom's edges.

A program holds a block of features of everything it needs in registers: tiles of four table rows, of the three
components of vectors (padded to four), of the gate's coefficients. The sums are made in one order and are the same in
every run. So are, backward, the gradients of edges and of the gate. The gradients of the table, of the source and of
the vectors are sums over edges of other atoms and are added by atomic operations, in an order, and with a rounding,
that differ between runs.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def look_up(place, table_rows, feature, stride):
    """Return where a table is read around a `place`, counted in rows from the second one on.

    The offsets ``[4, block]`` of the four rows in a table of `stride` numbers a row, the rows' weights ``[4]`` in cubic
    interpolation, zero beyond the table and NaN at NaN, and the slopes of these.
    """
    inside = (place >= 0) & (place < table_rows - 3)
    beyond = tl.where(place == place, 0.0, place)  # noqa: PLR0124 - NaN alone is not equal to itself
    place = tl.where(inside, place, 0.0)
    row = place.to(tl.int32)
    t = place - row
    node = tl.arange(0, 4)
    norm = tl.full([4], 1, place.dtype)
    slope = tl.zeros([4], place.dtype)
    weight = tl.where(inside, norm, beyond)
    for other in tl.static_range(4):  # Lagrange's polynomials of the nodes -1, 0, 1, 2
        factor = tl.where(node == other, 1, t + 1 - other)
        slope = slope * factor + tl.where(node == other, 0, weight)
        weight = weight * factor
        norm = norm * tl.where(node == other, 1, node - other)
    offsets = (row + node)[:, None] * stride + feature[None, :]
    return offsets, weight / norm, slope / norm


@triton.jit
def filtered(table, offsets, source, weight, known):
    """Return a block of the interpolated filter times the source."""
    filters = tl.sum(weight[:, None] * tl.load(table + offsets, mask=known[None, :], other=0), axis=0)
    return filters * tl.load(source, mask=known, other=0)


@triton.jit
def filtered_backward(wanted, gate, table, for_table, offsets, source, for_source, weight, slope, known):
    """Add to the gradients of table and source those of ``gate * filter * source``, whose own is `wanted`.

    Returns the gradient of the place in the table, the gradient of the gate ``[block]``, and the product itself.
    """
    rows = tl.load(table + offsets, mask=known[None, :], other=0)
    filters = tl.sum(weight[:, None] * rows, axis=0)
    value = tl.load(source, mask=known, other=0)
    for_filter = wanted * gate * value
    tl.atomic_add(for_source, wanted * gate * filters, mask=known, sem='relaxed')
    for_rows = weight[:, None] * for_filter[None, :]
    tl.atomic_add(for_table + offsets, for_rows, mask=known[None, :], sem='relaxed')
    for_place = tl.sum(tl.sum(slope[:, None] * rows, axis=0) * for_filter, axis=0)
    return for_place, wanted * filters * value, gate * filters * value


@triton.jit
def powers_of(projection, degree, coefficients: tl.constexpr):
    """Return the powers of an edge's `projection` to each `degree` ``[P]``, and their derivatives."""
    power = tl.full(degree.shape, 1, projection.dtype)
    derivative = tl.zeros(degree.shape, projection.dtype)
    for below in tl.static_range(coefficients - 1):
        higher = degree > below
        derivative = tl.where(higher, derivative * projection + power, derivative)
        power = tl.where(higher, power * projection, power)
    return power, derivative


@triton.jit
def gate_of(power, polynomial):
    """Return a block of the gate, 1 + tanh(polynomial), from powers ``[P]`` and coefficients ``[P, block]``."""
    return 2 * tl.sigmoid(2 * tl.sum(power[:, None] * polynomial, axis=0))


@triton.jit
def messages(
    start, neighbour, place, direction, projection, coefficient, table, source, vectors,
    scalar_sum, vector_sum, table_rows,
    features: tl.constexpr, coefficients: tl.constexpr, padded_coefficients: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """Sum the messages to an atom; the arguments are those of `native.message_sums`, `place` for the distance."""
    atom = tl.program_id(0).to(tl.int64)
    feature = tl.program_id(1) * block + tl.arange(0, block)
    known = feature < features
    axis = tl.arange(0, 4)
    components = axis[:, None] * features + feature[None, :]
    real = (axis < 3)[:, None] & known[None, :]
    scalar = tl.zeros([block], source.dtype.element_ty)
    vector = tl.zeros([4, block], source.dtype.element_ty)
    if coefficient is not None:
        degree = tl.arange(0, padded_coefficients)
        polynomial_at = (atom * coefficients + degree[:, None]) * features + feature[None, :]
        used = (degree < coefficients)[:, None] & known[None, :]
        polynomial = tl.load(coefficient + polynomial_at, mask=used, other=0)
    for edge in range(tl.load(start + atom), tl.load(start + atom + 1)):
        j = tl.load(neighbour + edge) * (3 * features)
        h = source + j + feature
        offsets, weight, _ = look_up(tl.load(place + edge), table_rows, feature, 3 * features)
        u = tl.load(direction + 3 * edge + axis, mask=axis < 3, other=0)
        to_scalar = filtered(table + 2 * features, offsets, h + 2 * features, weight, known)
        along = filtered(table + features, offsets, h + features, weight, known)
        to_vector = u[:, None] * along[None, :]
        if vectors is not None:
            v = tl.load(vectors + j + components, mask=real, other=0)
            to_vector += v * filtered(table, offsets, h, weight, known)[None, :]
        if coefficient is not None:
            power, _ = powers_of(tl.load(projection + edge), degree, coefficients)
            gate = gate_of(power, polynomial)
            to_scalar *= gate
            to_vector *= gate[None, :]
        scalar += to_scalar
        vector += to_vector
    tl.store(scalar_sum + atom * features + feature, scalar, mask=known)
    tl.store(vector_sum + atom * (3 * features) + components, vector, mask=real)


@triton.jit
def messages_backward(
    start, neighbour, place, direction, projection, coefficient, table, source, vectors,
    for_scalar_sum, for_vector_sum, for_coefficient, for_table, for_source, for_vectors, for_edge,
    table_rows, edges,
    features: tl.constexpr, coefficients: tl.constexpr, padded_coefficients: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """Give the gradients of `messages`' arguments from those of its sums.

    Those of an edge's place, projection and direction are parts, ``(blocks, E, 5)``, to be added up over blocks.
    """
    atom = tl.program_id(0).to(tl.int64)
    feature = tl.program_id(1) * block + tl.arange(0, block)
    known = feature < features
    axis = tl.arange(0, 4)
    components = axis[:, None] * features + feature[None, :]
    real = (axis < 3)[:, None] & known[None, :]
    for_scalar = tl.load(for_scalar_sum + atom * features + feature, mask=known, other=0)
    for_vector = tl.load(for_vector_sum + atom * (3 * features) + components, mask=real, other=0)
    gate = tl.full([block], 1, source.dtype.element_ty)
    if coefficient is not None:
        degree = tl.arange(0, padded_coefficients)
        polynomial_at = (atom * coefficients + degree[:, None]) * features + feature[None, :]
        used = (degree < coefficients)[:, None] & known[None, :]
        polynomial = tl.load(coefficient + polynomial_at, mask=used, other=0)
        for_polynomial = tl.zeros_like(polynomial)
    for edge in range(tl.load(start + atom), tl.load(start + atom + 1)):
        j = tl.load(neighbour + edge) * (3 * features)
        offsets, weight, slope = look_up(tl.load(place + edge), table_rows, feature, 3 * features)
        u = tl.load(direction + 3 * edge + axis, mask=axis < 3, other=0)
        if coefficient is not None:
            power, power_slope = powers_of(tl.load(projection + edge), degree, coefficients)
            gate = gate_of(power, polynomial)
        for_place, for_gate, _ = filtered_backward(
            for_scalar, gate, table + 2 * features, for_table + 2 * features, offsets,
            source + j + 2 * features + feature, for_source + j + 2 * features + feature, weight, slope, known,
        )  # fmt: skip
        more_place, more_gate, along = filtered_backward(
            tl.sum(u[:, None] * for_vector, axis=0), gate, table + features, for_table + features, offsets,
            source + j + features + feature, for_source + j + features + feature, weight, slope, known,
        )  # fmt: skip
        for_place += more_place
        for_gate += more_gate
        if vectors is not None:
            v = tl.load(vectors + j + components, mask=real, other=0)
            more_place, more_gate, to_vector = filtered_backward(
                tl.sum(v * for_vector, axis=0), gate, table, for_table, offsets,
                source + j + feature, for_source + j + feature, weight, slope, known,
            )  # fmt: skip
            for_place += more_place
            for_gate += more_gate
            tl.atomic_add(for_vectors + j + components, to_vector[None, :] * for_vector, mask=real, sem='relaxed')
        part = for_edge + (tl.program_id(1) * edges + edge) * 5
        tl.store(part, for_place)
        tl.store(part + 2 + axis, tl.sum(along[None, :] * for_vector, axis=1), mask=axis < 3)
        if coefficient is not None:
            for_argument = for_gate * gate * (2 - gate)
            for_polynomial += power[:, None] * for_argument[None, :]
            tl.store(part + 1, tl.sum(tl.sum(power_slope[:, None] * polynomial, axis=0) * for_argument, axis=0))
    if coefficient is not None:
        tl.store(for_coefficient + polynomial_at, for_polynomial, mask=used)


@triton.jit
def tensors(
    start, neighbour, place, angular, table, source, total, table_rows,
    features: tl.constexpr, components: tl.constexpr, padded_components: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """Sum an atom's tensors; the arguments are those of `native.tensor_sums`, `place` for the distance."""
    atom = tl.program_id(0).to(tl.int64)
    feature = tl.program_id(1) * block + tl.arange(0, block)
    known = feature < features
    component = tl.arange(0, padded_components)
    real = component < components
    tensor = tl.zeros([padded_components, block], source.dtype.element_ty)
    for edge in range(tl.load(start + atom), tl.load(start + atom + 1)):
        y = source + tl.load(neighbour + edge) * features + feature
        offsets, weight, _ = look_up(tl.load(place + edge), table_rows, feature, features)
        factors = tl.load(angular + edge * components + component, mask=real, other=0)
        tensor += factors[:, None] * filtered(table, offsets, y, weight, known)[None, :]
    total_at = (atom * components + component[:, None]) * features + feature[None, :]
    tl.store(total + total_at, tensor, mask=real[:, None] & known[None, :])


@triton.jit
def tensors_backward(
    start, neighbour, place, angular, table, source, for_total, for_table, for_source, for_edge, table_rows, edges,
    features: tl.constexpr, components: tl.constexpr, padded_components: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """Give the gradients of `tensors`' arguments from that of its sums.

    Those of an edge's place and angular factors are parts, ``(blocks, E, 1 + M)``, to be added up over blocks.
    """
    atom = tl.program_id(0).to(tl.int64)
    feature = tl.program_id(1) * block + tl.arange(0, block)
    known = feature < features
    component = tl.arange(0, padded_components)
    real = component < components
    total_at = (atom * components + component[:, None]) * features + feature[None, :]
    for_tensor = tl.load(for_total + total_at, mask=real[:, None] & known[None, :], other=0)
    for edge in range(tl.load(start + atom), tl.load(start + atom + 1)):
        y = tl.load(neighbour + edge) * features + feature
        offsets, weight, slope = look_up(tl.load(place + edge), table_rows, feature, features)
        factors = tl.load(angular + edge * components + component, mask=real, other=0)
        for_place, _, bond = filtered_backward(
            tl.sum(factors[:, None] * for_tensor, axis=0), 1, table, for_table, offsets,
            source + y, for_source + y, weight, slope, known,
        )  # fmt: skip
        part = for_edge + (tl.program_id(1) * edges + edge) * (1 + components)
        tl.store(part, for_place)
        tl.store(part + 1 + component, tl.sum(bond[None, :] * for_tensor, axis=1), mask=real)
