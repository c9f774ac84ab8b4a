// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/math/recon/temporal_tv.hpp"

#include "plugins/math/base/arrays.hpp"
#include "plugins/math/base/error.hpp"
#include "plugins/math/base/sizes.hpp"
#include "plugins/math/base/threads.hpp"
#include "plugins/math/sampling/density.hpp"

#include <algorithm>
#include <cmath>
#include <deque>
#include <functional>
#include <string>
#include <vector>

namespace mri {

namespace {

/// 2^28 complex values are 2 GiB.
constexpr std::size_t most_values = std::size_t{1} << 28;

/// Conjugate gradient steps for the start. More of them begin to fill in what no frame has sampled: on real
/// cine 3 or 4 score best.
constexpr int start_steps = 3;

/// Conjugate gradient steps in each step of solve().
constexpr int gradient_steps_of_solve = 6;

/// The penalty of the alternating directions, beside eigenvalues of the data's part of up to 2. On real cine
/// 0.35 to 0.7 score alike.
constexpr float penalty = 0.5f;

} // namespace

struct TemporalTv::State {
    explicit State(const Options& o)
        : options(o),
          pixels(static_cast<std::size_t>(o.width) * static_cast<std::size_t>(o.height)),
          scale(static_cast<float>(density_scale(o.width, o.height))),
          on_gpu(o.device.kind == ComputeDevice::Kind::cuda),
          pool(on_gpu ? 1 : o.threads),
          scratch(static_cast<std::size_t>(pool.threads())) {}

    /// State of a frame of the window.
    struct Slot {
        DeviceNufft nufft;
        std::vector<cfloat> x;         ///< the image
        std::vector<cfloat> gradient;  ///< A^H W (y - A x) / (W H): the data's part of the residual
        std::vector<cfloat> residual;  ///< of the quadratic problem
        std::vector<cfloat> direction; ///< of conjugate gradients
        std::vector<cfloat> product;   ///< A^H W A direction / (W H)
        std::vector<cfloat> step;      ///< stands for x_t - x_(t-1)
        std::vector<cfloat> dual;      ///< scaled multiplier of step = x_t - x_(t-1)
        std::span<const float> weights;
    };
    struct Scratch {
        std::vector<cfloat> samples, difference;
    };

    Options options;
    std::size_t pixels;
    float scale;
    bool on_gpu;
    ThreadPool pool;
    std::vector<Scratch> scratch; ///< of a thread
    std::deque<Slot> slots;       ///< of the frames; may be more than `count`
    std::size_t count = 0;        ///< frames of the window
    int coils = 0;
    std::span<const cfloat> maps;
    std::vector<double> sums; ///< one a frame, so that their order is always the same

    void for_frames(const std::function<void(std::size_t frame, Scratch& scratch)>& body) {
        pool.parallel_for(static_cast<int>(count), [&](int frame, int worker) {
            body(static_cast<std::size_t>(frame), scratch[static_cast<std::size_t>(worker)]);
        });
    }

    double sum() const {
        double all = 0;
        for (std::size_t t = 0; t < count; ++t)
            all += sums[t];
        return all;
    }

    bool has_link(std::size_t t) const { return t > 0 || (options.cycle && count > 1); }
    Slot& before(std::size_t t) { return slots[t > 0 ? t - 1 : count - 1]; }
    std::size_t after(std::size_t t) const { return t + 1 < count ? t + 1 : 0; }

    /// out = 1 / (W H) sum over c of S_c^H A^H W (y_c - A S_c x), or of A S_c x when `data` is null.
    void normal(Slot& slot, Scratch& s, const cfloat* data, const cfloat* x, cfloat* out) {
        s.samples.resize(static_cast<std::size_t>(coils) * slot.nufft.points());
        if (maps.empty())
            slot.nufft.forward(x, s.samples.data(), 1);
        else
            slot.nufft.forward_sense(x, s.samples.data());
        if (data)
            arrays::scale_and_add(s.samples.data(), -1, data, s.samples.size());
        if (maps.empty())
            slot.nufft.adjoint(s.samples.data(), slot.weights, out, 1);
        else
            slot.nufft.adjoint_sense(s.samples.data(), slot.weights, out);
        arrays::scale(out, scale, pixels);
    }

    void resize(Slot& slot) const {
        for (auto* values : {&slot.x, &slot.gradient, &slot.residual, &slot.direction, &slot.product,
                             &slot.step, &slot.dual})
            values->resize(pixels);
    }

    /// Slots for `frames`, of which the last `fresh` take their trajectories.
    void take(std::span<const SampledFrame> frames, std::size_t fresh, bool new_maps) {
        count = frames.size();
        sums.assign(count, 0);
        while (slots.size() < count) {
            const int inner = on_gpu ? options.threads : 1;
            Slot& slot = slots.emplace_back(DeviceNufft(options.width, options.height,
                                                        {.tolerance = options.tolerance, .threads = inner},
                                                        options.device));
            resize(slot);
        }
        for_frames([&](std::size_t t, Scratch&) {
            slots[t].weights = frames[t].weights;
            if (!maps.empty() && (new_maps || t + fresh >= count))
                slots[t].nufft.set_sensitivities(maps.data(), coils);
            if (t + fresh < count)
                return;
            slots[t].nufft.set_points(frames[t].kxy);
            std::fill(slots[t].step.begin(), slots[t].step.end(), cfloat{});
            std::fill(slots[t].dual.begin(), slots[t].dual.end(), cfloat{});
        });
    }

    /// One image for all frames: a few steps of conjugate gradients from zero on the sum of their problems.
    void start(std::span<const SampledFrame> frames) {
        std::vector<cfloat> still(pixels), residual(pixels), direction(pixels), product(pixels);
        const auto sum_of_products = [&](std::vector<cfloat>& out) {
            std::fill(out.begin(), out.end(), cfloat{});
            for (std::size_t t = 0; t < count; ++t)
                arrays::add_scaled(out.data(), 1, slots[t].product.data(), pixels);
        };
        for_frames([&](std::size_t t, Scratch& s) {
            normal(slots[t], s, frames[t].samples.data(), still.data(), slots[t].product.data());
        });
        sum_of_products(residual);
        direction = residual;
        double power = arrays::dot(residual.data(), residual.data(), pixels);
        for (int k = 0; k < start_steps && power > 0; ++k) {
            for_frames([&](std::size_t t, Scratch& s) {
                normal(slots[t], s, nullptr, direction.data(), slots[t].product.data());
            });
            sum_of_products(product);
            const double curvature = arrays::dot(direction.data(), product.data(), pixels);
            if (!(curvature > 0))
                break;
            const float length = static_cast<float>(power / curvature);
            arrays::add_scaled(still.data(), length, direction.data(), pixels);
            arrays::add_scaled(residual.data(), -length, product.data(), pixels);
            const double next = arrays::dot(residual.data(), residual.data(), pixels);
            arrays::scale_and_add(direction.data(), static_cast<float>(next / power), residual.data(),
                                  pixels);
            power = next;
        }
        for_frames([&](std::size_t t, Scratch&) { slots[t].x = still; });
    }

    void find_gradients(std::span<const SampledFrame> frames, std::size_t first) {
        for_frames([&](std::size_t t, Scratch& s) {
            if (t >= first)
                normal(slots[t], s, frames[t].samples.data(), slots[t].x.data(), slots[t].gradient.data());
        });
    }

    /// x = argmin of the data's part + penalty / 2 sum over t of |x_t - x_(t-1) - step_t + dual_t|^2, from
    /// the last x on, by conjugate gradients (Hestenes and Stiefel).
    void solve_quadratic(int steps) {
        for_frames([&](std::size_t t, Scratch&) {
            Slot& slot = slots[t];
            slot.residual = slot.gradient;
            for (const std::size_t link : {t, after(t)}) {
                if (!has_link(link))
                    continue;
                const Slot& to = slots[link];
                const float* x = arrays::floats(to.x.data());
                const float* y = arrays::floats(before(link).x.data());
                const float* step = arrays::floats(to.step.data());
                const float* dual = arrays::floats(to.dual.data());
                float* out = arrays::floats(slot.residual.data());
                const float sign = link == t ? penalty : -penalty;
                for (std::size_t i = 0; i < 2 * pixels; ++i)
                    out[i] += sign * (step[i] - dual[i] - (x[i] - y[i]));
            }
            slot.direction = slot.residual;
            sums[t] = arrays::dot(slot.residual.data(), slot.residual.data(), pixels);
        });
        double power = sum();
        for (int k = 0; k < steps && power > 0; ++k) {
            for_frames([&](std::size_t t, Scratch& s) {
                Slot& slot = slots[t];
                normal(slot, s, nullptr, slot.direction.data(), slot.product.data());
                sums[t] = arrays::dot(slot.direction.data(), slot.product.data(), pixels);
                if (!has_link(t))
                    return;
                s.difference.resize(pixels);
                arrays::subtract_scaled(s.difference.data(), slot.direction.data(), 1,
                                        before(t).direction.data(), pixels);
                sums[t] += penalty * arrays::dot(s.difference.data(), s.difference.data(), pixels);
            });
            const double curvature = sum();
            if (!(curvature > 0))
                break;
            const float length = static_cast<float>(power / curvature);
            for_frames([&](std::size_t t, Scratch&) {
                Slot& slot = slots[t];
                arrays::add_scaled(slot.x.data(), length, slot.direction.data(), pixels);
                arrays::add_scaled(slot.gradient.data(), -length, slot.product.data(), pixels);
                arrays::add_scaled(slot.residual.data(), -length, slot.product.data(), pixels);
                for (const std::size_t link : {t, after(t)}) {
                    if (!has_link(link))
                        continue;
                    const float* a = arrays::floats(slots[link].direction.data());
                    const float* b = arrays::floats(before(link).direction.data());
                    float* out = arrays::floats(slot.residual.data());
                    const float factor = (link == t ? -length : length) * penalty;
                    for (std::size_t i = 0; i < 2 * pixels; ++i)
                        out[i] += factor * (a[i] - b[i]);
                }
                sums[t] = arrays::dot(slot.residual.data(), slot.residual.data(), pixels);
            });
            const double next = sum();
            const float keep = static_cast<float>(next / power);
            power = next;
            for_frames([&](std::size_t t, Scratch&) {
                arrays::scale_and_add(slots[t].direction.data(), keep, slots[t].residual.data(), pixels);
            });
        }
    }

    /// step = shrink(x_t - x_(t-1) + dual), dual += x_t - x_(t-1) - step.
    void shrink(float threshold) {
        for_frames([&](std::size_t t, Scratch&) {
            if (!has_link(t))
                return;
            const float* x = arrays::floats(slots[t].x.data());
            const float* y = arrays::floats(before(t).x.data());
            float* step = arrays::floats(slots[t].step.data());
            float* dual = arrays::floats(slots[t].dual.data());
            for (std::size_t i = 0; i < 2 * pixels; i += 2) {
                const float re = x[i] - y[i] + dual[i];
                const float im = x[i + 1] - y[i + 1] + dual[i + 1];
                // The dual is what the threshold takes; the floor keeps the division of 0 by 0 away.
                const float size = std::sqrt(re * re + im * im);
                const float taken = std::min(1.0f, threshold / std::max(size, 1e-30f));
                dual[i] = re * taken;
                dual[i + 1] = im * taken;
                step[i] = re - dual[i];
                step[i + 1] = im - dual[i + 1];
            }
        });
    }

    void iterate(double lambda, int steps, int gradient_steps) {
        for (int k = 0; k < steps; ++k) {
            solve_quadratic(gradient_steps);
            shrink(static_cast<float>(lambda) / penalty);
        }
    }

    void check(std::span<const SampledFrame> frames, int of_coils, std::span<const cfloat> of_maps,
               double lambda) const {
        checked_product({frames.size(), pixels}, most_values, "a window of images");
        if (of_coils < 1 || frames.empty() ||
            (of_maps.empty() ? of_coils != 1 : of_maps.size() != pixels * static_cast<std::size_t>(of_coils)))
            throw Error(Errc::format, "the sensitivities and frames of a window do not fit each other");
        if (!(lambda >= 0) || !std::isfinite(lambda))
            throw Error(Errc::settings, "the weight of a temporal variation cannot be negative");
        for (std::size_t t = 0; t < frames.size(); ++t) {
            const std::size_t points = frames[t].kxy.size() / 2;
            if (points == 0 || frames[t].weights.size() != points ||
                frames[t].samples.size() != points * static_cast<std::size_t>(of_coils))
                throw Error(Errc::format, "frame " + std::to_string(t) + " of a window has " +
                                              std::to_string(points) + " points, " +
                                              std::to_string(frames[t].weights.size()) + " weights and " +
                                              std::to_string(frames[t].samples.size()) + " samples");
        }
    }
};

TemporalTv::TemporalTv(const Options& options) {
    if (options.width < 1 || options.height < 1 || options.iterations < 1)
        throw Error(Errc::settings, "a temporal variation needs an image size and at least one iteration");
    state_ = std::make_unique<State>(options);
}
TemporalTv::~TemporalTv() = default;
TemporalTv::TemporalTv(TemporalTv&&) noexcept = default;
TemporalTv& TemporalTv::operator=(TemporalTv&&) noexcept = default;

void TemporalTv::solve(std::span<const SampledFrame> frames, int coils, std::span<const cfloat> maps,
                       double lambda) {
    State& s = *state_;
    s.check(frames, coils, maps, lambda);
    s.coils = coils;
    s.maps = maps;
    s.take(frames, frames.size(), true);
    s.start(frames);
    s.find_gradients(frames, 0);
    s.iterate(lambda, s.options.iterations, gradient_steps_of_solve);
}

void TemporalTv::slide(std::span<const SampledFrame> frames, std::size_t fresh, int coils,
                       std::span<const cfloat> maps, bool new_maps, double lambda, int steps,
                       int gradient_steps) {
    State& s = *state_;
    if (s.options.cycle)
        throw Error(Errc::settings, "a window cannot slide over frames that are a cycle");
    if (steps < 1 || gradient_steps < 1)
        throw Error(Errc::settings, "a window that slides needs at least one step");
    const std::size_t kept = frames.size() - std::min(fresh, frames.size());
    if (kept == 0 || kept > s.count || coils != s.coils) {
        solve(frames, coils, maps, lambda);
        return;
    }
    s.check(frames, coils, maps, lambda);
    for (std::size_t gone = s.count - kept; gone > 0; --gone) {
        s.slots.push_back(std::move(s.slots.front()));
        s.slots.pop_front();
    }
    // Nothing comes before the first frame: what linked it to the one that has left goes too.
    std::fill(s.slots.front().step.begin(), s.slots.front().step.end(), cfloat{});
    std::fill(s.slots.front().dual.begin(), s.slots.front().dual.end(), cfloat{});
    s.maps = maps;
    s.take(frames, fresh, new_maps);
    for (std::size_t t = kept; t < s.count; ++t)
        s.slots[t].x = s.slots[kept - 1].x;
    s.find_gradients(frames, new_maps ? 0 : kept);
    s.iterate(lambda, steps, gradient_steps);
}

std::span<const cfloat> TemporalTv::image(std::size_t index) const {
    if (index >= state_->count)
        throw Error(Errc::failed, "the window has no frame " + std::to_string(index));
    return state_->slots[index].x;
}

} // namespace mri
