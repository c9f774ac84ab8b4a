// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/source/ismrmrd/image_part.hpp"

#include "plugins/math/base/error.hpp"
#include "plugins/math/base/statistics.hpp"

#include <ismrmrd/ismrmrd.h>

#include <algorithm>
#include <cmath>
#include <numbers>

namespace mri {

namespace {

constexpr double largest = 32767;

} // namespace

ImageEncoder::ImageEncoder(ImagePart part, PixelType type, bool complex)
    : part_(part), type_(type), as_is_(part == ImagePart::all) {
    if (part_ == ImagePart::all)
        part_ = complex ? ImagePart::complex : ImagePart::magnitude;
    else if (!complex && (part_ == ImagePart::phase || part_ == ImagePart::imaginary))
        throw Error(Errc::settings, "image-type: these images are real, they have neither a phase nor an "
                                    "imaginary part");
    if (type_ == PixelType::int16 && part_ == ImagePart::complex)
        throw Error(Errc::settings,
                    "data-type=int16 is not for complex images: set image-type=magnitude, or another part");
}

std::uint16_t ImageEncoder::image_type() const {
    switch (part_) {
    case ImagePart::complex:
        return ISMRMRD::ISMRMRD_IMTYPE_COMPLEX;
    case ImagePart::phase:
        return ISMRMRD::ISMRMRD_IMTYPE_PHASE;
    case ImagePart::real:
        return ISMRMRD::ISMRMRD_IMTYPE_REAL;
    case ImagePart::imaginary:
        return ISMRMRD::ISMRMRD_IMTYPE_IMAG;
    case ImagePart::all:
    case ImagePart::magnitude:
        break;
    }
    return ISMRMRD::ISMRMRD_IMTYPE_MAGNITUDE;
}

std::uint16_t ImageEncoder::data_type() const {
    if (part_ == ImagePart::complex)
        return ISMRMRD::ISMRMRD_CXFLOAT;
    return type_ == PixelType::int16 ? ISMRMRD::ISMRMRD_SHORT : ISMRMRD::ISMRMRD_FLOAT;
}

std::span<const std::byte> ImageEncoder::encode(std::span<const std::complex<float>> image) {
    if (part_ == ImagePart::complex)
        return std::as_bytes(image);
    values_.resize(image.size());
    const auto take = [&](auto part) { std::transform(image.begin(), image.end(), values_.begin(), part); };
    if (part_ == ImagePart::phase)
        take([](const std::complex<float>& v) { return std::arg(v); });
    else if (part_ == ImagePart::real)
        take([](const std::complex<float>& v) { return v.real(); });
    else if (part_ == ImagePart::imaginary)
        take([](const std::complex<float>& v) { return v.imag(); });
    else
        take([](const std::complex<float>& v) { return std::abs(v); });
    return store();
}

std::span<const std::byte> ImageEncoder::encode(std::span<const float> image) {
    if (part_ == ImagePart::complex) {
        complex_.assign(image.begin(), image.end());
        return std::as_bytes(std::span(complex_));
    }
    values_.assign(image.begin(), image.end());
    if (part_ == ImagePart::magnitude && !as_is_)
        std::transform(values_.begin(), values_.end(), values_.begin(),
                       [](float value) { return std::abs(value); });
    return store();
}

/// Finds scale and window in the first image that is not all zero.
void ImageEncoder::look(std::vector<float> magnitudes) {
    if (width_ > 0)
        return;
    double top = std::numbers::pi, high = top;
    if (part_ != ImagePart::phase) {
        std::erase_if(magnitudes, [](float value) { return !std::isfinite(value); });
        if (magnitudes.empty())
            return;
        top = *std::max_element(magnitudes.begin(), magnitudes.end());
        if (!(top > 0))
            return;
        high = percentile(magnitudes, 99.5);
        if (!(high > 0))
            high = top;
    }
    double unit = 1;
    if (type_ == PixelType::int16)
        unit = slope_ = (part_ == ImagePart::phase ? top : 2 * top) / largest;
    const bool both_signs = part_ != ImagePart::magnitude;
    centre_ = both_signs ? 0 : high / 2 / unit;
    width_ = (both_signs ? 2 * high : high) / unit;
}

std::span<const std::byte> ImageEncoder::store() {
    std::vector<float> magnitudes;
    if (width_ == 0) {
        magnitudes.resize(values_.size());
        std::transform(values_.begin(), values_.end(), magnitudes.begin(),
                       [](float value) { return std::abs(value); });
        look(std::move(magnitudes));
    }
    if (type_ == PixelType::float32)
        return std::as_bytes(std::span(values_));
    integers_.assign(values_.size(), 0);
    for (std::size_t i = 0; slope_ > 0 && i < values_.size(); ++i) {
        const double value = std::round(values_[i] / slope_);
        if (std::isnan(value)) {
            ++clipped_;
            continue;
        }
        const double held = std::clamp(value, -largest - 1, largest);
        clipped_ += held != value ? 1 : 0;
        integers_[i] = static_cast<std::int16_t>(held);
    }
    return std::as_bytes(std::span(integers_));
}

} // namespace mri
