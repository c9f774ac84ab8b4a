// SPDX-License-Identifier: LGPL-2.1-or-later
/**
 * SECTION:element-mricompress
 * @title: mricompress
 *
 * Makes a few virtual coils of many (coil compression): those combinations, by the eigenvectors of the coils'
 * covariance, that keep most of the signal's power. All that follows takes time in proportion to the coils.
 * Noise that was white (mriwhiten) stays so.
 *
 * The combinations come from the first frames and follow the running mean of later ones, turned so that a
 * virtual coil stays the same coil from frame to frame. A new series or another plane resets it.
 * Reference lines of the frames (role calibration) are compressed likewise.
 * The log (info) says how much of the power is kept. Arrays that have no more coils than asked for pass as
 * they are.
 *
 * Latency: none beyond its computing time.
 *
 * Caps: application/x-mri-kspace, alignment=frame, in and out.
 *
 * ## Example launch line
 * |[
 * gst-launch-1.0 mriphantomsrc frames=4 width=96 height=96 ! mrisim spokes=13 coils=16 ! mriframer !
 * mricompress coils=6 ! mrigrid combine=adaptive ! fakesink
 * ]|
 */
#include "plugins/common/kspace_frame.hpp"
#include "plugins/math/coils/compression.hpp"
#include "plugins/math/coils/prewhitening.hpp"

#include <algorithm>
#include <optional>
#include <span>
#include <vector>

namespace mri {
namespace {

struct MriCompressSettings {
    int coils = 8;
};

class MriCompress : public Configured<Transform, MriCompressSettings> {
  public:
    static constexpr ElementInfo info{"mricompress", "GstMriCompress", "MRI coil compression",
                                      "Filter/Converter/MRI", "Makes a few virtual coils of many"};
    static constexpr const char* sink_caps = MRI_KSPACE_FRAME_CAPS;
    static constexpr const char* src_caps = MRI_KSPACE_FRAME_CAPS;

    static void properties(Properties<MriCompress>& p) {
        p.integer("coils", "Virtual coils (0: as many as there are, unchanged)", 0, max_coils,
                  &MriCompressSettings::coils);
    }

  protected:
    void stop() override {
        compression_.reset();
        plane_.forget();
        lines_ = nullptr;
        mixed_ = nullptr;
        lines_matrix_.clear();
    }

    GstPtr<GstCaps> transform_caps(GstPadDirection direction, GstCaps* caps) override {
        const int coils = settings().coils;
        const int most = coils > 0 ? coils : max_coils;
        auto result = adopt(gst_caps_copy(caps));
        for (guint i = 0; i < gst_caps_get_size(result.get()); ++i) {
            GstStructure* one = gst_caps_get_structure(result.get(), i);
            int count = 0;
            if (direction == GST_PAD_SRC)
                gst_structure_set(one, "coils", GST_TYPE_INT_RANGE, 1, max_coils, nullptr);
            else if (gst_structure_get_int(one, "coils", &count))
                gst_structure_set(one, "coils", G_TYPE_INT, std::min(count, most), nullptr);
            else if (most > 1)
                gst_structure_set(one, "coils", GST_TYPE_INT_RANGE, 1, most, nullptr);
            else
                gst_structure_set(one, "coils", G_TYPE_INT, 1, nullptr);
        }
        return result;
    }

    void set_caps(const GstCaps* in, const GstCaps* out) override {
        in_ = KspaceInfo::from_caps(in);
        out_ = KspaceInfo::from_caps(out);
        compression_.emplace(in_.coils, out_.coils);
        plane_.forget();
    }

    std::size_t output_size(GstBuffer* in) override {
        const auto bytes = gst_buffer_get_size(in);
        in_.readouts_in(bytes); // throws for what is no whole frame
        return bytes / static_cast<std::size_t>(in_.coils) * static_cast<std::size_t>(out_.coils);
    }

    void transform(GstBuffer* in, GstBuffer* out) override {
        const Mapped<const cfloat> from(in);
        const Mapped<cfloat> to(out);
        if (in_.coils == out_.coils) {
            std::copy_n(from.data(), from.size(), to.data());
            return;
        }
        if (plane_.moved(in))
            compression_->forget();
        const std::size_t count = from.size() / static_cast<std::size_t>(in_.coils);
        const double kept = compression_->kept();
        const auto matrix = compression_->next(from.data(), count);
        if (compression_->kept() != kept)
            MRI_INFO("%d of %d coils keep %.3f %% of the signal's power", out_.coils, in_.coils,
                     100 * compression_->kept());
        mix_coils(matrix, out_.coils, in_.coils, from.data(), count, to.data());
        compress_calibration(out, matrix);
    }

  private:
    // The same sample from frame to frame, until the lines or the matrix are others.
    void compress_calibration(GstBuffer* out, std::span<const cfloat> matrix) {
        GstSample* sample = side_of(out, Role::calibration);
        if (!sample)
            return;
        if (sample != lines_.get() ||
            !std::equal(matrix.begin(), matrix.end(), lines_matrix_.begin(), lines_matrix_.end())) {
            KspaceInfo info = KspaceInfo::from_caps(gst_sample_get_caps(sample));
            GstBuffer* buffer = gst_sample_get_buffer(sample);
            const Mapped<const cfloat> from(buffer);
            if (info.coils != in_.coils || from.size() % static_cast<std::size_t>(in_.coils) != 0)
                throw Error(Errc::format, "Reference lines of other coils than the frame's came with it");
            const std::size_t count = from.size() / static_cast<std::size_t>(in_.coils);
            auto mixed = new_buffer<cfloat>(count * static_cast<std::size_t>(out_.coils));
            copy_metas(mixed.get(), buffer);
            mix_coils(matrix, out_.coils, in_.coils, from.data(), count, Mapped<cfloat>(mixed.get()).data());
            info.coils = out_.coils;
            lines_ = retain(sample);
            lines_matrix_.assign(matrix.begin(), matrix.end());
            mixed_ = adopt(gst_sample_new(mixed.get(), info.to_caps().get(), nullptr, nullptr));
        }
        add_side(out, Role::calibration, mixed_.get());
    }

    // Streaming thread, between start() and stop().
    KspaceInfo in_, out_;
    std::optional<CoilCompression> compression_;
    PlaneWatch plane_;
    GstPtr<GstSample> lines_, mixed_; // reference lines of the last frame, and what became of them
    std::vector<cfloat> lines_matrix_;
};

} // namespace
} // namespace mri

MRI_ELEMENT(mricompress, mri::MriCompress)
