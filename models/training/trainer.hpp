// SPDX-License-Identifier: LGPL-2.1-or-later
// Trains a network on cached windows. Plain C++: whoever includes this needs no LibTorch.
#pragma once

#include "models/common/run_options.hpp"
#include "models/networks.hpp"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <vector>

namespace mri {

enum class Loss {
    mse,   ///< mean squared error
    l1,    ///< mean absolute error
    mixed, ///< mean absolute error and ten times the mean squared one: the second cares for what is far off
    psnr,  ///< logarithm of the mean squared error: each sample's PSNR counts alike, in nepers
    ssim   ///< 1 - SSIM, mean over frames, 7x7 uniform window, data range 1; of images alone
};
enum class Schedule { constant, cosine };

/// How the truth is scanned for each sample of a network that is trained on it alone (see simulate.hpp). What is not here
/// varies by itself: the first spoke, phase, noise, readout oversampling of 1 and 2, motion while a frame is
/// acquired.
struct ScanOptions {
    int spokes_min =
        6; ///< of a frame, for the whole width of the truth; smaller patches have proportionally fewer
    int spokes_max = 15;
    int coils = 1;                                ///< above 1: a fifth of the samples has so many
    std::vector<int> validation_spokes{13, 9, 7}; ///< each validation window is scanned with each
};

struct TrainOptions : NetworkOptions {
    NetworkKind kind = NetworkKind::unet;
    ScanOptions scan;
    std::string initial; ///< weights file of the same network to begin with; empty: random weights
    /// A cascade's: which of its blocks to begin with, in order; one named several times in a row is split.
    /// Empty: all, evenly split where there are fewer than the cascade has.
    std::vector<int> initial_blocks;
    std::string weights;     ///< file for the best weights (on validation; the last ones without it)
    std::string checkpoint;  ///< file from which training resumes; empty: none
    bool resume = false;     ///< go on from the checkpoint when it exists
    std::uint64_t steps = 0; ///< optimiser steps in all; 0: `epochs`
    double epochs = 100;     ///< passes over the windows (one random crop of each)
    double time_limit = 0;   ///< s; 0: none. The schedule then follows whichever ends first
    int batch = 1;           ///< samples a step
    int patch = 64;          ///< side of the random crops, pixels; 0: whole frames
    int patch_frames = 0;    ///< frames of the random crops; 0: whole windows
    bool augment = true;
    double learning_rate = 1e-3;
    Schedule schedule = Schedule::cosine;
    Loss loss = Loss::mse;
    double clip = 1.0; ///< limit of the gradient's norm; 0: none
    double average =
        0.0; ///< weights that count are a running average of this decay, as 0.999; 0: the last ones
    std::uint64_t seed = 1;
    std::uint64_t validation_interval = 0; ///< steps; 0: a twentieth of all
    double checkpoint_interval = 60;       ///< s
    RunOptions run;
    std::size_t cache_bytes = std::size_t{2} << 30;  ///< memory for windows
    std::size_t spill_bytes = std::size_t{32} << 30; ///< file for those beyond it
    std::string spill_folder = "/tmp";
    std::string description; ///< of the training data, for the weights' metadata
};

/// Quality over the validation windows: the mean of mrimetrics' score over them. The truth is expected in
/// 0..1.
struct ValidationScore {
    double loss = 0; ///< as in training, over whole frames
    double psnr = 0; ///< dB
    double ssim = 0;
    double psnr_moving = 0; ///< dB, over the windows where something moves
};

struct TrainProgress {
    std::uint64_t step = 0;
    std::uint64_t steps = 0;
    double fraction = 0; ///< of the training, 0..1
    double loss = 0;     ///< mean since the last report
    double learning_rate = 0;
    double seconds_per_step = 0;
    std::optional<ValidationScore> validation; ///< when it was measured at this step
    bool saved = false;                        ///< the weights file was written at this step
};

struct TrainResult {
    std::uint64_t step = 0;
    bool finished = false;                     ///< false: stopped before
    double loss = 0;                           ///< of the last step
    std::optional<ValidationScore> input;      ///< of the validation inputs themselves
    std::optional<ValidationScore> validation; ///< of the weights that were written
};

/// Collects windows, then trains on the calling thread.
class Trainer {
  public:
    using Callback = std::function<void(const TrainProgress&)>;

    /// Opens the device and checks the options. Throws Errc::settings, Errc::no_device.
    explicit Trainer(const TrainOptions& options);
    ~Trainer();
    Trainer(const Trainer&) = delete;
    Trainer& operator=(const Trainer&) = delete;

    /// Adds a pair [frames][height][width] of magnitudes. Both are divided by intensity_scale(input). For a
    /// cascade `input` is empty.
    void add(std::span<const float> input, std::span<const float> truth, const WindowShape& shape,
             bool validation = false);
    std::size_t windows() const;
    std::size_t validation_windows() const;

    /// Trains until it is done, or until a stop is requested: then it returns after the sample in hand, a
    /// fraction of a second. Either way weights and checkpoint are written. `callback` is called about once a
    /// second and after each validation. Same options, seed, threads and windows give the same weights, also
    /// over a resume. Throws Errc::settings without windows, and what files and LibTorch throw.
    TrainResult run(const Callback& callback, std::stop_token stop = {});

  private:
    struct State;
    std::unique_ptr<State> state_;
};

} // namespace mri
