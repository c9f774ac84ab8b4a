// SPDX-License-Identifier: LGPL-2.1-or-later
// Included once per instruction set, with MRI_SIMD_LANES, MRI_SIMD_ISA and MRI_SIMD_TABLE defined. Everything
// is in an unnamed namespace and nothing but builtins is called: an inline function of the standard library
// compiled here with AVX-512 could be the copy that the linker keeps for the whole program.
#include "plugins/math/transform/simd.hpp"

#include <cstddef>
#include <utility>

#define MRI_INLINE inline __attribute__((always_inline))

namespace mri::simd {
namespace {

constexpr int L = MRI_SIMD_LANES;
typedef float Vec __attribute__((vector_size(4 * L)));
typedef float VecU __attribute__((vector_size(4 * L), aligned(4), may_alias));
typedef double PairVec __attribute__((vector_size(4 * L)));

/// A complex number per lane.
struct C {
    Vec re, im;
};

MRI_INLINE Vec load(const float* p) {
    return *reinterpret_cast<const VecU*>(p);
}
MRI_INLINE void store(float* p, Vec v) {
    *reinterpret_cast<VecU*>(p) = v;
}
MRI_INLINE Vec zero() {
    return Vec{};
}
MRI_INLINE C operator+(C a, C b) {
    return {a.re + b.re, a.im + b.im};
}
MRI_INLINE C operator-(C a, C b) {
    return {a.re - b.re, a.im - b.im};
}
MRI_INLINE C operator*(C a, float f) {
    return {a.re * f, a.im * f};
}
/// a times -i
MRI_INLINE C turn(C a) {
    return {a.im, -a.re};
}
MRI_INLINE C mul(C a, float re, float im) {
    return {a.re * re - a.im * im, a.re * im + a.im * re};
}

/// Which of L interleaved complex numbers a lane holds after split(): not lane i number i, since shuffles
/// within 128 bits are cheaper than those across. Whoever cares puts the lanes right by the addresses of
/// loads and stores.
constexpr int order(int lane) {
    int quad = lane / 4, part = lane % 4;
    return part < 2 ? 2 * quad + part : L / 2 + 2 * quad + part - 2;
}

template <std::size_t... I>
MRI_INLINE C split_impl(Vec a, Vec b, std::index_sequence<I...>) {
    return {__builtin_shufflevector(a, b, int(I / 4 * 4 + I % 2 * 2 + (I % 4 < 2 ? 0 : L))...),
            __builtin_shufflevector(a, b, int(I / 4 * 4 + I % 2 * 2 + 1 + (I % 4 < 2 ? 0 : L))...)};
}
/// L interleaved complex numbers -> real and imaginary parts, lanes in order()
MRI_INLINE C split(Vec a, Vec b) {
    return split_impl(a, b, std::make_index_sequence<L>());
}

/// A shuffle within quads of lanes: lane i takes from[i % 4] of a (0..3) or b (4..7).
template <int F0, int F1, int F2, int F3, std::size_t... I>
MRI_INLINE Vec within_quads(Vec a, Vec b, std::index_sequence<I...>) {
    constexpr int from[4] = {F0, F1, F2, F3};
    return __builtin_shufflevector(a, b, int(I / 4 * 4 + from[I % 4] % 4 + from[I % 4] / 4 * L)...);
}
template <int F0, int F1, int F2, int F3>
MRI_INLINE Vec within_quads(Vec a, Vec b) {
    return within_quads<F0, F1, F2, F3>(a, b, std::make_index_sequence<L>());
}
/// the inverse of split
MRI_INLINE void merge(C c, Vec& a, Vec& b) {
    a = within_quads<0, 4, 1, 5>(c.re, c.im);
    b = within_quads<2, 6, 3, 7>(c.re, c.im);
}

/// Quads First, First + 2, ... of a, then those of b.
template <int First, std::size_t... I>
MRI_INLINE Vec every_other_quad(Vec a, Vec b, std::index_sequence<I...>) {
    return __builtin_shufflevector(a, b,
                                   int((I % (L / 2) / 4 * 2 + First) * 4 + I % 4 + (I < L / 2 ? 0 : L))...);
}
template <int First>
MRI_INLINE Vec every_other_quad(Vec a, Vec b) {
    return every_other_quad<First>(a, b, std::make_index_sequence<L>());
}
/// Transposes four rows within each quad.
MRI_INLINE void transpose_quads(Vec* q) {
    Vec a = within_quads<0, 4, 1, 5>(q[0], q[1]), b = within_quads<2, 6, 3, 7>(q[0], q[1]);
    Vec c = within_quads<0, 4, 1, 5>(q[2], q[3]), d = within_quads<2, 6, 3, 7>(q[2], q[3]);
    q[0] = within_quads<0, 1, 4, 5>(a, c);
    q[1] = within_quads<2, 3, 6, 7>(a, c);
    q[2] = within_quads<0, 1, 4, 5>(b, d);
    q[3] = within_quads<2, 3, 6, 7>(b, d);
}
/// Exchanges rows and quads of rows k, 4 + k, ...
template <int K>
MRI_INLINE void transpose_rows(Vec* r) {
    if constexpr (L == 8) {
        Vec a = r[K], b = r[4 + K];
        r[K] = every_other_quad<0>(a, b);
        r[4 + K] = every_other_quad<1>(a, b);
    }
    if constexpr (L == 16) {
        Vec a = every_other_quad<0>(r[K], r[4 + K]), b = every_other_quad<0>(r[8 + K], r[12 + K]);
        Vec c = every_other_quad<1>(r[K], r[4 + K]), d = every_other_quad<1>(r[8 + K], r[12 + K]);
        r[K] = every_other_quad<0>(a, b);
        r[4 + K] = every_other_quad<0>(c, d);
        r[8 + K] = every_other_quad<1>(a, b);
        r[12 + K] = every_other_quad<1>(c, d);
    }
}
template <std::size_t... G, std::size_t... K>
MRI_INLINE void transpose(Vec* r, std::index_sequence<G...>, std::index_sequence<K...>) {
    (transpose_quads(r + 4 * G), ...);
    // r[4 g + k] now holds, in its quad l, column 4 l + k of rows 4 g..4 g + 3
    (transpose_rows<int(K)>(r), ...);
}
/// Transposes an L x L tile held in L vectors.
MRI_INLINE void transpose(Vec* r) {
    transpose(r, std::make_index_sequence<L / 4>(), std::make_index_sequence<4>());
}

// ------------ small transforms, exp(-2 pi i j k / N), in place

constexpr double pi = 3.14159265358979323846264338327950288;
constexpr float cosf_(int j, int n) {
    return float(__builtin_cos(2 * pi * j / n));
}
constexpr float sinf_(int j, int n) {
    return float(__builtin_sin(2 * pi * j / n));
}

/// a times exp(-2 pi i J / N)
template <int J, int N>
MRI_INLINE C rotate(C a) {
    constexpr int j = J % N;
    if constexpr (j == 0)
        return a;
    else if constexpr (4 * j == N)
        return turn(a);
    else if constexpr (2 * j == N)
        return {-a.re, -a.im};
    else if constexpr (8 * j == N) {
        constexpr float h = cosf_(1, 8);
        return {(a.re + a.im) * h, (a.im - a.re) * h};
    } else if constexpr (8 * j == 3 * N) {
        constexpr float h = cosf_(1, 8);
        return {(a.im - a.re) * h, (a.re + a.im) * -h};
    } else {
        constexpr float c = cosf_(j, N), s = sinf_(j, N);
        return {a.re * c + a.im * s, a.im * c - a.re * s};
    }
}

template <int N>
struct Dft;

template <>
struct Dft<1> {
    static MRI_INLINE void run(C*) {}
};
template <>
struct Dft<2> {
    static MRI_INLINE void run(C* x) {
        C a = x[0] + x[1], b = x[0] - x[1];
        x[0] = a;
        x[1] = b;
    }
};
template <>
struct Dft<3> {
    static MRI_INLINE void run(C* x) {
        constexpr float s = sinf_(1, 3);
        C a = x[1] + x[2], d = turn(x[1] - x[2]);
        C m = {x[0].re - a.re * 0.5f, x[0].im - a.im * 0.5f};
        x[0] = x[0] + a;
        x[1] = {m.re + d.re * s, m.im + d.im * s};
        x[2] = {m.re - d.re * s, m.im - d.im * s};
    }
};
template <>
struct Dft<4> {
    static MRI_INLINE void run(C* x) {
        C a = x[0] + x[2], b = x[0] - x[2], c = x[1] + x[3], d = turn(x[1] - x[3]);
        x[0] = a + c;
        x[1] = b + d;
        x[2] = a - c;
        x[3] = b - d;
    }
};
/// Odd N, by symmetric and antisymmetric pairs: (N-1)^2 multiplications.
template <int N>
struct OddDft {
    template <int K, std::size_t... J>
    static MRI_INLINE void pair(C x0, const C* sum, const C* dif, C* x, std::index_sequence<J...>) {
        C e = x0, o = {zero(), zero()};
        ((e = {e.re + sum[J].re * cosf_(int(J + 1) * K % N, N),
               e.im + sum[J].im * cosf_(int(J + 1) * K % N, N)}),
         ...);
        ((o = {o.re + dif[J].im * sinf_(int(J + 1) * K % N, N),
               o.im - dif[J].re * sinf_(int(J + 1) * K % N, N)}),
         ...);
        x[K] = e + o;
        x[N - K] = e - o;
    }
    template <std::size_t... K>
    static MRI_INLINE void all(C* x, std::index_sequence<K...> seq) {
        C sum[N / 2], dif[N / 2], x0 = x[0], total = x[0];
        ((sum[K] = x[K + 1] + x[N - 1 - K], dif[K] = x[K + 1] - x[N - 1 - K], total = total + sum[K]), ...);
        x[0] = total;
        (pair<int(K) + 1>(x0, sum, dif, x, seq), ...);
    }
    static MRI_INLINE void run(C* x) { all(x, std::make_index_sequence<N / 2>()); }
};
template <>
struct Dft<5> : OddDft<5> {};
template <>
struct Dft<7> : OddDft<7> {};

/// N = A B by Cooley and Tukey: n = B a + b, k = k1 + A k2.
template <int A, int B>
struct Composite {
    static constexpr int N = A * B;
    template <int b, std::size_t... a>
    static MRI_INLINE void first(C* x, C* t, std::index_sequence<a...>) {
        C u[A] = {x[B * a + b]...};
        Dft<A>::run(u);
        ((t[a * B + b] = rotate<b* int(a), N>(u[a])), ...);
    }
    template <int k1, std::size_t... k2>
    static MRI_INLINE void second(C* x, C* t, std::index_sequence<k2...>) {
        Dft<B>::run(t + k1 * B);
        ((x[k1 + A * k2] = t[k1 * B + k2]), ...);
    }
    template <std::size_t... b, std::size_t... k1>
    static MRI_INLINE void all(C* x, std::index_sequence<b...>, std::index_sequence<k1...>) {
        C t[N];
        (first<int(b)>(x, t, std::make_index_sequence<A>()), ...);
        (second<int(k1)>(x, t, std::make_index_sequence<B>()), ...);
    }
    static MRI_INLINE void run(C* x) { all(x, std::make_index_sequence<B>(), std::make_index_sequence<A>()); }
};
template <>
struct Dft<8> : Composite<2, 4> {};
template <>
struct Dft<9> : Composite<3, 3> {};
template <>
struct Dft<16> : Composite<4, 4> {};

constexpr int inverse_mod(int a, int m) {
    for (int i = 1; i < m; i++)
        if (a * i % m == 1)
            return i;
    return m == 1 ? 0 : -1;
}

/// N = A B with A, B coprime by Good and Thomas: no twiddles. n = B a + A b, k = k1 (mod A) = k2 (mod B).
template <int A, int B>
struct PrimeFactor {
    static constexpr int N = A * B;
    static constexpr int in(int a, int b) { return (B * a + A * b) % N; }
    static constexpr int out(int k1, int k2) {
        return (B * inverse_mod(B % A, A) * k1 + A * inverse_mod(A % B, B) * k2) % N;
    }
    template <int b, std::size_t... a>
    static MRI_INLINE void first(C* x, C* t, std::index_sequence<a...>) {
        C u[A] = {x[in(a, b)]...};
        Dft<A>::run(u);
        ((t[a * B + b] = u[a]), ...);
    }
    template <int k1, std::size_t... k2>
    static MRI_INLINE void second(C* x, C* t, std::index_sequence<k2...>) {
        Dft<B>::run(t + k1 * B);
        ((x[out(k1, k2)] = t[k1 * B + k2]), ...);
    }
    template <std::size_t... b, std::size_t... k1>
    static MRI_INLINE void all(C* x, std::index_sequence<b...>, std::index_sequence<k1...>) {
        C t[N];
        (first<int(b)>(x, t, std::make_index_sequence<A>()), ...);
        (second<int(k1)>(x, t, std::make_index_sequence<B>()), ...);
    }
    static MRI_INLINE void run(C* x) { all(x, std::make_index_sequence<B>(), std::make_index_sequence<A>()); }
};
template <>
struct Dft<6> : PrimeFactor<2, 3> {};
template <>
struct Dft<10> : PrimeFactor<2, 5> {};
template <>
struct Dft<12> : PrimeFactor<3, 4> {};
template <>
struct Dft<15> : PrimeFactor<3, 5> {};
template <>
struct Dft<18> : PrimeFactor<2, 9> {};
template <>
struct Dft<20> : PrimeFactor<4, 5> {};
template <>
struct Dft<24> : PrimeFactor<3, 8> {};

// ------------ transforms of any length

/// One pass of the self-sorting (Stockham) transform, radix R: x [R][m][s] -> y [m][R][s].
template <int R>
struct Pass {
    template <std::size_t... J>
    static MRI_INLINE void butterfly(const C* x, C* y, int m, int s, const float* tw,
                                     std::index_sequence<J...>) {
        C u[R] = {x[std::size_t(J) * m * s]...};
        Dft<R>::run(u);
        y[0] = u[0];
        if (tw)
            ((J > 0 ? (void)(y[J * s] = mul(u[J], tw[2 * J - 2], tw[2 * J - 1])) : void()), ...);
        else
            ((J > 0 ? (void)(y[J * s] = u[J]) : void()), ...);
    }
    static __attribute__((noinline)) void run(const FftPass& p, const C* x, C* y) {
        for (int i = 0; i < p.m; i++)
            for (int q = 0; q < p.s; q++)
                butterfly(x + q + std::size_t(p.s) * i, y + q + std::size_t(p.s) * R * i, p.m, p.s,
                          i ? p.twiddles + std::size_t(i) * 2 * (R - 1) : nullptr,
                          std::make_index_sequence<R>());
    }
};

/// A pass of any odd radix up to 31, by its table of roots.
__attribute__((noinline)) void pass_any(const FftPass& p, const C* x, C* y) {
    int r = p.radix, h = r / 2;
    for (int i = 0; i < p.m; i++)
        for (int q = 0; q < p.s; q++) {
            const C* in = x + q + std::size_t(p.s) * i;
            C* out = y + q + std::size_t(p.s) * r * i;
            C sum[16], dif[16], total = in[0];
            for (int j = 1; j <= h; j++) {
                C a = in[std::size_t(j) * p.m * p.s], b = in[std::size_t(r - j) * p.m * p.s];
                sum[j] = a + b;
                dif[j] = a - b;
                total = total + sum[j];
            }
            out[0] = total;
            for (int k = 1; k <= h; k++) {
                C e = in[0], o = {zero(), zero()};
                for (int j = 1; j <= h; j++) {
                    float c = p.roots[2 * (j * k % r)], s = -p.roots[2 * (j * k % r) + 1];
                    e = {e.re + sum[j].re * c, e.im + sum[j].im * c};
                    o = {o.re + dif[j].im * s, o.im - dif[j].re * s};
                }
                const float* tw = p.twiddles + std::size_t(i) * 2 * (r - 1);
                out[std::size_t(k) * p.s] = mul(e + o, tw[2 * k - 2], tw[2 * k - 1]);
                out[std::size_t(r - k) * p.s] = mul(e - o, tw[2 * (r - k) - 2], tw[2 * (r - k) - 1]);
            }
        }
}

/// Transforms L lines of length n held in a; returns where the result lies, a or b.
C* transform(const FftPlan& plan, C* a, C* b) {
    if (plan.inner) {
        int n = plan.n, m = plan.inner->n;
        for (int j = 0; j < n; j++)
            a[j] = mul(a[j], plan.chirp[2 * j], plan.chirp[2 * j + 1]);
        for (int j = n; j < m; j++)
            a[j] = {zero(), zero()};
        C* f = transform(*plan.inner, a, b);
        C* other = f == a ? b : a;
        for (int j = 0; j < m; j++) {
            // the inverse transform is the forward one with the parts exchanged
            C v = mul(f[j], plan.filter[2 * j], plan.filter[2 * j + 1]);
            f[j] = {v.im, v.re};
        }
        C* g = transform(*plan.inner, f, other);
        for (int j = 0; j < n; j++)
            g[j] = mul(C{g[j].im, g[j].re}, plan.chirp[2 * j], plan.chirp[2 * j + 1]);
        return g;
    }
    for (int i = 0; i < plan.passes; i++) {
        const FftPass& p = plan.pass[i];
        switch (p.radix) {
        case 2:
            Pass<2>::run(p, a, b);
            break;
        case 3:
            Pass<3>::run(p, a, b);
            break;
        case 4:
            Pass<4>::run(p, a, b);
            break;
        case 5:
            Pass<5>::run(p, a, b);
            break;
        case 7:
            Pass<7>::run(p, a, b);
            break;
        case 8:
            Pass<8>::run(p, a, b);
            break;
        case 9:
            Pass<9>::run(p, a, b);
            break;
        case 15:
            Pass<15>::run(p, a, b);
            break;
        case 16:
            Pass<16>::run(p, a, b);
            break;
        default:
            pass_any(p, a, b);
        }
        C* t = a;
        a = b;
        b = t;
    }
    return a;
}

// ------------ lengths A x 16 in two steps, with loads and stores of the caller

constexpr int common_factor(int a, int b) {
    return b ? common_factor(b, a % b) : a;
}

template <int A, class Load, std::size_t... a>
MRI_INLINE void first_step(const AxisPlan& p, C* t, Load load, int b, std::index_sequence<a...>) {
    C u[A] = {load(p.in[b * A + int(a)])...};
    Dft<A>::run(u);
    if constexpr (common_factor(A, 16) == 1) {
        ((t[a * two_step_row + b] = u[a]), ...);
    } else {
        const float* tw = p.twiddles + b * 2 * (A - 1);
        ((t[a * two_step_row + b] = a ? mul(u[a], tw[2 * a - 2 * (a > 0)], tw[2 * a - (a > 0)]) : u[a]), ...);
    }
}
template <class Store, std::size_t... b>
MRI_INLINE void second_step(const AxisPlan::Step* out, C* t, Store store, std::index_sequence<b...>) {
    C u[16] = {t[b]...};
    Dft<16>::run(u);
    (store(out[b], u[b], t[b]), ...);
}
template <int A, class Load, class Store>
MRI_INLINE C* two_steps(const AxisPlan& p, C* t, Load load, Store store) {
    for (int b = 0; b < 16; b++)
        first_step<A>(p, t, load, b, std::make_index_sequence<A>());
    for (int k = 0; k < A; k++)
        second_step(p.out + k * 16, t + k * two_step_row, store, std::make_index_sequence<16>());
    return t;
}

/// Transforms L lines: `load(step)` gives each input, `store(step, value, slot)` takes each output, where
/// slot is a place in the work buffer that is free for it. Returns the start of the slots.
template <class Load, class Store>
MRI_INLINE C* line_transform(const AxisPlan& p, C* t, Load load, Store store) {
    switch (p.factor) {
    case 5:
        return two_steps<5>(p, t, load, store);
    case 6:
        return two_steps<6>(p, t, load, store);
    case 8:
        return two_steps<8>(p, t, load, store);
    case 9:
        return two_steps<9>(p, t, load, store);
    case 10:
        return two_steps<10>(p, t, load, store);
    case 12:
        return two_steps<12>(p, t, load, store);
    case 15:
        return two_steps<15>(p, t, load, store);
    case 16:
        return two_steps<16>(p, t, load, store);
    case 18:
        return two_steps<18>(p, t, load, store);
    case 20:
        return two_steps<20>(p, t, load, store);
    case 24:
        return two_steps<24>(p, t, load, store);
    default:
        break;
    }
    for (int i = 0; i < p.cells; i++)
        t[i] = load(p.in[i]);
    C* r = transform(*p.fft, t, t + p.fft->buffer());
    for (int i = 0; i < p.cells; i++)
        store(p.out[i], r[i], r[i]);
    return r;
}

/// Turns the tile of the L slots named by `slot` around, scaled, and stores its rows `step` floats apart.
/// Lanes are in order() before and after.
template <std::size_t... J>
MRI_INLINE void turn_tile(const C* t, const std::int32_t* slot, const float* scale, float* to,
                          std::size_t step, std::index_sequence<J...>) {
    Vec re[L] = {(t[slot[order(J)]].re * scale[order(J)])...};
    transpose(re);
    (store(to + order(J) * step, re[J]), ...);
    Vec im[L] = {(t[slot[order(J)]].im * scale[order(J)])...};
    transpose(im);
    (store(to + order(J) * step + L, im[J]), ...);
}
template <std::size_t... J>
MRI_INLINE void turn_tile(const C* t, const std::int32_t* slot, float* to, std::size_t step,
                          std::index_sequence<J...>) {
    Vec re[L] = {t[slot[order(J)]].re...};
    transpose(re);
    (store(to + order(J) * step, re[J]), ...);
    Vec im[L] = {t[slot[order(J)]].im...};
    transpose(im);
    (store(to + order(J) * step + L, im[J]), ...);
}

template <bool Swap>
MRI_INLINE C parts(C c) {
    if constexpr (Swap)
        return {c.im, c.re};
    else
        return c;
}

// ------------ two-dimensional FFT

MRI_INLINE C load_some(const float* p, int lanes) {
    if (lanes >= L)
        return split(load(p), load(p + L));
    alignas(64) float t[2 * L] = {};
    __builtin_memcpy(t, p, sizeof(float) * 2 * lanes);
    return split(load(t), load(t + L));
}
MRI_INLINE void store_some(float* p, C c, int lanes) {
    Vec a, b;
    merge(c, a, b);
    if (lanes >= L) {
        store(p, a);
        store(p + L, b);
        return;
    }
    alignas(64) float t[2 * L];
    store(t, a);
    store(t + L, b);
    __builtin_memcpy(p, t, sizeof(float) * 2 * lanes);
}

template <bool Inverse>
void columns_impl(const FftPlan& plan, float* image, int width, int x0, int shift, float* scratch) {
    int n = plan.n, lanes = width - x0 < L ? width - x0 : L;
    C* a = reinterpret_cast<C*>(scratch);
    C* b = a + plan.buffer();
    for (int i = 0; i < n; i++) {
        int at = i - shift < 0 ? i - shift + n : i - shift;
        a[at] = parts<Inverse>(load_some(image + 2 * (std::size_t(i) * width + x0), lanes));
    }
    C* r = transform(plan, a, b);
    for (int i = 0; i < n; i++) {
        int at = i - shift < 0 ? i - shift + n : i - shift;
        store_some(image + 2 * (std::size_t(i) * width + x0), parts<Inverse>(r[at]), lanes);
    }
}

template <bool Inverse>
void rows_impl(const FftPlan& plan, float* image, int height, int y0, int shift, float* scratch) {
    int n = plan.n, lanes = height - y0 < L ? height - y0 : L;
    C* a = reinterpret_cast<C*>(scratch);
    C* b = a + plan.buffer();
    alignas(64) Vec re[L], im[L];
    for (int i0 = 0; i0 < n; i0 += L) {
        int some = n - i0 < L ? n - i0 : L;
        for (int j = 0; j < L; j++) {
            C c = j < lanes ? load_some(image + 2 * (std::size_t(y0 + j) * n + i0), some) : C{zero(), zero()};
            re[j] = c.re;
            im[j] = c.im;
        }
        transpose(re);
        transpose(im);
        for (int j = 0; j < L; j++) {
            int i = i0 + order(j);
            if (i < n)
                a[i - shift < 0 ? i - shift + n : i - shift] = parts<Inverse>({re[j], im[j]});
        }
    }
    C* r = transform(plan, a, b);
    for (int i0 = 0; i0 < n; i0 += L) {
        int some = n - i0 < L ? n - i0 : L;
        for (int j = 0; j < L; j++) {
            int i = i0 + order(j) < n ? i0 + order(j) : i0;
            C c = parts<Inverse>(r[i - shift < 0 ? i - shift + n : i - shift]);
            re[j] = c.re;
            im[j] = c.im;
        }
        transpose(re);
        transpose(im);
        for (int j = 0; j < lanes; j++)
            store_some(image + 2 * (std::size_t(y0 + j) * n + i0), {re[j], im[j]}, some);
    }
}

void columns(const FftPlan& plan, float* image, int width, int x0, int shift, bool inverse, float* scratch) {
    inverse ? columns_impl<true>(plan, image, width, x0, shift, scratch)
            : columns_impl<false>(plan, image, width, x0, shift, scratch);
}
void rows(const FftPlan& plan, float* image, int height, int y0, int shift, bool inverse, float* scratch) {
    inverse ? rows_impl<true>(plan, image, height, y0, shift, scratch)
            : rows_impl<false>(plan, image, height, y0, shift, scratch);
}

// ------------ samples to grid, grid to samples

constexpr int row_vecs = 2 * window / L; ///< vectors that hold one row of a window

template <std::size_t... I>
MRI_INLINE Vec halves_of(float a, float b, std::index_sequence<I...>) {
    return Vec{(I < L / 2 ? a : b)...};
}

template <int Part, std::size_t... I>
MRI_INLINE Vec twice(const float* w, std::index_sequence<I...>) {
    // reads L numbers, of which the first `window` matter
    Vec h = load(w + (Part * L / 2) / L * L);
    return __builtin_shufflevector(h, h, int(I / 2 + (Part * L / 2) % L)...);
}
/// window weights -> each twice, for the two parts of a complex number
template <std::size_t... P>
MRI_INLINE void twice_all(const float* w, Vec* out, std::index_sequence<P...>) {
    ((out[P] = twice<int(P)>(w, std::make_index_sequence<L>())), ...);
}
MRI_INLINE void twice(const float* w, Vec* out) {
    twice_all(w, out, std::make_index_sequence<row_vecs>());
}

template <std::size_t... I>
MRI_INLINE Vec pair_impl(double d, std::index_sequence<I...>) {
    return (Vec)PairVec{((void)I, d)...};
}
/// a complex number in all pairs of lanes
MRI_INLINE Vec pair(const float* c) {
    double d;
    __builtin_memcpy(&d, c, 8);
    return pair_impl(d, std::make_index_sequence<L / 2>());
}

std::uint32_t place(const Placement& p, const float* kxy, std::size_t n, std::int32_t* first, float* z) {
    constexpr int H = L / 2;
    typedef double D __attribute__((vector_size(8 * H)));
    typedef float F __attribute__((vector_size(4 * H)));
    typedef float FU __attribute__((vector_size(4 * H), aligned(4), may_alias));
    typedef std::int32_t I __attribute__((vector_size(4 * H)));
    typedef std::int32_t IU __attribute__((vector_size(4 * H), aligned(4), may_alias));
    D per_pixel, cells;
    for (int l = 0; l < H; l++) {
        per_pixel[l] = p.per_pixel[l % 2];
        cells[l] = p.cells[l % 2];
    }
    const D round = D{} + 6755399441055744.0; // 1.5 * 2^52: adding it rounds to a whole number
    I largest = {};
    for (std::size_t i = 0; i < 2 * n; i += H) {
        alignas(64) float rest[H] = {};
        bool whole = i + H <= 2 * n;
        if (!whole)
            __builtin_memcpy(rest, kxy + i, sizeof(float) * (2 * n - i));
        F k = *reinterpret_cast<const FU*>(whole ? kxy + i : rest);
        I bits = (I)k & 0x7fffffff;
        largest = bits > largest ? bits : largest;
        D turns = __builtin_convertvector(k, D) * per_pixel + 0.5; // cell 0 is k = -pixels/2
        D floor = (turns + round) - round;
        floor = floor > turns ? floor - 1 : floor;
        D left = (turns - floor) * cells - p.half;
        D cell = (left + round) - round;
        cell = cell < left ? cell + 1 : cell;
        F at = __builtin_convertvector((cell - left) * 2 - 1, F);
        I at_cell = __builtin_convertvector(cell, I);
        if (whole) {
            *reinterpret_cast<FU*>(z + i) = at;
            *reinterpret_cast<IU*>(first + i) = at_cell;
        } else {
            __builtin_memcpy(z + i, &at, sizeof(float) * (2 * n - i));
            __builtin_memcpy(first + i, &at_cell, sizeof(float) * (2 * n - i));
        }
    }
    std::int32_t most = 0;
    for (int l = 0; l < H; l++)
        most = largest[l] > most ? largest[l] : most;
    return std::uint32_t(most);
}

template <int Degree>
void taps_impl(const float* table, int degree, const std::uint8_t* shift, const float* z, std::size_t n,
               float* taps) {
    // Degree = 0 stands for any: the number of rounds is then not known to the compiler
    constexpr int halves = 2 * window / L;
    for (std::size_t i = 0; i < n; i++, taps += 2 * window) {
        const float* c = table + std::size_t(shift[i]) * 2 * window * std::size_t(degree + 1);
        for (int h = 0; h < halves; h++) {
            Vec at;
            if constexpr (L == 2 * window)
                at = halves_of(z[2 * i + 1], z[2 * i], std::make_index_sequence<L>());
            else
                at = zero() + z[2 * i + (h * L < window)];
            const float* top = c + degree * 2 * window + h * L;
            Vec v = load(top);
            if constexpr (Degree > 0)
                for (int d = 1; d <= Degree; d++)
                    v = v * at + load(top - d * 2 * window);
            else
                for (int d = 1; d <= degree; d++)
                    v = v * at + load(top - d * 2 * window);
            store(taps + h * L, v);
        }
    }
}
void taps(const float* table, int degree, const std::uint8_t* shift, const float* z, std::size_t n,
          float* taps) {
    switch (degree) {
    case 5:
        taps_impl<5>(table, degree, shift, z, n, taps);
        break;
    case 6:
        taps_impl<6>(table, degree, shift, z, n, taps);
        break;
    case 7:
        taps_impl<7>(table, degree, shift, z, n, taps);
        break;
    case 8:
        taps_impl<8>(table, degree, shift, z, n, taps);
        break;
    default:
        taps_impl<0>(table, degree, shift, z, n, taps);
    }
}

template <int From, std::size_t... I>
MRI_INLINE Vec quad_impl(Vec t, std::index_sequence<I...>) {
    return __builtin_shufflevector(t, t, int(From + I % 4)...);
}
/// numbers From..From+3 of a vector again and again
template <int From>
MRI_INLINE Vec quad(Vec t) {
    return quad_impl<From>(t, std::make_index_sequence<L>());
}
template <int J, std::size_t... I>
MRI_INLINE Vec splat_impl(Vec q, std::index_sequence<I...>) {
    return __builtin_shufflevector(q, q, int(I / 4 * 4 + J)...);
}
/// number J of a quad in all lanes; a shuffle within quads is cheaper here than a broadcast from memory,
/// since the loads and stores of the grid keep those units busy
template <int J>
MRI_INLINE Vec splat(Vec q) {
    return splat_impl<J>(q, std::make_index_sequence<L>());
}

template <int Count, int Row, std::size_t... K>
MRI_INLINE void spread_row(float* cell, const Vec (&v)[Count][row_vecs], const Vec (&q)[Count][2],
                           std::index_sequence<K...>) {
    Vec w[Count];
    for (int c = 0; c < Count; c++)
        w[c] = splat<Row % 4>(q[c][Row / 4]);
    auto one = [&](int k) __attribute__((always_inline)) {
        Vec sum = load(cell + k * L);
        for (int c = 0; c < Count; c++)
            sum += v[c][k] * w[c];
        store(cell + k * L, sum);
    };
    (one(int(K)), ...);
}
template <int Count, std::size_t... Row>
MRI_INLINE void spread_rows(float* cell, std::size_t stride, const Vec (&v)[Count][row_vecs],
                            const Vec (&q)[Count][2], std::index_sequence<Row...>) {
    (spread_row<Count, int(Row)>(cell + Row * stride, v, q, std::make_index_sequence<row_vecs>()), ...);
}

template <int Count>
void spread(const NufftPlan& plan, const float* samples, float* grid) {
    const Group* groups = plan.groups[Count - 1];
    std::size_t stride = 2 * std::size_t(plan.stride);
    for (int g = 0, n = plan.group_count[Count - 1]; g < n; g++) {
        const float* taps = plan.taps + std::size_t(groups[g].first) * 2 * window;
        const float* s = samples + 2 * std::size_t(groups[g].first);
        Vec v[Count][row_vecs], q[Count][2];
        for (int c = 0; c < Count; c++) {
            const float* t = taps + c * 2 * window;
            twice(t, v[c]);
            Vec value = pair(s + 2 * c);
            for (int k = 0; k < row_vecs; k++)
                v[c][k] *= value;
            q[c][0] = quad<window % L>(load(t + window / L * L));
            q[c][1] = quad<(window + 4) % L>(load(t + (window + 4) / L * L));
        }
        spread_rows<Count>(grid + 2 * std::size_t(groups[g].offset), stride, v, q,
                           std::make_index_sequence<window>());
    }
}

template <int S, std::size_t... J>
MRI_INLINE Vec fold_impl(Vec a, Vec b, std::index_sequence<J...>) {
    // element J of the result comes from segment (J % (L/2)) / (S/2) of a or b
    Vec lo = __builtin_shufflevector(
        a, b, int((J % (L / 2)) / (S / 2) * S + J % (S / 2) + (J >= L / 2 ? L : 0))...);
    Vec hi = __builtin_shufflevector(
        a, b, int((J % (L / 2)) / (S / 2) * S + J % (S / 2) + S / 2 + (J >= L / 2 ? L : 0))...);
    return lo + hi;
}
/// Adds the halves of each segment of S numbers; the segments of a come before those of b.
template <int S>
MRI_INLINE Vec fold_to(Vec a, Vec b) {
    return fold_impl<S>(a, b, std::make_index_sequence<L>());
}

template <int Count>
void interpolate(const NufftPlan& plan, const float* grid, float* samples) {
    const Group* groups = plan.groups[Count - 1];
    std::size_t stride = 2 * std::size_t(plan.stride);
    for (int g = 0, n = plan.group_count[Count - 1]; g < n; g++) {
        const float* taps = plan.taps + std::size_t(groups[g].first) * 2 * window;
        float* s = samples + 2 * std::size_t(groups[g].first);
        const float* cell = grid + 2 * std::size_t(groups[g].offset);
        Vec sum[Count][row_vecs] = {};
        for (int j = 0; j < window; j++, cell += stride)
            for (int k = 0; k < row_vecs; k++) {
                Vec v = load(cell + k * L);
                for (int c = 0; c < Count; c++)
                    sum[c][k] += v * taps[c * 2 * window + window + j];
            }
        Vec total[4];
        for (int c = 0; c < Count; c++) {
            Vec w[row_vecs];
            twice(taps + c * 2 * window, w);
            total[c] = sum[c][0] * w[0];
            for (int k = 1; k < row_vecs; k++)
                total[c] += sum[c][k] * w[k];
        }
        for (int c = Count; c < 4; c++)
            total[c] = total[0];
        alignas(64) float values[2 * L > 8 ? 2 * L : 8];
        if constexpr (L == 16) {
            Vec four = fold_to<8>(fold_to<16>(total[0], total[1]), fold_to<16>(total[2], total[3]));
            store(values, fold_to<4>(four, four));
        } else if constexpr (L == 8) {
            store(values, fold_to<4>(fold_to<8>(total[0], total[1]), fold_to<8>(total[2], total[3])));
        } else {
            store(values, fold_to<4>(total[0], total[1]));
            store(values + 4, fold_to<4>(total[2], total[3]));
        }
        __builtin_memcpy(s, values, 8 * Count);
    }
}

/// Adds what was spread into the padding to the cells it stands for (the grid is periodic).
void fold(const NufftPlan& plan, float* grid) {
    std::size_t stride = 2 * std::size_t(plan.stride);
    int gx = plan.x.cells, gy = plan.y.cells;
    for (int r = 0; r < gx + 2 * pad; r++) {
        float* row = grid + r * stride;
        for (int i = 0; i < 2 * pad; i++)
            row[2 * gy + i] += row[i];
        for (int i = 0; i < 2 * pad; i++)
            row[2 * pad + i] += row[2 * (pad + gy) + i];
    }
    for (int r = 0; r < pad; r++) {
        float *from = grid + r * stride, *to = from + gx * stride;
        for (int i = 2 * pad; i < 2 * (pad + gy); i++)
            to[i] += from[i];
    }
    for (int r = 0; r < pad; r++) {
        float *to = grid + (r + pad) * stride, *from = to + gx * stride;
        for (int i = 2 * pad; i < 2 * (pad + gy); i++)
            to[i] += from[i];
    }
}
/// The transpose of fold: copies the cells that the padding stands for into it.
void unfold(const NufftPlan& plan, float* grid) {
    std::size_t stride = 2 * std::size_t(plan.stride);
    int gx = plan.x.cells, gy = plan.y.cells;
    for (int r = 0; r < pad; r++) {
        __builtin_memcpy(grid + (gx + pad + r) * stride, grid + (pad + r) * stride, stride * sizeof(float));
        __builtin_memcpy(grid + r * stride, grid + (gx + r) * stride, stride * sizeof(float));
    }
    for (int r = 0; r < gx + 2 * pad; r++) {
        float* row = grid + r * stride;
        __builtin_memcpy(row + 2 * (pad + gy), row + 2 * pad, 2 * pad * sizeof(float));
        __builtin_memcpy(row, row + 2 * gy, 2 * pad * sizeof(float));
    }
}

/// product [n] complex = samples [n] complex times weights [n]
template <std::size_t... I>
MRI_INLINE void multiply(const float* samples, const float* weights, float* product, int n,
                         std::index_sequence<I...>) {
    int i = 0;
    for (; i + L <= n; i += L) {
        Vec w = load(weights + i);
        store(product + 2 * i, load(samples + 2 * i) * __builtin_shufflevector(w, w, int(I / 2)...));
        store(product + 2 * i + L,
              load(samples + 2 * i + L) * __builtin_shufflevector(w, w, int(I / 2 + L / 2)...));
    }
    for (; i < n; i++) {
        product[2 * i] = samples[2 * i] * weights[i];
        product[2 * i + 1] = samples[2 * i + 1] * weights[i];
    }
}

struct ToSlot {
    MRI_INLINE void operator()(const AxisPlan::Step&, C value, C& slot) const { slot = value; }
};

/// Both directions keep what lies between the passes in the grid itself, so that a coil stays in the cache: a
/// vector of L complex numbers, real parts first, takes the place of L neighbouring cells.
///
/// Adjoint: row L b + j holds, in place of cells k0.., pixels L b.. of column ky = k0 + j. Forward: row x
/// holds, in place of cells k0.., pixel x of columns k0...
void adjoint_grid(const NufftPlan& plan, const float* samples, const float* weights, float* scratch) {
    float* grid = scratch + plan.grid_at;
    C* line = reinterpret_cast<C*>(scratch + plan.line_at);
    std::size_t stride = 2 * std::size_t(plan.stride);
    int gx = plan.x.cells, gy = plan.y.cells, width = plan.x.pixels;

    __builtin_memset(grid, 0, sizeof(float) * stride * (gx + 2 * pad));
    if (weights) {
        float* weighted = scratch + plan.samples_at;
        multiply(samples, weights, weighted, plan.points, std::make_index_sequence<L>());
        samples = weighted;
    }
    spread<4>(plan, samples, grid);
    spread<3>(plan, samples, grid);
    spread<2>(plan, samples, grid);
    spread<1>(plan, samples, grid);
    if (plan.touches_pad)
        fold(plan, grid);

    float* origin = grid + pad * stride + 2 * pad;
    for (int k0 = 0; k0 < gy; k0 += L) {
        float* cell = origin + 2 * k0;
        C* out = line_transform(
            plan.x, line,
            [&](const AxisPlan::Step& s) {
                const float* c = cell + std::size_t(s.cell) * stride;
                return parts<true>(split(load(c), load(c + L)));
            },
            ToSlot());
        // the tables of the last block of pixels reach beyond the image: they are padded to whole blocks
        for (int x0 = 0; x0 < width; x0 += L)
            turn_tile(out, plan.x.pixel_slot + x0, plan.x.apod + x0, cell + std::size_t(x0) * stride, stride,
                      std::make_index_sequence<L>());
    }
}

/// The last pass of the adjoint transform of L columns of the image; put(offset in the image, value, lanes).
template <class Put>
MRI_INLINE void adjoint_columns(const NufftPlan& plan, int x0, float* scratch, Put put) {
    C* line = reinterpret_cast<C*>(scratch + plan.line_at);
    std::size_t stride = 2 * std::size_t(plan.stride);
    int width = plan.x.pixels, lanes = width - x0 < L ? width - x0 : L;
    const float* rows = scratch + plan.grid_at + (pad + std::size_t(x0)) * stride + 2 * pad;
    line_transform(
        plan.y, line,
        [&](const AxisPlan::Step& s) {
            auto k = unsigned(s.cell);
            const float* c = rows + std::size_t(k % L) * stride + k / L * 2 * L;
            return C{load(c), load(c + L)};
        },
        [&](const AxisPlan::Step& s, C value, C&) {
            if (s.pixel >= 0)
                put(2 * (std::size_t(s.pixel) * width + x0), parts<true>(value) * s.apod, lanes);
        });
}

void adjoint_store(const NufftPlan& plan, int x0, float* image, float* scratch) {
    adjoint_columns(plan, x0, scratch,
                    [&](std::size_t at, C value, int lanes) { store_some(image + at, value, lanes); });
}
void adjoint_add_product(const NufftPlan& plan, int x0, const float* map, float* image, float* scratch) {
    adjoint_columns(plan, x0, scratch, [&](std::size_t at, C value, int lanes) {
        C sum = load_some(image + at, lanes), m = load_some(map + at, lanes);
        sum.re += m.re * value.re + m.im * value.im;
        sum.im += m.re * value.im - m.im * value.re;
        store_some(image + at, sum, lanes);
    });
}
void adjoint_add_square(const NufftPlan& plan, int x0, float* image, float* scratch) {
    adjoint_columns(plan, x0, scratch, [&](std::size_t at, C value, int lanes) {
        C sum = load_some(image + at, lanes);
        sum.re += value.re * value.re + value.im * value.im;
        store_some(image + at, sum, lanes);
    });
}

void forward(const NufftPlan& plan, const float* image, float* samples, float* scratch) {
    float* grid = scratch + plan.grid_at;
    C* line = reinterpret_cast<C*>(scratch + plan.line_at);
    std::size_t stride = 2 * std::size_t(plan.stride);
    int gy = plan.y.cells, width = plan.x.pixels;

    float* origin = grid + pad * stride + 2 * pad;
    for (int x0 = 0; x0 < width; x0 += L) {
        int lanes = width - x0 < L ? width - x0 : L;
        const float* column_of_image = image + 2 * x0;
        C* out = line_transform(
            plan.y, line,
            [&](const AxisPlan::Step& s) {
                return s.pixel < 0
                           ? C{zero(), zero()}
                           : load_some(column_of_image + 2 * std::size_t(s.pixel) * width, lanes) * s.apod;
            },
            ToSlot());
        for (int k0 = 0; k0 < gy; k0 += L)
            turn_tile(out, plan.y.slot + k0, origin + std::size_t(x0) * stride + 2 * k0, stride,
                      std::make_index_sequence<L>());
    }
    for (int k0 = 0; k0 < gy; k0 += L) {
        float* cell = origin + 2 * k0;
        line_transform(
            plan.x, line,
            [&](const AxisPlan::Step& s) {
                if (s.pixel < 0)
                    return C{zero(), zero()};
                const float* c = cell + std::size_t(s.pixel) * stride;
                return C{load(c), load(c + L)} * s.apod;
            },
            [&](const AxisPlan::Step& s, C value, C&) {
                Vec a, b;
                merge(value, a, b);
                float* c = cell + std::size_t(s.cell) * stride;
                store(c, a);
                store(c + L, b);
            });
    }
    unfold(plan, grid);
    interpolate<4>(plan, grid, samples);
    interpolate<3>(plan, grid, samples);
    interpolate<2>(plan, grid, samples);
    interpolate<1>(plan, grid, samples);
}

} // namespace

const Kernels MRI_SIMD_TABLE = {
    MRI_SIMD_ISA, L,    adjoint_grid, adjoint_store, adjoint_add_product, adjoint_add_square, forward,
    place,        taps, columns,      rows};

} // namespace mri::simd
