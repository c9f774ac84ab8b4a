// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/export/stacks.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

namespace mri {

namespace {

constexpr double same_direction = 1e-4; // of a unit vector
constexpr double same_length = 1e-3;    // mm
constexpr double same_slice = 0.01;     // mm along the normal

bool close(const Vector3& a, const Vector3& b, double tolerance) {
    for (std::size_t i = 0; i < a.size(); ++i)
        if (!(std::abs(a[i] - b[i]) <= tolerance))
            return false;
    return true;
}

Vector3 moved(const Vector3& from, double by, const Vector3& along) {
    return {from[0] + by * along[0], from[1] + by * along[1], from[2] + by * along[2]};
}

std::optional<Vector3> unit(const Vector3& v) {
    const double length = std::sqrt(dot(v, v));
    if (!std::isfinite(length) || length < 1e-6)
        return std::nullopt;
    return Vector3{v[0] / length, v[1] / length, v[2] / length};
}

bool same_kind(const ExportedImage& a, const ExportedImage& b) {
    const ImagePlane &p = a.plane, &q = b.plane;
    return a.header == b.header && a.measurement == b.measurement && a.contrast == b.contrast &&
           a.set == b.set && p.width == q.width && p.height == q.height &&
           std::abs(p.spacing_x - q.spacing_x) <= same_length &&
           std::abs(p.spacing_y - q.spacing_y) <= same_length && close(p.row, q.row, same_direction) &&
           close(p.column, q.column, same_direction);
}

double position_of(const ImagePlane& plane) {
    return dot(plane.first_voxel, plane.normal());
}

} // namespace

double dot(const Vector3& a, const Vector3& b) noexcept {
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
}

Vector3 cross(const Vector3& a, const Vector3& b) noexcept {
    return {a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]};
}

std::optional<Directions> directions_of(const std::array<float, 3>& read, const std::array<float, 3>& phase) {
    const auto row = unit({read[0], read[1], read[2]});
    const auto other = unit({phase[0], phase[1], phase[2]});
    if (!row || !other || std::abs(dot(*row, *other)) > 0.5)
        return std::nullopt;
    const auto column = unit(moved(*other, -dot(*row, *other), *row));
    return Directions{*row, *column};
}

void place(ImagePlane& plane, const Vector3& position, PositionConvention convention) {
    plane.first_voxel = position;
    if (convention == PositionConvention::first_voxel)
        return;
    plane.first_voxel = moved(plane.first_voxel, -(plane.width / 2) * plane.spacing_x, plane.row);
    plane.first_voxel = moved(plane.first_voxel, -(plane.height / 2) * plane.spacing_y, plane.column);
}

std::vector<Stack> stack_images(std::span<const ExportedImage> images) {
    std::vector<Slice> slices;
    for (std::size_t i = 0; i < images.size(); ++i) {
        const auto belongs = [&](const Slice& slice) {
            const ExportedImage& first = images[slice.images.front()];
            return first.series == images[i].series && same_kind(first, images[i]) &&
                   close(first.plane.first_voxel, images[i].plane.first_voxel, same_slice);
        };
        // The latest slice is the likely one.
        const auto found = std::find_if(slices.rbegin(), slices.rend(), belongs);
        if (found != slices.rend())
            found->images.push_back(i);
        else
            slices.push_back({position_of(images[i].plane), {i}});
    }
    std::vector<Stack> stacks;
    for (Slice& slice : slices) {
        const auto takes = [&](const Stack& stack) {
            return same_kind(images[stack.slices.front().images.front()], images[slice.images.front()]) &&
                   std::none_of(stack.slices.begin(), stack.slices.end(), [&](const Slice& other) {
                       return std::abs(other.position - slice.position) <= same_slice;
                   });
        };
        const auto found = std::find_if(stacks.begin(), stacks.end(), takes);
        if (found != stacks.end())
            found->slices.push_back(std::move(slice));
        else
            stacks.push_back({{std::move(slice)}});
    }
    for (Stack& stack : stacks)
        std::sort(stack.slices.begin(), stack.slices.end(),
                  [](const Slice& a, const Slice& b) { return a.position < b.position; });
    return stacks;
}

std::optional<double> even_spacing(const Stack& stack) {
    const auto& slices = stack.slices;
    if (slices.size() < 2)
        return std::nullopt;
    const double first = slices.front().position;
    const double step = (slices.back().position - first) / static_cast<double>(slices.size() - 1);
    for (std::size_t i = 0; i < slices.size(); ++i)
        if (std::abs(slices[i].position - first - static_cast<double>(i) * step) > 0.01 * step + 0.02)
            return std::nullopt;
    return step;
}

std::vector<Stack> gridded_stacks(std::vector<Stack> stacks, std::span<const ExportedImage> images,
                                  std::vector<std::string>& reasons) {
    std::vector<Stack> out;
    for (Stack& stack : stacks) {
        const auto& slices = stack.slices;
        const ImagePlane& first = images[slices.front().images.front()].plane;
        std::string reason;
        if (slices.size() > 1 && !even_spacing(stack))
            reason = "are not evenly spaced";
        for (const Slice& slice : slices) {
            const ImagePlane& plane = images[slice.images.front()].plane;
            const Vector3 straight =
                moved(first.first_voxel, slice.position - slices.front().position, first.normal());
            if (slice.images.size() != slices.front().images.size())
                reason = fmt::format("have different numbers of images, {} and {}",
                                     slices.front().images.size(), slice.images.size());
            else if (!close(straight, plane.first_voxel, 0.05))
                reason = "do not lie straight above each other";
        }
        if (reason.empty()) {
            out.push_back(std::move(stack));
            continue;
        }
        reasons.push_back(fmt::format("{} parallel slices {}", slices.size(), reason));
        for (Slice& slice : stack.slices)
            out.push_back({{std::move(slice)}});
    }
    return out;
}

TimeStep time_step(const Slice& slice, std::span<const ExportedImage> images) {
    std::vector<double> times;
    for (const std::size_t i : slice.images)
        if (images[i].time)
            times.push_back(static_cast<double>(*images[i].time) * 1e-9);
    const auto& first = images[slice.images.front()];
    if (times.size() < 2 || times.size() != slice.images.size())
        return {first.duration ? static_cast<double>(*first.duration) * 1e-9 : 0.0, 0.0};
    TimeStep step{(times.back() - times.front()) / static_cast<double>(times.size() - 1), 0.0};
    for (std::size_t i = 1; i < times.size(); ++i)
        step.largest = std::max(step.largest, std::abs(times[i] - times[i - 1] - step.mean));
    return step;
}

} // namespace mri
