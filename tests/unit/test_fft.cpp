// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/math/base/error.hpp"
#include "plugins/math/base/processor.hpp"
#include "plugins/math/transform/fft.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <complex>
#include <cstring>
#include <numbers>
#include <random>
#include <tuple>
#include <vector>

using namespace mri;
using cdouble = std::complex<double>;

namespace {

std::vector<cfloat> random_image(std::size_t n, unsigned seed) {
    std::mt19937 gen(seed);
    std::normal_distribution<float> d;
    std::vector<cfloat> v(n);
    for (auto& c : v)
        c = {d(gen), d(gen)};
    return v;
}

/// Two-dimensional transform by its definition, in double precision; `origin` is the index of both domains'
/// zero.
std::vector<cdouble> direct(const std::vector<cfloat>& m, int w, int h, bool centred, int sign) {
    auto line = [&](const cdouble* in, cdouble* out, int n, std::size_t step) {
        int c = centred ? n / 2 : 0;
        std::vector<cdouble> roots, copy;
        for (int i = 0; i < n; i++) {
            roots.push_back(std::polar(1.0, sign * 2 * std::numbers::pi * i / n));
            copy.push_back(in[std::size_t(i) * step]);
        }
        for (int k = 0; k < n; k++) {
            cdouble sum = 0;
            for (int i = 0; i < n; i++) {
                long p = long(k - c) * (i - c) % n;
                sum += copy[std::size_t(i)] * roots[std::size_t(p < 0 ? p + n : p)];
            }
            out[std::size_t(k) * step] = sum;
        }
    };
    std::vector<cdouble> a(m.begin(), m.end());
    for (int y = 0; y < h; y++)
        line(&a[std::size_t(y) * std::size_t(w)], &a[std::size_t(y) * std::size_t(w)], w, 1);
    for (int x = 0; x < w; x++)
        line(&a[std::size_t(x)], &a[std::size_t(x)], h, std::size_t(w));
    return a;
}

template <class A, class B>
double relative_error(const A& a, const B& exact) {
    double num = 0, den = 0;
    for (std::size_t i = 0; i < a.size(); i++) {
        num += std::norm(cdouble(a[i]) - cdouble(exact[i]));
        den += std::norm(cdouble(exact[i]));
    }
    return std::sqrt(num / den);
}

struct EveryIsa : testing::TestWithParam<Isa> {
    void SetUp() override { processor::select(GetParam()); }
    void TearDown() override { processor::select(processor::available().back()); }
};

// The error of a float32 transform grows like eps sqrt(log2 n) with eps = 6e-8 for passes of good rounding
// behaviour (Gentleman and Sande 1966, with twiddles correct to half a unit): 4 eps per axis is 5e-7 in two
// dimensions at n = 2^10. Direct odd radices add up to 31 products, and Bluestein's method runs two
// transforms and three products: 1e-6 holds all of them.
constexpr double rounding = 1e-6;

TEST_P(EveryIsa, MatchesTheDefinition) {
    for (auto [w, h] : {std::pair{1, 1},
                        {2, 3},
                        {4, 5},
                        {7, 8},
                        {9, 16},
                        {15, 32},
                        {33, 14},
                        {49, 30},
                        {64, 60},
                        {11, 13},
                        {22, 39},
                        {17, 31},
                        {37, 64},
                        {74, 101},
                        {240, 20},
                        {20, 320},
                        {192, 24}}) {
        SCOPED_TRACE(testing::Message() << w << "x" << h);
        auto m = random_image(std::size_t(w * h), unsigned(w * 1000 + h));
        for (bool centred : {false, true}) {
            Fft2d fft(w, h);
            auto a = m, b = m;
            fft.forward(a.data(), centred);
            EXPECT_LT(relative_error(a, direct(m, w, h, centred, -1)), rounding);
            fft.inverse(b.data(), centred);
            EXPECT_LT(relative_error(b, direct(m, w, h, centred, +1)), rounding);
        }
    }
}

TEST_P(EveryIsa, EveryLengthUpTo130) {
    for (int n = 1; n <= 130; n++) {
        SCOPED_TRACE(n);
        auto m = random_image(std::size_t(n) * 3, unsigned(n));
        Fft2d fft(n, 3), tall(3, n);
        auto a = m, b = m;
        fft.forward(a.data(), false);
        tall.forward(b.data(), true);
        EXPECT_LT(relative_error(a, direct(m, n, 3, false, -1)), rounding);
        EXPECT_LT(relative_error(b, direct(m, 3, n, true, -1)), rounding);
    }
}

TEST_P(EveryIsa, InverseUndoesForward) {
    for (auto [w, h] : {std::pair{256, 192}, {210, 127}, {1, 400}}) {
        auto m = random_image(std::size_t(w * h), 3), a = m;
        Fft2d fft(w, h);
        fft.forward(a.data(), true);
        fft.inverse(a.data(), true);
        for (auto& c : a)
            c /= float(w * h);
        EXPECT_LT(relative_error(a, m), rounding) << w << "x" << h;
    }
}

TEST_P(EveryIsa, ThreadsChangeNothing) {
    auto m = random_image(150 * 96, 4), a = m, b = m;
    Fft2d one(150, 96, 1), three(150, 96, 3);
    one.forward(a.data(), true);
    three.forward(b.data(), true);
    EXPECT_EQ(0, std::memcmp(a.data(), b.data(), a.size() * sizeof(cfloat)));
}

TEST_P(EveryIsa, ChirpsGiveTheSumsBetweenThePixels) {
    // Rounding of two transforms of the next power of two, and three products: as Bluestein's lengths above.
    for (const auto& [from, to, period] : {std::tuple{154, 128, 153.6},
                                           {128, 128, 128.0},
                                           {9, 16, 12.3},
                                           {64, 31, 40.5},
                                           {1, 7, 3.7},
                                           {20, 1, 19.1}}) {
        constexpr int lines = 5;
        const auto input = random_image(std::size_t(from) * lines, 5);
        std::vector<cdouble> exact(std::size_t(to) * lines);
        for (int line = 0; line < lines; line++)
            for (int n = 0; n < to; n++)
                for (int j = 0; j < from; j++)
                    exact[std::size_t(line * to + n)] +=
                        cdouble(input[std::size_t(line * from + j)]) *
                        std::polar(1.0, 2 * std::numbers::pi * (j - from / 2) * (n - to / 2) / period);
        std::vector<cfloat> turned(input.size()), found(exact.size()), columns(exact.size()),
            back(exact.size());
        for (int line = 0; line < lines; line++)
            for (int j = 0; j < from; j++)
                turned[std::size_t(j * lines + line)] = input[std::size_t(line * from + j)];
        ChirpTransform chirp(from, to, period, 2);
        chirp.rows(input.data(), lines, found.data());
        chirp.columns(turned.data(), lines, columns.data());
        for (int line = 0; line < lines; line++)
            for (int n = 0; n < to; n++)
                back[std::size_t(line * to + n)] = columns[std::size_t(n * lines + line)];
        EXPECT_LT(relative_error(found, exact), rounding) << from << " " << to << " " << period;
        EXPECT_LT(relative_error(back, exact), rounding) << from << " " << to << " " << period;
    }
}

INSTANTIATE_TEST_SUITE_P(Simd, EveryIsa, testing::ValuesIn(processor::available()),
                         [](const auto& i) { return std::string(processor::name(i.param)); });

TEST(Fft, RefusesBadSizes) {
    EXPECT_THROW(Fft2d(0, 5), Error);
    EXPECT_THROW(Fft2d(5, -1), Error);
    EXPECT_THROW(Fft2d((1 << 20) + 1, 1), Error);
    EXPECT_THROW(Fft2d(5, 5, -1), Error);
}

TEST(Chirp, RefusesBadSizes) {
    EXPECT_THROW(ChirpTransform(0, 4, 5), Error);
    EXPECT_THROW(ChirpTransform(4, 0, 5), Error);
    EXPECT_THROW(ChirpTransform(4, 4, 0), Error);
    EXPECT_THROW(ChirpTransform(4, 4, NAN), Error);
    EXPECT_THROW(ChirpTransform(1 << 20, 4, 5), Error);
}

TEST(Simd, RefusesUnknownNames) {
    // the override of select() would hide the variable, so ask in a child that has made no choice yet
    EXPECT_EXIT(
        {
            setenv("GST_MRI_ISA", "sse9", 1);
            try {
                processor::selected();
            } catch (const Error& e) {
                std::exit(std::string(e.what()).find("sse9") != std::string::npos ? 7 : 8);
            }
            std::exit(0);
        },
        testing::ExitedWithCode(7), "");
}

} // namespace
