// SPDX-License-Identifier: LGPL-2.1-or-later
// Painting anti-aliased shapes, given in mm, into a float image.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <vector>

namespace mri {

struct Point {
    float x = 0.0f, y = 0.0f;
};

inline Point operator+(Point a, Point b) {
    return {a.x + b.x, a.y + b.y};
}
inline Point operator-(Point a, Point b) {
    return {a.x - b.x, a.y - b.y};
}
inline Point operator*(float f, Point a) {
    return {f * a.x, f * a.y};
}
inline float length(Point a) {
    return std::sqrt(a.x * a.x + a.y * a.y);
}

/// Share of a pixel inside an edge at signed distance d (mm, negative inside): the fraction for an
/// edge parallel to the pixel's side when `width` is the pixel's width, a softer edge when it is larger.
inline float edge(float d, float width) {
    return std::clamp(0.5f - d / width, 0.0f, 1.0f);
}

/// A closed outline around a centre: radius r (1 + sum over k of a_k cos k theta + b_k sin k theta).
struct Blob {
    static constexpr int orders = 8;
    Point centre;
    float radius = 0.0f;                    ///< mm
    std::array<float, orders + 1> a{}, b{}; ///< of order k; order 0 is not used
    int highest = 0;                        ///< last order that is not zero

    void set(int k, float ak, float bk) {
        a[static_cast<std::size_t>(k)] = ak;
        b[static_cast<std::size_t>(k)] = bk;
        highest = std::max(highest, k);
    }

    /// Twice the mean of the squared relative radius minus 2: the area is pi r^2 (1 + shape_power() / 2).
    float shape_power() const {
        float sum = 0.0f;
        for (std::size_t k = 1; k <= static_cast<std::size_t>(highest); ++k)
            sum += a[k] * a[k] + b[k] * b[k];
        return sum;
    }

    float area() const { return 3.14159265f * radius * radius * (1.0f + 0.5f * shape_power()); }

    /// Radius that gives this shape the area `mm2`.
    float radius_for(float mm2) const {
        return std::sqrt(mm2 / (3.14159265f * (1.0f + 0.5f * shape_power())));
    }

    /// Sum of amplitudes: the outline stays between radius (1 - spread) and radius (1 + spread).
    float spread() const {
        float sum = 0.0f;
        for (std::size_t k = 1; k <= static_cast<std::size_t>(highest); ++k)
            sum += std::sqrt(a[k] * a[k] + b[k] * b[k]);
        return sum;
    }

    /// Radius and its derivative by the angle in the direction (c, s).
    void outline(float c, float s, float& r, float& slope) const {
        float ck = 1.0f, sk = 0.0f, sum = 1.0f, derivative = 0.0f;
        for (std::size_t k = 1; k <= static_cast<std::size_t>(highest); ++k) {
            const float next = ck * c - sk * s;
            sk = sk * c + ck * s;
            ck = next;
            sum += a[k] * ck + b[k] * sk;
            derivative += static_cast<float>(k) * (b[k] * ck - a[k] * sk);
        }
        r = radius * sum;
        slope = radius * derivative;
    }

    /// Signed distance to the outline, to first order in the distance; negative inside.
    float distance(Point p) const {
        const Point q = p - centre;
        const float rho = length(q);
        if (rho < 1e-3f)
            return -radius;
        float r, slope;
        outline(q.x / rho, q.y / rho, r, slope);
        const float tilt = slope / r; // on the outline rho is r
        return (rho - r) / std::sqrt(1.0f + tilt * tilt);
    }

    /// The same shape with a margin of `mm` all around (to first order).
    Blob grown(float mm) const {
        Blob larger = *this;
        larger.radius = radius + mm;
        const float ratio = radius / larger.radius;
        for (std::size_t k = 1; k <= static_cast<std::size_t>(highest); ++k) {
            larger.a[k] *= ratio;
            larger.b[k] *= ratio;
        }
        return larger;
    }

    /// The same shape turned by the angle whose cosine and sine are given.
    Blob turned(float c, float s) const {
        Blob out = *this;
        float ck = 1.0f, sk = 0.0f;
        for (std::size_t k = 1; k <= static_cast<std::size_t>(highest); ++k) {
            const float next = ck * c - sk * s;
            sk = sk * c + ck * s;
            ck = next;
            out.a[k] = a[k] * ck - b[k] * sk;
            out.b[k] = a[k] * sk + b[k] * ck;
        }
        return out;
    }
};

/// A straight piece of given half width with round ends.
struct Capsule {
    Point from, to;
    float half_width = 0.0f;

    float distance(Point p) const {
        const Point d = to - from, q = p - from;
        const float along =
            std::clamp((q.x * d.x + q.y * d.y) / std::max(d.x * d.x + d.y * d.y, 1e-6f), 0.0f, 1.0f);
        return length(q - along * d) - half_width;
    }
};

/// An image being painted: its pixels, and the affine map from a pixel to scene coordinates in mm.
class Canvas {
  public:
    /// Pixel (width/2, height/2) shows `centre`; `turn` is a rotation (cosine, sine), `mirror` flips x before
    /// it.
    Canvas(int width, int height, double fov_x, double fov_y, Point centre, Point turn, bool mirror,
           float* pixels)
        : width_(width),
          height_(height),
          pixels_(pixels),
          centre_(centre),
          dx_(static_cast<float>(fov_x / width)),
          dy_(static_cast<float>(fov_y / height)),
          turn_(turn),
          mirror_(mirror ? -1.0f : 1.0f) {}

    int width() const { return width_; }
    int height() const { return height_; }
    /// Width of a pixel in mm: the narrowest an edge may be.
    float pixel() const { return 0.5f * (dx_ + dy_); }
    float* pixels() const { return pixels_; }

    Point to_scene(int column, int row) const {
        const float x = mirror_ * static_cast<float>(column - width_ / 2) * dx_;
        const float y = static_cast<float>(row - height_ / 2) * dy_;
        return centre_ + Point{turn_.x * x - turn_.y * y, turn_.y * x + turn_.x * y};
    }

    /// Bends the scene: from here on a pixel shows the point bend(point), at most `limit` mm away.
    template <typename Bend>
    void bend(float limit, const Bend& bend) {
        limit_ = limit;
        points_.resize(static_cast<std::size_t>(width_) * static_cast<std::size_t>(height_));
        for (int row = 0; row < height_; ++row)
            for (int column = 0; column < width_; ++column)
                points_[static_cast<std::size_t>(row) * static_cast<std::size_t>(width_) +
                        static_cast<std::size_t>(column)] = bend(to_scene(column, row));
    }

    /// Calls paint(value, point) for every pixel within `reach` mm of `around` (and for some a little
    /// farther).
    template <typename Paint>
    void for_each(Point around, float reach, const Paint& paint) {
        reach += limit_;
        const Point q = around - centre_;
        const float x = mirror_ * (turn_.x * q.x + turn_.y * q.y), y = turn_.x * q.y - turn_.y * q.x;
        const auto first = [](float at, float step, int size) {
            return static_cast<int>(std::clamp(std::floor(at / step) + static_cast<float>(size / 2), 0.0f,
                                               static_cast<float>(size)));
        };
        const int left = first(x - reach, dx_, width_), right = first(x + reach + 2 * dx_, dx_, width_);
        const int top = first(y - reach, dy_, height_), bottom = first(y + reach + 2 * dy_, dy_, height_);
        for (int row = top; row < bottom; ++row)
            paint_row(row, left, right, paint);
    }

    template <typename Paint>
    void for_all(const Paint& paint) {
        for (int row = 0; row < height_; ++row)
            paint_row(row, 0, width_, paint);
    }

    /// Covers the shape with value(point); `softness` (mm) widens the edge beyond a pixel.
    template <typename Value>
    void fill(const Blob& blob, float softness, const Value& value) {
        const float w = std::max(pixel(), softness), spread = blob.spread();
        const float outer = blob.radius * (1.0f + spread) + w;
        const float inner = std::max(blob.radius * (1.0f - spread) - w * (1.0f + spread), 0.0f);
        for_each(blob.centre, outer, [&](float& pixel, Point p) {
            const Point q = p - blob.centre;
            const float square = q.x * q.x + q.y * q.y;
            if (square >= outer * outer)
                return;
            const float alpha = square < inner * inner ? 1.0f : edge(blob.distance(p), w);
            if (alpha > 0.0f)
                pixel += alpha * (value(p) - pixel);
        });
    }

    template <typename Value>
    void fill(const Capsule& capsule, float softness, const Value& value) {
        const float w = std::max(pixel(), softness);
        // A thing thinner than a pixel keeps its area by being fainter.
        const float strength = std::min(1.0f, 2.0f * capsule.half_width / w);
        const Point middle = 0.5f * (capsule.from + capsule.to);
        for_each(middle, 0.5f * length(capsule.to - capsule.from) + capsule.half_width + w,
                 [&](float& pixel, Point p) {
                     const float alpha = strength * edge(capsule.distance(p), w);
                     if (alpha > 0.0f)
                         pixel += alpha * (value(p) - pixel);
                 });
    }

  private:
    template <typename Paint>
    void paint_row(int row, int left, int right, const Paint& paint) {
        const std::size_t start = static_cast<std::size_t>(row) * static_cast<std::size_t>(width_);
        float* out = pixels_ + start;
        if (!points_.empty()) {
            const Point* points = points_.data() + start;
            for (int column = left; column < right; ++column)
                paint(out[column], points[column]);
            return;
        }
        const Point from = to_scene(left, row);
        const Point step{mirror_ * turn_.x * dx_, mirror_ * turn_.y * dx_};
        for (int column = left; column < right; ++column)
            paint(out[column], from + static_cast<float>(column - left) * step);
    }

    std::vector<Point> points_; ///< of every pixel, once bent
    float limit_ = 0.0f;
    int width_, height_;
    float* pixels_;
    Point centre_;
    float dx_, dy_;
    Point turn_;
    float mirror_;
};

/// Smooth random numbers over the plane, repeating every `side` mm; mean 0, most values within -1..1.
class Texture {
  public:
    static constexpr int side = 128; // samples, 1 mm apart

    /// Octaves of 32, 16, 8 and 4 mm, each with the weight `gain` to the one before it.
    template <typename Rng>
    Texture(Rng& random, float gain) : samples_(static_cast<std::size_t>(side) * side) {
        float weight = 1.0f, power = 0.0f;
        for (int cell = 32; cell >= 4; cell /= 2, weight *= gain) {
            const int knots = side / cell;
            std::vector<float> lattice(static_cast<std::size_t>(knots) * static_cast<std::size_t>(knots));
            for (float& value : lattice)
                value = static_cast<float>(random.uniform(-1.0, 1.0));
            for (int y = 0; y < side; ++y)
                for (int x = 0; x < side; ++x) {
                    const float fx = ease(static_cast<float>(x % cell) / static_cast<float>(cell));
                    const float fy = ease(static_cast<float>(y % cell) / static_cast<float>(cell));
                    const auto knot = [&](int i, int j) {
                        return lattice[static_cast<std::size_t>((j % knots) * knots + i % knots)];
                    };
                    const int i = x / cell, j = y / cell;
                    const float top = knot(i, j) + fx * (knot(i + 1, j) - knot(i, j));
                    const float bottom = knot(i, j + 1) + fx * (knot(i + 1, j + 1) - knot(i, j + 1));
                    samples_[static_cast<std::size_t>(y * side + x)] += weight * (top + fy * (bottom - top));
                }
            power += weight * weight;
        }
        const float scale = 1.6f / std::sqrt(power);
        for (float& value : samples_)
            value *= scale;
    }

    /// Bilinear between samples.
    float operator()(Point p) const {
        const float fx = std::floor(p.x), fy = std::floor(p.y);
        const float u = p.x - fx, v = p.y - fy;
        const auto x0 = static_cast<unsigned>(static_cast<int>(fx)) % side, x1 = (x0 + 1) % side;
        const auto y0 = static_cast<unsigned>(static_cast<int>(fy)) % side, y1 = (y0 + 1) % side;
        const float top =
            samples_[y0 * side + x0] + u * (samples_[y0 * side + x1] - samples_[y0 * side + x0]);
        const float bottom =
            samples_[y1 * side + x0] + u * (samples_[y1 * side + x1] - samples_[y1 * side + x0]);
        return top + v * (bottom - top);
    }

  private:
    static float ease(float f) { return f * f * (3.0f - 2.0f * f); }
    std::vector<float> samples_;
};

} // namespace mri
