// SPDX-License-Identifier: LGPL-2.1-or-later
/**
 * SECTION:element-mriwhiten
 * @title: mriwhiten
 *
 * Makes the noise of the receive coils equal and independent (prewhitening), from noise readouts of the
 * stream: those whose flags say so (ISMRMRD's noise measurement). They are taken in and do not go on; all
 * other readouts go on mixed by the inverse of the Cholesky factor of the noise's covariance. Whitened coils
 * are what the adaptive combination and SENSE assume, and noise of variance 1 makes the images' scale that of
 * their signal to noise: a sample's, of both parts together. The caps tell it to what follows (noise, of
 * either part, 0.707), so that networks can say how far their images are from the data beside the noise.
 *
 * Noise readouts come before what is to be whitened (ismrmrdsrc sends them with noise=true or
 * noise-location); later ones make the estimate better from then on. Without any, with too few of them, or
 * with a covariance that is singular, there is an error and no picture.
 *
 * The scale: noise grows with the receiver's bandwidth, so that the sample times of noise and image readouts
 * count, where the readouts tell them. bandwidth says how much narrower than its sampling rate the
 * receiver listens during the noise readouts (0.793 on Siemens scanners). By default it is what the MRD
 * header says (relativeReceiverNoiseBandwidth), and 1 where that says nothing: no factor is assumed. It
 * scales all coils alike, so that pictures stay the same and only their unit changes.
 *
 * Latency: none.
 *
 * Caps: application/x-mri-kspace, alignment=readout, in and out.
 *
 * ## Example launch line
 * |[
 * gst-launch-1.0 ismrmrdsrc location=scan.h5 noise=true ! mriwhiten ! mriframer ! mrigrid combine=adaptive !
 * fakesink
 * ]|
 */
#include "plugins/common/element.hpp"
#include "plugins/common/mrd_header.hpp"
#include "plugins/math/coils/prewhitening.hpp"

#include <fmt/format.h>
#include <numbers>
#include <optional>

namespace mri {
namespace {

struct MriWhitenSettings {
    double bandwidth = 0;
};

class MriWhiten : public Configured<Regroup, MriWhitenSettings> {
  public:
    static constexpr ElementInfo info{"mriwhiten", "GstMriWhiten", "MRI prewhitening", "Filter/Converter/MRI",
                                      "Makes the noise of the receive coils equal and independent"};
    static constexpr const char* sink_caps = MRI_KSPACE_READOUT_CAPS;
    static constexpr const char* src_caps = MRI_KSPACE_READOUT_CAPS;

    static void properties(Properties<MriWhiten>& p) {
        p.real(
            "bandwidth",
            "Noise bandwidth of the receiver over the sampling rate in the noise readouts (0: as the header "
            "says, else 1)",
            0, 10, &MriWhitenSettings::bandwidth);
    }

  protected:
    void start() override {
        bandwidth_ = settings().bandwidth;
        header_bandwidth_ = 0;
    }

    void stop() override {
        noise_.reset();
        matrix_.clear();
        discont_ = false;
    }

    // Noise that was measured stays true after a flush.
    void flush() override { discont_ = false; }

    void set_caps(const GstCaps* caps) override {
        info_ = KspaceInfo::from_caps(caps);
        KspaceInfo whitened = info_;
        whitened.noise = std::numbers::sqrt2 / 2;
        caps_ = whitened.to_caps();
        if (noise_ && noise_->coils() != info_.coils) {
            noise_.reset();
            matrix_.clear();
        }
    }

    bool event(GstEvent* event) override {
        if (const auto xml = header_of(event); !xml.empty()) {
            header_bandwidth_ = MrdHeader::parse(xml).relative_noise_bandwidth;
            matrix_.clear();
        }
        return true;
    }

    GstFlowReturn chain(GstPtr<GstBuffer> buffer) override {
        const auto heads = readouts_of(buffer.get());
        const Readout head = heads.empty() ? Readout{} : heads.front();
        const Mapped<const cfloat> in(buffer.get());
        if (info_.readouts_in(in.size() * sizeof(cfloat)) != 1)
            throw Error(Errc::format, fmt::format("A buffer of {} samples is more than the one readout of {} "
                                                  "coils x {} samples that its caps announce",
                                                  in.size(), info_.coils, info_.samples));
        discont_ |= GST_BUFFER_FLAG_IS_SET(buffer.get(), GST_BUFFER_FLAG_DISCONT) != 0;
        if (head.flags & flag::noise) {
            if (!noise_)
                noise_.emplace(info_.coils);
            noise_->add(in.span(), head.sample_time_us);
            matrix_.clear();
            return GST_FLOW_OK;
        }
        if (matrix_.empty() || head.sample_time_us != sample_time_)
            prepare(head.sample_time_us);
        // Caps of noise readouts, which have a length of their own, never get here.
        set_src_caps(caps_);
        auto out = new_buffer<cfloat>(in.size());
        copy_metas(out.get(), buffer.get());
        mix_coils(matrix_, info_.coils, info_.coils, in.data(), static_cast<std::size_t>(info_.samples),
                  Mapped<cfloat>(out.get()).data());
        if (std::exchange(discont_, false))
            GST_BUFFER_FLAG_SET(out.get(), GST_BUFFER_FLAG_DISCONT);
        return push(std::move(out));
    }

  private:
    void prepare(double sample_time) {
        if (!noise_)
            throw Error(Errc::format,
                        "No noise readout came before the first one of the image: nothing tells the coils' "
                        "noise. Let ismrmrdsrc send them (noise=true), or leave mriwhiten out");
        matrix_ = whitening_matrix(*noise_);
        const double bandwidth = bandwidth_ > 0 ? bandwidth_ : header_bandwidth_ > 0 ? header_bandwidth_ : 1;
        const double scale = noise_scale(noise_->sample_time(), sample_time, bandwidth);
        for (cfloat& entry : matrix_)
            entry *= static_cast<float>(scale);
        sample_time_ = static_cast<float>(sample_time);
        MRI_INFO("noise of %d coils from %zu samples, scale %g", info_.coils, noise_->samples(), scale);
    }

    // Streaming thread, between start() and stop().
    double bandwidth_ = 0;
    double header_bandwidth_ = 0;
    KspaceInfo info_;
    GstPtr<GstCaps> caps_;
    std::optional<NoiseCovariance> noise_;
    std::vector<cfloat> matrix_; // empty: to be computed
    float sample_time_ = 0;      // of the readouts that it is for
    bool discont_ = false;
};

} // namespace
} // namespace mri

MRI_ELEMENT(mriwhiten, mri::MriWhiten)
