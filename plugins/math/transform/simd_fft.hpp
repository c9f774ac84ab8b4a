// SPDX-License-Identifier: LGPL-2.1-or-later
// Fourier transforms of a line in each lane, of any length, and of the rows and columns of an image.
// Included by simd_impl.hpp, once per instruction set; the rules that stand there hold here too.
#pragma once

#include "plugins/math/transform/simd.hpp"
#include "plugins/math/transform/simd_vector.hpp"

#include <cstddef>
#include <cstdint>
#include <utility>

namespace mri::simd {
namespace {

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

} // namespace
} // namespace mri::simd
