// SPDX-License-Identifier: LGPL-2.1-or-later
/**
 * SECTION:element-mriarraysink
 * @title: mriarraysink
 *
 * Writes the images of a series as one array, in the order in which they come. location=FILE.npy is NumPy's format
 * 1.0, [frame][channel][y][x], complex64 or float32. location=FILE.cfl is BART's, complex64, with FILE.hdr beside it: x
 * and y are dimensions 0 and 1, channels 3, frames 10. The second series of a stream goes to FILE-2.npy, and so on.
 * All images of a series must have one size.
 *
 * Complex images stay complex and real ones real unless image-type asks for a part; BART's arrays of real values have
 * imaginary parts of 0. FILE.hdr tells version, pipeline and networks, and that this is research output; NumPy's format
 * has no place for that.
 *
 * Files appear under their names when the stream has ended, whole (FILE.hdr last); older ones are replaced. Stopped
 * before EOS (without -e in gst-launch-1.0) nothing is left.
 *
 * Latency: none; buffers are not synchronised to the clock unless sync is set. Caps: application/x-mri-image.
 *
 * In python: numpy.load('images.npy').
 *
 * ## Example launch line
 * |[
 * gst-launch-1.0 mriphantomsrc num-buffers=8 ! mriarraysink location=images.npy
 * ]|
 */
#include "plugins/common/element.hpp"
#include "plugins/common/provenance.hpp"
#include "plugins/math/base/atomic_file.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <map>
#include <memory>
#include <utility>
#include <vector>

namespace mri {
namespace {

enum class ArrayPart { all, complex, magnitude, phase, real, imaginary };

struct ArraySettings {
    std::string location;
    ArrayPart part = ArrayPart::all;
};

/// Bytes before the data of a NumPy file: a multiple of 64 that has room for any shape.
constexpr std::size_t npy_header_bytes = 192;

std::string npy_header(const ImageInfo& image, bool complex, std::size_t frames) {
    constexpr std::size_t text_bytes = npy_header_bytes - 10;
    std::string text =
        fmt::format("{{'descr': '{}', 'fortran_order': False, 'shape': ({}, {}, {}, {}), }}",
                    complex ? "<c8" : "<f4", frames, image.channels, image.height, image.width);
    text.resize(text_bytes - 1, ' ');
    return std::string("\x93NUMPY\x01\x00", 8) + static_cast<char>(text_bytes) + '\0' + text + '\n';
}

float part_of(cfloat value, ArrayPart part) {
    switch (part) {
    case ArrayPart::magnitude:
        return std::abs(value);
    case ArrayPart::phase:
        return std::arg(value);
    case ArrayPart::imaginary:
        return value.imag();
    default:
        return value.real();
    }
}

/// The array of one series.
struct Array {
    Array(const std::string& name, const ImageInfo& kind)
        : path(name), failed("'" + name + "' cannot be written"), image(kind), file(name, failed) {}
    std::string path, failed;
    ImageInfo image;
    AtomicFile file;
    std::size_t frames = 0;
};

class MriArraySink : public Configured<Sink, ArraySettings> {
  public:
    static constexpr ElementInfo info{"mriarraysink", "GstMriArraySink", "Array sink", "Sink/File/MRI",
                                      "Writes images as an array of NumPy or BART"};
    static constexpr const char* sink_caps = MRI_IMAGE_CAPS;
    static constexpr const char* src_caps = nullptr;

    static void properties(Properties<MriArraySink>& p) {
        using S = ArraySettings;
        p.string("location", "File to write, .npy or .cfl", &S::location);
        p.choice("image-type", "Part that is stored", &S::part,
                 {{ArrayPart::all, "auto", "Complex images complex, real ones as they are"},
                  {ArrayPart::complex, "complex", "Complex"},
                  {ArrayPart::magnitude, "magnitude", "Magnitude"},
                  {ArrayPart::phase, "phase", "Phase in -pi..pi"},
                  {ArrayPart::real, "real", "Real part"},
                  {ArrayPart::imaginary, "imaginary", "Imaginary part"}});
    }

  protected:
    bool start() override {
        settings_ = settings();
        arrays_.clear();
        finished_ = false;
        const std::string& name = settings_.location;
        if (name.empty())
            throw Error(Errc::settings, "The property location is not set: it names the file to write");
        npy_ = name.ends_with(".npy");
        if (!npy_ && !name.ends_with(".cfl"))
            throw Error(Errc::settings, "'" + name + "' does not end in .npy or .cfl");
        // Says at the start, not after the scan, when nothing can be written there.
        const AtomicFile trial(name, "'" + name + "' cannot be written");
        return true;
    }

    void stop() override {
        if (!finished_ && !arrays_.empty())
            post_warning("'" + settings_.location +
                         "' was not written: the stream was stopped before its end");
        arrays_.clear();
    }

    void set_caps(const GstCaps* caps) override { image_ = ImageInfo::from_caps(caps); }

    GstFlowReturn render(GstBuffer* buffer) override {
        if (finished_)
            throw Error(Errc::failed, "'" + settings_.location + "' is complete: nothing can be added");
        image_.check_size(gst_buffer_get_size(buffer));
        Array& array = array_of_series();
        std::vector<cfloat> values(image_.pixels() * image_.channels);
        if (image_.format == SampleFormat::c64) {
            const Mapped<const cfloat> in(buffer);
            std::copy(in.span().begin(), in.span().end(), values.begin());
        } else {
            const Mapped<const float> in(buffer);
            std::copy(in.span().begin(), in.span().end(), values.begin());
        }
        const bool whole = settings_.part == ArrayPart::all || settings_.part == ArrayPart::complex;
        if (!whole)
            for (cfloat& value : values)
                value = part_of(value, settings_.part);
        if (complex_stored()) {
            array.file.write(std::as_bytes(std::span(values)), array.failed);
        } else {
            std::vector<float> real(values.size());
            std::transform(values.begin(), values.end(), real.begin(), [](cfloat v) { return v.real(); });
            array.file.write(std::as_bytes(std::span(real)), array.failed);
        }
        ++array.frames;
        return GST_FLOW_OK;
    }

    void eos() override {
        if (std::exchange(finished_, true))
            return;
        for (auto& [series, array] : arrays_)
            npy_ ? finish_npy(*array) : finish_cfl(*array);
        arrays_.clear();
    }

  private:
    bool complex_stored() const {
        return !npy_ || settings_.part == ArrayPart::complex ||
               (settings_.part == ArrayPart::all && image_.format == SampleFormat::c64);
    }

    Array& array_of_series() {
        auto& array = arrays_[image_.series];
        if (!array) {
            std::string name = settings_.location;
            if (arrays_.size() > 1)
                name.insert(name.size() - 4, fmt::format("-{}", arrays_.size()));
            array = std::make_unique<Array>(name, image_);
            if (npy_) {
                const std::string header = npy_header(image_, complex_stored(), 0);
                array->file.write(std::as_bytes(std::span(header)), array->failed);
            }
        }
        const ImageInfo& first = array->image;
        if (image_.format != first.format || image_.channels != first.channels ||
            image_.width != first.width || image_.height != first.height)
            throw Error(
                Errc::format,
                fmt::format("The images of an array must be of one kind, and those of series {} change "
                            "from {} x {} x {} to {} x {} x {} (channels, height, width) or in format",
                            image_.series, first.channels, first.height, first.width, image_.channels,
                            image_.height, image_.width));
        return *array;
    }

    void finish_npy(Array& array) {
        image_ = array.image;
        std::fstream file(array.file.temporary(), std::ios::in | std::ios::out | std::ios::binary);
        file << npy_header(array.image, complex_stored(), array.frames);
        file.close();
        if (!file)
            throw Error(Errc::write, array.failed);
        array.file.commit(array.failed);
    }

    void finish_cfl(Array& array) {
        const std::string name = array.path.substr(0, array.path.size() - 4) + ".hdr";
        const std::string failed = "'" + name + "' cannot be written";
        const std::string text =
            fmt::format("# Dimensions\n{} {} 1 {} 1 1 1 1 1 1 {} 1 1 1 1 1\n# Creator\n{}\n",
                        array.image.width, array.image.height, array.image.channels, array.frames,
                        provenance_text(provenance_at(GST_BASE_SINK_PAD(gst())), gst()));
        AtomicFile header(name, failed);
        header.write(std::as_bytes(std::span(text)), failed);
        array.file.commit(array.failed);
        header.commit(failed);
    }

    // Between start() and stop(), streaming thread.
    ArraySettings settings_;
    ImageInfo image_;
    std::map<int, std::unique_ptr<Array>> arrays_; // of each series
    bool npy_ = false, finished_ = false;
};

} // namespace
} // namespace mri

MRI_ELEMENT(mriarraysink, mri::MriArraySink)
