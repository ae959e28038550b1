// Sums over the edges and atoms of a batch of crystals: what the fast engine spends its time in.
//
// Edges are sorted by centre. The filter of an edge depends on its distance alone and is read from a table; the gate is
// a function of a polynomial in one angle; so nothing of the size (edges, features) is ever stored. Features are taken
// in blocks, so that the rows of tables and atoms that a pass touches stay in the processor's cache; backward, each
// thread owns whole blocks, so no two threads add to one number, and the result does not depend on their timing.
//
// Plain C interface, called through ctypes: nothing here depends on the version of Python or PyTorch.

#include <dlfcn.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <thread>
#include <vector>

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define DISPATCH __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define DISPATCH
#endif

namespace {

constexpr int BLOCK = 64;

constexpr double FACTORIALS[] = {1, 1, 2, 6, 24, 120, 720, 5040, 40320, 362880, 3628800, 39916800, 479001600, 6227020800};

// The OpenMP runtime that PyTorch has loaded. Its workers wait for work by spinning for milliseconds: threads of our own
// would share the processors with them.
struct OpenMp {
    void (*parallel)(void (*)(void *), void *, unsigned, unsigned);
    int (*thread)(), (*threads)();

    OpenMp() {
        parallel = reinterpret_cast<decltype(parallel)>(dlsym(RTLD_DEFAULT, "GOMP_parallel"));
        thread = reinterpret_cast<decltype(thread)>(dlsym(RTLD_DEFAULT, "omp_get_thread_num"));
        threads = reinterpret_cast<decltype(threads)>(dlsym(RTLD_DEFAULT, "omp_get_num_threads"));
    }
};

// Runs work(t) for t = 0 .. threads-1, on PyTorch's threads or, where they cannot be had, on new ones.
template <class Work>
void in_parallel(int64_t threads, Work work) {
    static const OpenMp openmp;
    if (threads > 1 && openmp.parallel && openmp.thread && openmp.threads) {
        struct Shared {
            const Work &work;
            int64_t count;
        } shared{work, threads};
        const auto share = [](void *data) {
            const Shared &all = *static_cast<Shared *>(data);
            for (int64_t t = openmp.thread(); t < all.count; t += openmp.threads()) all.work(t);
        };
        openmp.parallel(share, &shared, unsigned(threads), 0);
        return;
    }
    std::vector<std::thread> others;
    for (int64_t t = 0; t + 1 < threads; ++t) others.emplace_back(work, t);
    work(threads - 1);
    for (auto &other : others) other.join();
}

// Runs task(from, to, first feature) over all rows (atoms or structures) and blocks; each thread takes a range of rows.
template <class Task>
void forward(int64_t rows, int64_t features, int64_t threads, Task task) {
    threads = std::max<int64_t>(1, std::min(threads, rows));
    in_parallel(threads, [=](int64_t t) {
        for (int64_t first = 0; first < features; first += BLOCK)
            task(rows * t / threads, rows * (t + 1) / threads, first);
    });
}

// Runs task(first feature, per_edge) over all blocks, and adds up what they wrote to the `size` numbers per_edge.
template <class Real, class Task>
void backward(int64_t features, int64_t size, Real *per_edge, int64_t threads, Task task) {
    const int64_t blocks = (features + BLOCK - 1) / BLOCK;
    threads = std::max<int64_t>(1, std::min(threads, blocks));
    std::vector<std::vector<Real>> parts(threads - 1, std::vector<Real>(size));
    in_parallel(threads, [&, threads](int64_t t) {
        for (int64_t block = t; block < blocks; block += threads)
            task(block * BLOCK, t + 1 < threads ? parts[t].data() : per_edge);
    });
    for (const auto &part : parts)
        for (int64_t k = 0; k < size; ++k) per_edge[k] += part[k];
}

// Arguments of the kernels; native.py declares the same fields. Forward writes the sums, backward reads their gradients
// from the same fields and adds to the gradients, which start at zero. A null `vectors` stands for zeros. The gate is a
// polynomial in the projection, or read from a table whose rows the projection counts (forward only), or 1.
template <class Real>
struct Messages {
    int64_t atoms, edges, features, rows, coefficients, gate_rows;
    Real inverse_spacing;
    const int64_t *start, *neighbour;
    const Real *distance, *direction, *projection, *coefficient, *gate_table, *table, *source, *vectors;
    Real *scalar_sum, *vector_sum;
    Real *table_gradient, *source_gradient, *vectors_gradient, *coefficient_gradient, *edge_gradient;
};

template <class Real>
struct Tensors {
    int64_t atoms, edges, features, rows, components;
    Real inverse_spacing;
    const int64_t *start, *neighbour;
    const Real *distance, *angular, *table, *source;
    Real *sum;
    Real *table_gradient, *source_gradient, *edge_gradient;
};

// Products of tensors (structures, 3, 3, features) and vectors (atoms, 3, features), the atoms of a structure together.
// Vectors have rows of their own stride, so that they may be parts of wider ones.
template <class Real>
struct Products {
    int64_t structures, features, left_stride, right_stride, share_stride, transposed, shortened;
    const int64_t *first_atom;
    const Real *left, *right, *tensor, *keep, *turn;
    Real *product;
};

using Products_float = Products<float>;
using Products_double = Products<double>;
using Messages_float = Messages<float>;
using Messages_double = Messages<double>;
using Tensors_float = Tensors<float>;
using Tensors_double = Tensors<double>;

}  // namespace

#define REAL float
#define INTEGER int32_t
#define NAME(name) name##_float
#define RINT __builtin_rintf
#define SQRT __builtin_sqrtf
#define EXP_TERMS 7
#define EXPONENT_BIAS 127
#define MANTISSA_BITS 23
#define LN2_HIGH 0.693359375
#define LN2_LOW -2.12194440054690583e-4
#include "edge_kernels.inc"
#undef REAL
#undef INTEGER
#undef NAME
#undef RINT
#undef SQRT
#undef EXP_TERMS
#undef EXPONENT_BIAS
#undef MANTISSA_BITS
#undef LN2_HIGH
#undef LN2_LOW

#define REAL double
#define INTEGER int64_t
#define NAME(name) name##_double
#define RINT __builtin_rint
#define SQRT __builtin_sqrt
#define EXP_TERMS 13
#define EXPONENT_BIAS 1023
#define MANTISSA_BITS 52
#define LN2_HIGH 0.693147180369123816490
#define LN2_LOW 1.90821492927058770002e-10
#include "edge_kernels.inc"
