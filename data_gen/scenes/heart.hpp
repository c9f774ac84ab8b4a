// SPDX-License-Identifier: LGPL-2.1-or-later
// A beating heart in a torso, seen in a short-axis slice as balanced steady-state free precession shows it:
// bright blood and fat, darker myocardium, dark lungs. Every seed is another patient.
#pragma once

#include <cstdint>
#include <memory>

namespace mri {

struct HeartOptions {
    std::uint64_t seed = 1;
    double heart_rate = 70.0;     ///< beats a minute, 0 = the heart stands still
    double breathing_rate = 15.0; ///< breaths a minute, 0 = breath hold
};

/// A scene that is a function of time alone: render() at any time, in any order, from any thread.
///
/// Ventricles, papillary muscles and trabeculae contract and twist, the wall thickens so that its area grows
/// by what longitudinal shortening adds; lungs, vessels, liver and chest wall follow breath and beat.
/// Anatomy, slice level, orientation, contrast, texture and coil shading come from the seed. Arithmetic is
/// IEEE float and double with the product's own random numbers: machines differ by rounding in the
/// mathematical library at most.
class HeartScene {
  public:
    /// Throws Errc::settings for rates that are negative, above 600 a minute or not finite.
    explicit HeartScene(const HeartOptions& options);
    ~HeartScene();
    HeartScene(HeartScene&&) noexcept;
    HeartScene& operator=(HeartScene&&) noexcept;

    /// Field of view in mm in which this patient fills the picture as in clinical protocols, 220 to 330.
    double natural_fov() const;

    /// The image at `time` seconds into `pixels` [height][width], values 0..1. Pixel (width/2, height/2) lies
    /// at the centre of the field of view. The value 1 is the 99.9th percentile at time 0 in the natural
    /// field of view; what is brighter is clipped. Throws Errc::settings for sizes below 1 or a field of view
    /// that is not positive.
    void render(double time, int width, int height, double fov_x, double fov_y, float* pixels) const;

    /// Fraction of each pixel that the left ventricle's cavity covers (papillary muscles included), as in
    /// render().
    void render_ventricle(double time, int width, int height, double fov_x, double fov_y,
                          float* pixels) const;

    /// Area of the left ventricle's cavity in mm^2 (papillary muscles included), in closed form.
    double ventricle_area(double time) const;

  private:
    struct Model;
    std::unique_ptr<const Model> model_;
};

} // namespace mri
