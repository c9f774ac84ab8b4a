// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/math/transform/cuda/cuda_nufft.hpp"

#include "plugins/math/base/error.hpp"
#include "plugins/math/base/installation.hpp"
#include "plugins/math/base/sizes.hpp"
#include "plugins/math/transform/cuda/backend.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <dlfcn.h>
#include <vector>

namespace mri {

namespace {

constexpr std::size_t max_points = std::size_t{1} << 27;
/// 2^32 complex values are 32 GiB.
constexpr std::size_t most_values = std::size_t{1} << 32;

struct Loaded {
    const cuda::Module* module = nullptr;
    std::string reason; ///< why there is none
};

#ifdef GST_MRI_HAVE_CUDA
/// Paths of the module: as GST_MRI_CUDA_MODULE says, or where it is installed.
std::vector<std::string> module_paths() {
    std::vector<std::string> paths;
    if (const char* path = std::getenv("GST_MRI_CUDA_MODULE"); path && *path)
        paths.emplace_back(path);
    paths.push_back(installation::modules() / GST_MRI_CUDA_FILE);
    return paths;
}

Loaded load() {
    // The driver first: without it the module, and the libraries it brings, need not be looked at.
    if (void* driver = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL))
        dlclose(driver);
    else
        return {nullptr, "there is no NVIDIA driver on this machine"};
    Loaded loaded;
    for (const std::string& path : module_paths()) {
        // Never closed: CUDA's own threads and exit handlers may be inside.
        void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
        if (!library) {
            const char* why = dlerror();
            loaded.reason += (loaded.reason.empty() ? "" : "; ") + std::string(why ? why : path);
            continue;
        }
        const auto* module = static_cast<const cuda::Module*>(dlsym(library, cuda::module_symbol));
        if (module && module->version == cuda::module_version)
            return {module, {}};
        loaded.reason = path + " belongs to another version";
        return loaded;
    }
    return loaded;
}
#else
Loaded load() {
    return {nullptr, "this build is without CUDA"};
}
#endif

const Loaded& module() {
    static const Loaded loaded = load(); // pointers to code and a text: nothing of CUDA's is owned
    return loaded;
}

std::unique_ptr<cuda::Backend> open(const cuda::Design& design, int device) {
    std::string reason;
    const int count = CudaNufft::devices(&reason);
    if (count == 0)
        throw Error(Errc::no_device, "There is no CUDA device: " + reason);
    if (device < 0 || device >= count)
        throw Error(Errc::no_device, "There is no CUDA device " + std::to_string(device) +
                                         ": this machine has " + std::to_string(count) + ", counted from 0");
    return module().module->open(design, device);
}

} // namespace

struct CudaNufft::State {
    int width, height;
    std::unique_ptr<cuda::Backend> backend;
    std::size_t points = 0;
    int coils_of_maps = 0;

    std::size_t pixels() const { return static_cast<std::size_t>(width) * static_cast<std::size_t>(height); }

    void check_coils(int coils) const {
        if (coils < 0)
            throw Error(Errc::format, std::to_string(coils) + " coils");
        for (const std::size_t each : {points, pixels()})
            checked_product({each, static_cast<std::size_t>(coils)}, most_values, "the data of a transform");
    }

    void adjoint(const cfloat* samples, std::span<const float> weights, cuda::Combination combination,
                 cfloat* images, int coils) {
        check_coils(coils);
        if (!weights.empty() && weights.size() != points)
            throw Error(Errc::format, std::to_string(weights.size()) + " weights for " +
                                          std::to_string(points) + " points of the trajectory");
        const bool apart = combination == cuda::Combination::none;
        if (points == 0 || coils == 0) {
            std::fill_n(images, pixels() * static_cast<std::size_t>(apart ? coils : 1), cfloat{});
            return;
        }
        backend->adjoint(samples, weights.empty() ? nullptr : weights.data(), combination, images, coils);
    }

    void check_maps() const {
        if (coils_of_maps == 0)
            throw Error(Errc::format, "a combination by sensitivities needs them set before");
    }
};

int CudaNufft::devices(std::string* reason) {
    std::string why;
    int count = 0;
    if (const Loaded& loaded = module(); loaded.module)
        count = loaded.module->devices(why);
    else
        why = loaded.reason;
    if (reason)
        *reason = why;
    return count;
}

CudaNufft::CudaNufft(int width, int height) : CudaNufft(width, height, Options()) {}
CudaNufft::CudaNufft(int width, int height, Options options)
    : CudaNufft(width, height, open(cuda::design(width, height, options.tolerance), options.device)) {}
CudaNufft::CudaNufft(int width, int height, std::unique_ptr<cuda::Backend> backend)
    : state_(std::make_unique<State>(State{width, height, std::move(backend)})) {}
CudaNufft::~CudaNufft() = default;
CudaNufft::CudaNufft(CudaNufft&&) noexcept = default;
CudaNufft& CudaNufft::operator=(CudaNufft&&) noexcept = default;

int CudaNufft::width() const noexcept {
    return state_->width;
}
int CudaNufft::height() const noexcept {
    return state_->height;
}
std::string CudaNufft::device() const {
    return state_->backend->device();
}
std::size_t CudaNufft::points() const noexcept {
    return state_->points;
}
int CudaNufft::sensitivities() const noexcept {
    return state_->coils_of_maps;
}

void CudaNufft::set_points(std::span<const float> kxy) {
    if (kxy.size() % 2)
        throw Error(Errc::format, "a trajectory of " + std::to_string(kxy.size()) +
                                      " numbers: pairs of kx and ky are needed");
    const std::size_t n = kxy.size() / 2;
    if (n > max_points)
        throw Error(Errc::format, "a trajectory of " + std::to_string(n) + " points: at most " +
                                      std::to_string(max_points) + " are handled");
    for (std::size_t i = 0; i < kxy.size(); ++i)
        if (!std::isfinite(kxy[i]))
            throw Error(Errc::format, "point " + std::to_string(i / 2) + " of the trajectory is not finite");
    state_->points = 0;
    if (n > 0)
        state_->backend->set_points(kxy.data(), n);
    state_->points = n;
}

void CudaNufft::adjoint(const cfloat* samples, std::span<const float> weights, cfloat* images, int coils) {
    state_->adjoint(samples, weights, cuda::Combination::none, images, coils);
}

void CudaNufft::adjoint_rss(const cfloat* samples, std::span<const float> weights, cfloat* image, int coils) {
    state_->adjoint(samples, weights, cuda::Combination::rss, image, coils);
}

void CudaNufft::set_sensitivities(const cfloat* maps, int coils) {
    if (coils < 1)
        throw Error(Errc::format, "sensitivities of " + std::to_string(coils) + " coils");
    state_->check_coils(coils);
    state_->coils_of_maps = 0;
    state_->backend->set_sensitivities(maps, coils);
    state_->coils_of_maps = coils;
}

void CudaNufft::adjoint_sense(const cfloat* samples, std::span<const float> weights, cfloat* image,
                              bool least_squares) {
    state_->check_maps();
    state_->adjoint(samples, weights,
                    least_squares ? cuda::Combination::least_squares : cuda::Combination::adjoint, image,
                    state_->coils_of_maps);
}

double CudaNufft::kernel_milliseconds() {
    return state_->backend->kernel_milliseconds();
}

void CudaNufft::forward(const cfloat* images, cfloat* samples, int coils) {
    state_->check_coils(coils);
    if (points() > 0 && coils > 0)
        state_->backend->forward(images, false, samples, coils);
}

void CudaNufft::forward_sense(const cfloat* image, cfloat* samples) {
    state_->check_maps();
    state_->check_coils(state_->coils_of_maps);
    if (points() > 0)
        state_->backend->forward(image, true, samples, state_->coils_of_maps);
}

} // namespace mri
