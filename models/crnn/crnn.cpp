// SPDX-License-Identifier: LGPL-2.1-or-later
#include "models/crnn/crnn.hpp"
#include "models/torch/trained_module.hpp"

#include "models/crnn/layout.hpp"
#include "models/crnn/planes.hpp"
#include "models/files/torch_state_dict.hpp"
#include "models/torch/data_consistency.hpp"
#include "models/torch/runtime.hpp"
#include "plugins/math/base/error.hpp"
#include "plugins/math/base/sizes.hpp"

#include <algorithm>
#include <c10/core/InferenceMode.h>
#include <cmath>
#include <cstring>
#include <limits>
#include <optional>
#include <utility>
#include <vector>

namespace mri {

namespace {

constexpr std::size_t max_window_values = std::size_t{1} << 30;

using Parameters = std::map<std::string, at::Tensor>;

const char* name_of(CrnnPreset preset) {
    return preset == CrnnPreset::seed ? "seed" : "reference";
}

at::Tensor complex_tensor(std::span<const std::complex<float>> values, const WindowShape& shape) {
    at::Tensor out = at::empty({shape.frames, shape.height, shape.width}, at::kComplexFloat);
    std::memcpy(out.data_ptr(), values.data(), values.size_bytes());
    return out;
}

std::span<std::complex<float>> complex_values(const at::Tensor& contiguous) {
    return {static_cast<std::complex<float>*>(contiguous.data_ptr()),
            static_cast<std::size_t>(contiguous.numel())};
}

bool finite(std::span<const std::complex<float>> values) {
    return std::all_of(values.begin(), values.end(), [](const std::complex<float>& v) {
        return std::isfinite(v.real()) && std::isfinite(v.imag());
    });
}

void check_shape(const WindowShape& shape, std::int64_t filters) {
    if (shape.frames < 1 || shape.height < 1 || shape.width < 1)
        throw Error(Errc::format, "a window without pixels cannot be computed");
    checked_product(
        {static_cast<std::size_t>(shape.frames), shape.pixels(), static_cast<std::size_t>(filters)},
        max_window_values, "a network's window");
}

} // namespace

struct Crnn::State {
    /// Memory of a causal network: the frame before.
    struct Memory {
        std::vector<at::Tensor> hidden; ///< the cell's [1, C, H, W], of each iteration; empty: 0
        PlaneCrnnMemory planes;
    };

    State(const TensorFile& file, const std::string& name, const CrnnOptions& o, const RunOptions& r)
        : options(o),
          run(r),
          device(open_device(r.device)),
          type(compute_type(r.precision, device)),
          metadata(file.metadata),
          layout(crnn_layout_of(file, name)) {
        if (options.preset != CrnnPreset::automatic && options.preset != layout.preset)
            throw Error(Errc::settings, "the weights file '" + name + "' is of the preset '" +
                                            name_of(layout.preset) + "', not '" + name_of(options.preset) +
                                            "' as was asked for");
        options.causal = options.causal || layout.causal;
        const bool seed = layout.preset == CrnnPreset::seed;
        if (options.iterations == 0)
            options.iterations = seed ? 10 : 5;
        if (options.tau < 0)
            options.tau = seed ? 0.2F : std::numeric_limits<float>::infinity();
        if (device.is_cpu() && layout.cell_norm.empty() && layout.shared_norm.empty() &&
            planes::kernels(plane_type(type))) {
            planes.emplace(file, layout.input, layout.hidden, layout.iteration, layout.units,
                           plane_type(type), r.threads);
            return;
        }
        const c10::InferenceMode inference;
        for (const auto& [tensor, content] : file.tensors) {
            // Normalisations stay in float32: so do the statistics they belong to.
            const bool norm = belongs_to(tensor, {layout.cell_norm, layout.shared_norm});
            at::Tensor parameter = to_torch(content).to(device, norm ? at::kFloat : type);
            if (parameter.dim() == 4)
                parameter = parameter.contiguous(at::MemoryFormat::ChannelsLast);
            parameters[tensor] = parameter;
        }
    }

    /// `x` undefined is a hidden state of zeros: the bias alone.
    at::Tensor convolve(const std::string& layer, const at::Tensor& x) const {
        const at::Tensor& weight = parameters.at(layer + ".weight");
        const at::Tensor& bias = parameters.at(layer + ".bias");
        return x.defined() ? at::conv2d(x, weight, bias, 1, weight.size(2) / 2)
                           : bias.reshape({1, layout.filters, 1, 1});
    }

    /// ReLU in place, then the normalisation where there is one, with mean and variance over all but the
    /// channels.
    at::Tensor activate(at::Tensor x, const std::string& norm) const {
        at::relu_(x);
        if (norm.empty())
            return x;
        return at::batch_norm(x, parameters.at(norm + ".weight"), parameters.at(norm + ".bias"), {}, {}, true,
                              0.0, 1e-5, false);
    }

    /// i2h(x_t) + ih2ih(previous iteration's h_t): once for both directions, and for all frames together;
    /// `previous` is freed on the way.
    at::Tensor given(const at::Tensor& x, at::Tensor previous) const {
        at::Tensor input = convolve(layout.input, x);
        input.add_(convolve(layout.iteration, previous));
        return input;
    }

    /// h_t = act(given_t + h2h(h_{t-1})), forwards and backwards, summed.
    at::Tensor recurrent(const at::Tensor& input) const {
        at::Tensor sum = at::empty_like(input);
        const std::int64_t frames = input.size(0);
        for (const bool forwards : {true, false}) {
            at::Tensor hidden;
            for (std::int64_t i = 0; i < frames; ++i) {
                const std::int64_t t = forwards ? i : frames - 1 - i;
                hidden = activate(convolve(layout.hidden, hidden) + input.narrow(0, t, 1), layout.cell_norm);
                at::Tensor out = sum.narrow(0, t, 1);
                forwards ? out.copy_(hidden) : out.add_(hidden);
            }
        }
        return sum;
    }

    /// h_t = act(given_t + h2h(h_{t-1})) of one frame; `state` is h_{t-1} and becomes h_t.
    at::Tensor carried(const at::Tensor& input, at::Tensor& state) const {
        state = activate(convolve(layout.hidden, state) + input, layout.cell_norm);
        return state;
    }

    /// x_l = act(conv_x(x_{l-1}) + conv_h(x_l of the iteration before)); that one is freed on the way.
    at::Tensor layer(int n, const at::Tensor& below, at::Tensor previous) const {
        const std::string name = "conv" + std::to_string(n);
        at::Tensor out = convolve(name + "_x", below);
        out.add_(convolve(name + "_h", previous));
        previous.reset();
        return activate(std::move(out), layout.shared_norm);
    }

    /// `x` and `k0` are complex [T, H, W], `mask` real.
    at::Tensor consistent(const at::Tensor& x, const at::Tensor& k0, const at::Tensor& mask) const {
        const at::Tensor k = at::fft_fft2(x, std::nullopt, {-2, -1}, "ortho");
        const at::Tensor measured =
            std::isinf(options.tau) ? k0 : (k + k0 * options.tau) / (1.0 + static_cast<double>(options.tau));
        return at::fft_ifft2(k * (1 - mask) + measured * mask, std::nullopt, {-2, -1}, "ortho");
    }

    /// `image` is complex [T, H, W]; `consistent` makes its data step. Of a causal network it is one frame,
    /// and `past` is of the one before.
    template <typename Consistent>
    at::Tensor forward(at::Tensor image, const Consistent& consistent, Memory& past) {
        if (planes) {
            const auto height = static_cast<int>(image.size(1));
            const auto width = static_cast<int>(image.size(2));
            if (options.causal)
                planes->begin(past.planes, options.iterations, height, width);
            else
                planes->begin(static_cast<int>(image.size(0)), height, width);
            for (int i = 0; i < options.iterations; ++i) {
                image = image.contiguous();
                at::Tensor change = at::empty_like(image);
                if (options.causal)
                    planes->step(complex_values(image), complex_values(change), past.planes, i);
                else
                    planes->step(complex_values(image), complex_values(change));
                image = consistent(change.add_(image));
            }
            return image;
        }
        const auto units = static_cast<std::size_t>(layout.units);
        std::vector<at::Tensor> hidden(units + 1); // undefined: zeros, before the first iteration
        past.hidden.resize(options.causal ? static_cast<std::size_t>(options.iterations) : 0);
        for (int i = 0; i < options.iterations; ++i) {
            const bool last = i + 1 == options.iterations;
            // [T, H, W, 2] in memory is [T, 2, H, W] with the channels innermost.
            const at::Tensor x = at::view_as_real(image).permute({0, 3, 1, 2}).to(type);
            hidden[0] = options.causal ? carried(given(x, std::move(hidden[0])),
                                                 past.hidden[static_cast<std::size_t>(i)])
                                       : recurrent(given(x, std::move(hidden[0])));
            for (std::size_t n = 1; n <= units; ++n) {
                hidden[n] = layer(static_cast<int>(n), hidden[n - 1], std::move(hidden[n]));
                if (last)
                    hidden[n - 1].reset();
            }
            at::Tensor step = convolve("conv" + std::to_string(units + 1) + "_x", hidden[units]);
            if (last)
                hidden.clear();
            step = step.to(at::kFloat).permute({0, 2, 3, 1}).contiguous();
            image = consistent(image + at::view_as_complex(step));
        }
        return image;
    }

    /// forward() from memory to memory; returns the images where they were computed.
    template <typename Consistent>
    at::Tensor compute(std::span<const std::complex<float>> image, std::span<std::complex<float>> output,
                       const WindowShape& shape, Memory& past, const Consistent& data_step) {
        const at::Tensor y = forward(complex_tensor(image, shape).to(device), data_step, past);
        const at::Tensor host = y.to(at::kCPU).contiguous();
        std::memcpy(static_cast<void*>(output.data()), host.data_ptr(), output.size_bytes());
        return y;
    }

    /// Calls compute(t, shape) for what is computed together: a window, or each frame of a causal network.
    template <typename Compute>
    void in_parts(const WindowShape& shape, std::span<const std::complex<float>> output,
                  const Compute& compute) const {
        const WindowShape part{options.causal ? 1 : shape.frames, shape.height, shape.width};
        for (int t = 0; t < shape.frames; t += part.frames) {
            compute(static_cast<std::size_t>(t), part);
            if (options.causal &&
                !finite(output.subspan(static_cast<std::size_t>(t) * part.pixels(), part.count())))
                throw Error(Errc::failed, "the states of the causal network have grown beyond all bounds: "
                                          "its weights are not for a stream as long as this one");
        }
    }

    void reconstruct(std::span<const std::complex<float>> image, std::span<const std::complex<float>> kspace,
                     std::span<const float> mask, std::span<std::complex<float>> output,
                     const WindowShape& shape, Memory& past);
    void reconstruct(const SampledWindow& window, std::span<std::complex<float>> output,
                     const WindowShape& shape, Memory& past);

    /// Calls compute(past) with what is kept of the stream's frames so far.
    template <typename Compute>
    void stream(const WindowShape& shape, const Compute& compute) {
        if (!options.causal)
            throw Error(Errc::settings,
                        "a CRNN over windows cannot take frames as they come: it sees later ones");
        if (stream_size != std::pair(shape.width, shape.height))
            stream_past = {};
        stream_size = {shape.width, shape.height};
        try {
            compute(stream_past);
        } catch (...) {
            stream_past = {}; // some iterations have seen the frame and others have not
            throw;
        }
    }

    CrnnOptions options;
    RunOptions run;
    at::Device device;
    at::ScalarType type;
    std::map<std::string, std::string> metadata;
    CrnnLayout layout;
    Parameters parameters; // where there are no planes
    std::optional<PlaneCrnn> planes;
    std::shared_ptr<WindowOperator> data; // of samples that are on no grid
    Memory stream_past;
    std::pair<int, int> stream_size{0, 0};
    std::vector<WindowOperator::Residual> residuals; // of the last frames
};

Crnn Crnn::load(const std::string& path, const CrnnOptions& options, const RunOptions& run) {
    return {read_weights(path), path, options, run};
}

Crnn::Crnn(const TensorFile& file, const std::string& name, const CrnnOptions& options,
           const RunOptions& run) {
    if (options.iterations < 0 || options.iterations > 1000)
        throw Error(Errc::settings,
                    "a CRNN needs 1 to 1000 iterations, not " + std::to_string(options.iterations));
    if (std::isnan(options.tau))
        throw Error(Errc::settings, "the weight of the measured data must be a number");
    state_ =
        torch_call("loading the network", [&] { return std::make_unique<State>(file, name, options, run); });
}

Crnn::Crnn(Crnn&&) noexcept = default;
Crnn& Crnn::operator=(Crnn&&) noexcept = default;
Crnn::~Crnn() = default;

bool Crnn::causal() const {
    return state_->options.causal;
}

int Crnn::filters() const {
    return static_cast<int>(state_->layout.filters);
}

const std::vector<WindowOperator::Residual>& Crnn::residuals() const {
    return state_->residuals;
}

int Crnn::iterations() const {
    return state_->options.iterations;
}

CrnnPreset Crnn::preset() const {
    return state_->layout.preset;
}

const std::map<std::string, std::string>& Crnn::metadata() const {
    return state_->metadata;
}

std::string Crnn::precision() const {
    return state_->type == at::kBFloat16 ? "bfloat16" : "float32";
}

void Crnn::State::reconstruct(std::span<const std::complex<float>> image,
                              std::span<const std::complex<float>> kspace, std::span<const float> mask,
                              std::span<std::complex<float>> output, const WindowShape& shape, Memory& past) {
    check_shape(shape, layout.filters);
    if (image.size() != shape.count() || kspace.size() != shape.count() || mask.size() != shape.count() ||
        output.size() != shape.count())
        throw Error(Errc::format, "image, k-space, mask and output must all be " +
                                      std::to_string(shape.frames) + " frames of " +
                                      std::to_string(shape.height) + " x " + std::to_string(shape.width));
    if (options.causal && !(finite(image) && finite(kspace)))
        throw Error(Errc::format, "an image or its k-space holds a value that is not finite");
    residuals.clear();
    in_parts(shape, output, [&](std::size_t t, const WindowShape& part) {
        const auto values = [&](auto all) { return all.subspan(t * part.pixels(), part.count()); };
        torch_call("the network", [&] {
            set_torch_threads(run.threads);
            const c10::InferenceMode inference;
            at::Tensor m = at::empty({part.frames, part.height, part.width}, at::kFloat);
            std::memcpy(m.data_ptr(), values(mask).data(), values(mask).size_bytes());
            const at::Tensor k0 = complex_tensor(values(kspace), part).to(device);
            m = m.to(device);
            const at::Tensor y = compute(values(image), values(output), part, past,
                                         [&](const at::Tensor& x) { return consistent(x, k0, m); });
            const at::Tensor k = at::fft_fft2(y, std::nullopt, {-2, -1}, "ortho");
            const auto of_frames = [](const at::Tensor& v) {
                return v.to(at::kDouble).sum({1, 2}).to(at::kCPU).contiguous();
            };
            const at::Tensor rest = of_frames(at::abs((k - k0) * m).square());
            const at::Tensor power = of_frames(at::abs(k0 * m).square()), count = of_frames(m);
            for (std::int64_t f = 0; f < part.frames; ++f) {
                const double r = rest.const_data_ptr<double>()[f], p = power.const_data_ptr<double>()[f],
                             n = count.const_data_ptr<double>()[f];
                residuals.push_back({p > 0 ? std::sqrt(r / p) : 0.0, n > 0 ? std::sqrt(r / n) : 0.0});
            }
        });
    });
}

void Crnn::State::reconstruct(const SampledWindow& window, std::span<std::complex<float>> output,
                              const WindowShape& shape, Memory& past) {
    check_shape(shape, layout.filters);
    check_window(window, output.size(), shape);
    if (options.causal && !(finite(window.start) && finite(window.maps)))
        throw Error(Errc::format, "an image or a sensitivity holds a value that is not finite");
    residuals.clear();
    in_parts(shape, output, [&](std::size_t t, const WindowShape& part) {
        const auto values = [&](auto all) { return all.subspan(t * part.pixels(), part.count()); };
        const std::span<const SampledFrame> frames =
            window.frames.subspan(t, static_cast<std::size_t>(part.frames));
        data = take_samples(data, {values(window.start), frames, window.coils, window.maps}, part.count(),
                            part, run.threads, device);
        torch_call("the network", [&] {
            set_torch_threads(run.threads);
            const c10::InferenceMode inference;
            const RadialConsistency samples(data, device);
            const auto consistent = [&](const at::Tensor& image) {
                const at::Tensor x = at::view_as_real(image);
                // N's eigenvalues are 2 at most, so the condition number is 1 + 2 tau: conjugate gradients
                // leave 2 ((sqrt(c) - 1) / (sqrt(c) + 1))^steps, below 1 % for tau up to 1.
                constexpr int steps = 5;
                return at::view_as_complex(
                    (std::isinf(options.tau)
                         ? samples.gradient_step(x, 1.0)
                         : samples.conjugate_gradients(x, at::full({1}, 1 / options.tau, x.options()), steps))
                        .contiguous());
            };
            compute(values(window.start), values(output), part, past, consistent);
            std::vector<cfloat> normal(part.count());
            data->normal(values(output), normal);
            const auto of_frames = data->residual(values(output), normal);
            residuals.insert(residuals.end(), of_frames.begin(), of_frames.end());
        });
    });
}

void Crnn::run(std::span<const std::complex<float>> image, std::span<const std::complex<float>> kspace,
               std::span<const float> mask, std::span<std::complex<float>> output, const WindowShape& shape) {
    State::Memory past;
    state_->reconstruct(image, kspace, mask, output, shape, past);
}

void Crnn::run(const SampledWindow& window, std::span<std::complex<float>> output, const WindowShape& shape) {
    State::Memory past;
    state_->reconstruct(window, output, shape, past);
}

void Crnn::stream(std::span<const std::complex<float>> image, std::span<const std::complex<float>> kspace,
                  std::span<const float> mask, std::span<std::complex<float>> output,
                  const WindowShape& shape) {
    state_->stream(
        shape, [&](State::Memory& past) { state_->reconstruct(image, kspace, mask, output, shape, past); });
}

void Crnn::stream(const SampledWindow& frames, std::span<std::complex<float>> output,
                  const WindowShape& shape) {
    state_->stream(shape, [&](State::Memory& past) { state_->reconstruct(frames, output, shape, past); });
}

void Crnn::reset() {
    state_->stream_past = {};
}

double Crnn::warm_up(const WindowShape& shape) {
    checked_product({static_cast<std::size_t>(std::max(1, shape.frames)), shape.pixels(),
                     static_cast<std::size_t>(filters())},
                    max_window_values, "a network's window");
    const std::vector<std::complex<float>> zeros(shape.count());
    const std::vector<float> mask(shape.count(), 0.0F);
    std::vector<std::complex<float>> output(shape.count());
    // What a stream keeps of its frames is made by its first.
    if (causal())
        stream(zeros, zeros, mask, output, shape);
    else
        run(zeros, zeros, mask, output, shape);
    const EmptyScan scan(shape);
    const double seconds = seconds_of_last(1, [&] {
        if (causal())
            stream(scan.window(), output, shape);
        else
            run(scan.window(), output, shape);
    });
    reset();
    return seconds;
}

} // namespace mri
