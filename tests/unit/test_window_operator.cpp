// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/math/base/arrays.hpp"
#include "plugins/math/base/error.hpp"
#include "plugins/math/recon/network_start.hpp"
#include "plugins/math/recon/window_operator.hpp"
#include "plugins/math/sampling/trajectory.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numbers>
#include <random>
#include <vector>

using namespace mri;

namespace {

using cdouble = std::complex<double>;

constexpr int width = 14, height = 10, frames = 3;
constexpr std::size_t pixels = width * height;

/// Random samples at random places, another number in each frame.
struct Window {
    explicit Window(int coils_, unsigned seed = 1) : coils(coils_) {
        std::mt19937 engine(seed);
        std::normal_distribution<float> normal;
        std::uniform_real_distribution<float> unit(-0.5f, 0.5f);
        for (int t = 0; t < frames; ++t) {
            const std::size_t points = 40 + 7 * static_cast<std::size_t>(t);
            auto& k = kxy.emplace_back();
            for (std::size_t i = 0; i < points; ++i) {
                k.push_back(unit(engine) * width);
                k.push_back(unit(engine) * height);
            }
            auto& w = weights.emplace_back();
            for (std::size_t i = 0; i < points; ++i)
                w.push_back(0.1f + std::abs(normal(engine)));
            auto& y = samples.emplace_back();
            for (std::size_t i = 0; i < points * static_cast<std::size_t>(coils); ++i)
                y.emplace_back(normal(engine), normal(engine));
        }
        if (coils > 1)
            for (std::size_t i = 0; i < pixels * static_cast<std::size_t>(coils); ++i)
                maps.emplace_back(normal(engine), normal(engine));
        for (std::size_t i = 0; i < frames * pixels; ++i)
            x.emplace_back(normal(engine), normal(engine));
    }

    std::vector<SampledFrame> views() const {
        std::vector<SampledFrame> out;
        for (int t = 0; t < frames; ++t)
            out.push_back({kxy[t], samples[t], weights[t]});
        return out;
    }

    cdouble map(int coil, std::size_t pixel) const {
        return maps.empty() ? cdouble(1) : cdouble(maps[static_cast<std::size_t>(coil) * pixels + pixel]);
    }
    cdouble wave(int t, std::size_t point, std::size_t pixel) const {
        const double px = static_cast<double>(pixel % width) - width / 2,
                     py = static_cast<double>(pixel / width) - height / 2;
        return std::polar(1.0, -2 * std::numbers::pi *
                                   (kxy[t][2 * point] * px / width + kxy[t][2 * point + 1] * py / height));
    }
    /// A S x of one frame: [coil][point].
    std::vector<cdouble> forward(int t) const {
        const std::size_t points = weights[t].size();
        std::vector<cdouble> out(points * static_cast<std::size_t>(coils));
        for (int c = 0; c < coils; ++c)
            for (std::size_t i = 0; i < points; ++i)
                for (std::size_t p = 0; p < pixels; ++p)
                    out[static_cast<std::size_t>(c) * points + i] +=
                        wave(t, i, p) * map(c, p) * cdouble(x[static_cast<std::size_t>(t) * pixels + p]);
        return out;
    }
    /// 1 / (W H) sum over coils of conj(S) A^H W y.
    std::vector<cdouble> adjoint(int t, const std::vector<cdouble>& y) const {
        const std::size_t points = weights[t].size();
        std::vector<cdouble> out(pixels);
        for (int c = 0; c < coils; ++c)
            for (std::size_t p = 0; p < pixels; ++p)
                for (std::size_t i = 0; i < points; ++i)
                    out[p] += std::conj(map(c, p) * wave(t, i, p)) * double(weights[t][i]) *
                              y[static_cast<std::size_t>(c) * points + i] / double(pixels);
        return out;
    }

    int coils;
    std::vector<std::vector<float>> kxy, weights;
    std::vector<std::vector<cfloat>> samples;
    std::vector<cfloat> maps, x;
};

double relative_error(const cfloat* values, const std::vector<cdouble>& exact) {
    double error = 0, power = 0;
    for (std::size_t i = 0; i < exact.size(); ++i) {
        error += std::norm(cdouble(values[i]) - exact[i]);
        power += std::norm(exact[i]);
    }
    return std::sqrt(error / power);
}

TEST(WindowOperator, AgreesWithExactSums) {
    for (const int coils : {1, 3}) {
        const Window w(coils);
        WindowOperator data({.width = width, .height = height, .tolerance = 1e-5});
        data.set_window(w.views(), coils, w.maps);
        ASSERT_EQ(data.frames(), 3U);
        std::vector<cfloat> out(w.x.size());
        data.normal(w.x, out);
        const auto residual = data.residual(w.x, out);
        for (int t = 0; t < frames; ++t) {
            const std::vector<cdouble> y(w.samples[t].begin(), w.samples[t].end());
            const std::vector<cdouble> predicted = w.forward(t);
            const std::size_t at = static_cast<std::size_t>(t) * pixels;
            // Two transforms of 1e-5 each; the random samples leave no component much smaller than another.
            EXPECT_LT(relative_error(data.right().data() + at, w.adjoint(t, y)), 3e-5)
                << coils << " coils, frame " << t;
            EXPECT_LT(relative_error(out.data() + at, w.adjoint(t, predicted)), 3e-5)
                << coils << " coils, frame " << t;
            double rest = 0, power = 0, area = 0;
            for (std::size_t i = 0; i < y.size(); ++i) {
                const double weight = w.weights[t][i % w.weights[t].size()];
                rest += weight * std::norm(predicted[i] - y[i]);
                power += weight * std::norm(y[i]);
                area += weight;
            }
            // Sums of like size, so that nothing cancels: the transforms' errors again.
            EXPECT_NEAR(residual[t].relative, std::sqrt(rest / power), 1e-4 * std::sqrt(rest / power));
            EXPECT_NEAR(residual[t].rms, std::sqrt(rest / area), 1e-4 * std::sqrt(rest / area));
        }
    }
}

TEST(WindowOperator, IsSelfAdjointAndTheSameOnAnyNumberOfThreads) {
    const Window w(3), other(3, 2);
    WindowOperator one({.width = width, .height = height}),
        four({.width = width, .height = height, .threads = 4});
    std::vector<cfloat> a(w.x.size()), b(w.x.size()), c(w.x.size());
    one.set_window(w.views(), 3, w.maps);
    one.normal(w.x, a);
    one.normal(other.x, c);
    four.set_window(w.views(), 3, w.maps);
    four.normal(w.x, b);
    EXPECT_EQ(a, b);
    EXPECT_TRUE(std::equal(one.right().begin(), one.right().end(), four.right().begin()));
    cdouble left = 0, right = 0;
    double size = 0;
    for (std::size_t i = 0; i < a.size(); ++i) {
        left += std::conj(cdouble(other.x[i])) * cdouble(a[i]);
        right += std::conj(cdouble(c[i])) * cdouble(w.x[i]);
        size += std::abs(cdouble(other.x[i]) * cdouble(a[i]));
    }
    // Both directions use the same kernel weights: float32 rounding (6e-8) of a few hundred terms is left.
    EXPECT_LT(std::abs(left - right), 1e-5 * size);
}

/// Threads share out the coils of a lone frame, and the frames of a window: the same bits.
TEST(WindowOperator, AFrameAloneIsWhatItIsInAWindow) {
    for (const int coils : {1, 3}) {
        const Window w(coils);
        WindowOperator window({.width = width, .height = height, .threads = 2}),
            alone({.width = width, .height = height, .threads = 3});
        window.set_window(w.views(), coils, w.maps);
        std::vector<cfloat> all(w.x.size()), one(pixels);
        window.normal(w.x, all);
        const std::vector<cfloat> right(window.right().begin(), window.right().end());
        for (std::size_t t = 0; t < frames; ++t) {
            const auto views = w.views();
            alone.set_window(std::span(views).subspan(t, 1), coils, w.maps);
            alone.normal(std::span(w.x).subspan(t * pixels, pixels), one);
            EXPECT_TRUE(
                std::equal(one.begin(), one.end(), all.begin() + static_cast<std::ptrdiff_t>(t * pixels)))
                << coils << " coils, frame " << t;
            EXPECT_TRUE(std::equal(alone.right().begin(), alone.right().end(),
                                   right.begin() + static_cast<std::ptrdiff_t>(t * pixels)));
            window.set_window(w.views(), coils, w.maps); // from one to several and back
        }
    }
}

TEST(WindowOperator, OneErrorForWhatDoesNotFit) {
    EXPECT_THROW(WindowOperator({.width = 0, .height = 4}), Error);
    WindowOperator data({.width = width, .height = height});
    Window w(3);
    std::vector<cfloat> out(w.x.size());
    EXPECT_THROW(data.set_window(w.views(), 3, {}), Error);
    EXPECT_THROW(data.set_window(w.views(), 1, {}), Error) << "three coils' samples for one coil";
    EXPECT_THROW(data.set_window(w.views(), 0, {}), Error);
    auto views = w.views();
    views[1].weights = {};
    EXPECT_THROW(data.set_window(views, 3, w.maps), Error);
    w.samples[2][5] = std::numeric_limits<float>::quiet_NaN();
    EXPECT_THROW(data.set_window(w.views(), 3, w.maps), Error);
    const Window good(3);
    data.set_window(good.views(), 3, good.maps);
    EXPECT_THROW(data.normal(std::span(good.x).first(10), out), Error);
    EXPECT_NO_THROW(data.normal(good.x, out));
}

} // namespace

TEST(WindowOperator, SpokesUponEachOtherKeepItsNorm) {
    constexpr int n = 48, length = 2 * n;
    ReconstructionSpace space;
    space.width = space.height = n;
    space.trajectory = Trajectory::radial;
    for (const int spokes : {3, 13})
        for (const double strip_limit : {1.0, 2.0})
            for (const bool turning : {true, false}) {
                std::vector<float> kxy(2 * static_cast<std::size_t>(spokes) * length);
                for (int s = 0; s < spokes; ++s)
                    radial_spoke(turning ? spoke_angle(AngleScheme::tiny_golden, 7,
                                                       static_cast<std::uint64_t>(s), spokes)
                                         : 0.3,
                                 length, n, kxy.data() + 2 * static_cast<std::size_t>(s) * length);
                const std::vector<cfloat> samples(kxy.size() / 2, cfloat(1));
                const SampledFrame bare(kxy, samples, {}, spokes);
                const auto areas = network_areas(space, {&bare, 1}, strip_limit);
                const SampledFrame frame = bare.with(areas[0]);
                EXPECT_EQ(crowding(frame) > crowded, !turning);
                if (!turning) {
                    EXPECT_NEAR(crowding(frame), spokes, 1e-3 * spokes);
                }
                WindowOperator op({.width = n, .height = n});
                op.set_window({&frame, 1}, 1, {});
                std::mt19937 engine(2);
                std::normal_distribution<float> normal;
                std::vector<cfloat> x(n * n), y(n * n);
                for (cfloat& value : x)
                    value = {normal(engine), normal(engine)};
                double norm = 0;
                for (int k = 0; k < 20; ++k) {
                    op.normal(x, y);
                    norm = std::sqrt(arrays::dot(y.data(), y.data(), y.size()) /
                                     arrays::dot(x.data(), x.data(), x.size()));
                    x = y;
                }
                // One spoke of strips of that width, whose samples overlap a little.
                EXPECT_LT(norm, 2 * strip_limit) << spokes << " " << turning;
                EXPECT_GT(norm, 0.8 * strip_limit) << spokes << " " << turning;
            }
}
