// SPDX-License-Identifier: LGPL-2.1-or-later
// SECTION:element-mrimetrics
//
// Scores images against the truth that rides with them, and passes them on unchanged. At the end of a series
// (a change of caps, or EOS) it posts an element message `mri-metrics` with the figures of the series, with
// and without the linear fit (fields mse, nrmse, psnr, ssim, psnr-moving, and the same with `raw-` before);
// with `location` it also writes them, and a row for each frame, into a CSV file, which appears at EOS, unless an
// element of the pipeline has posted an error. At EOS
// `mri-metrics-summary` has the means over all series, as the property `summary` has at any time. With
// `input=true` the image that the last network was given (side data of role input) is scored too, in messages
// and rows of its own (`image=input`), and with `gridded=true` the plain gridded image (role gridded).
//
// The score: magnitudes of the central crop-width x crop-height pixels; one fit a x + b per series by least
// squares; clipped to 0..1; PSNR with peak 1 over the whole series; SSIM with a uniform 7x7 window, sample
// covariance and data range 1 (the defaults of scikit-image), mean over frames; psnr-moving: the PSNR of the
// pixels whose temporal standard deviation in the truth is above a quarter of that deviation's 99.5th
// percentile. NRMSE is relative to the truth's Euclidean norm. The truth is expected in 0..1.
//
// A series longer than max-frames is scored in parts of that many frames, each exactly, and what the parts say goes
// into the summary's means: memory stays bounded however long a scan runs. Unless it is set, a part has 300 frames in a
// live pipeline and 4096 elsewhere.
//
// Frames without truth pass; one warning says so, and `without-truth` counts them.
// Latency: none. Caps: application/x-mri-image, unchanged.
//
// |[
// gst-launch-1.0 -m mriphantomsrc num-buffers=20 ! mrisim ! mriframer ! mrirecon ! mrimetrics ! fakesink
// ]|
#include "plugins/common/abandoned.hpp"
#include "plugins/common/element.hpp"
#include "plugins/common/error_watch.hpp"
#include "plugins/common/image_buffers.hpp"
#include "plugins/math/image/score.hpp"

#include <cmath>
#include <cstdio>
#include <cstring>
#include <fmt/format.h>
#include <fstream>
#include <locale>
#include <map>
#include <optional>
#include <set>
#include <sstream>
#include <string>
#include <vector>

namespace {

using namespace mri;

enum class FitMode { none, linear };

struct MetricsSettings {
    FitMode fit = FitMode::linear;
    int crop_width = 128;
    int crop_height = 128;
    int max_frames = 0;
    bool input = false;
    bool gridded = false;
    std::string location;
    std::string label;
    bool keep_partial = false;
};

constexpr const char* csv_header = "label,image,series,frame,pts,mse,nrmse,psnr,ssim,psnr_moving,"
                                   "raw_mse,raw_nrmse,raw_psnr,raw_ssim,raw_psnr_moving\n";

std::string csv_text(const std::string& text) {
    if (text.find_first_of(",\"\r\n") == std::string::npos)
        return text;
    std::string quoted = "\"";
    for (const char c : text)
        quoted += c == '"' ? std::string("\"\"") : std::string(1, c);
    return quoted + '"';
}

/// The named figures of a series. A figure that does not exist (nothing moves) is not a number.
std::vector<std::pair<const char*, double>> figures(const SeriesScore& s) {
    return {{"mse", s.fitted.mse},          {"nrmse", s.fitted.nrmse},
            {"psnr", s.fitted.psnr},        {"ssim", s.fitted.ssim},
            {"psnr-moving", s.psnr_moving}, {"raw-mse", s.raw.mse},
            {"raw-nrmse", s.raw.nrmse},     {"raw-psnr", s.raw.psnr},
            {"raw-ssim", s.raw.ssim},       {"raw-psnr-moving", s.psnr_moving_raw}};
}

void set_figure(GstStructure* structure, const std::string& name, double value) {
    if (!std::isnan(value))
        gst_structure_set(structure, name.c_str(), G_TYPE_DOUBLE, value, nullptr);
}

/// Means over series, of what has a value.
class Means {
  public:
    void add(const SeriesScore& score) {
        ++series_;
        frames_ += score.frames;
        for (const auto& [name, value] : figures(score))
            if (!std::isnan(value)) {
                sums_[name].first += value;
                ++sums_[name].second;
            }
    }
    void write(GstStructure* structure, const std::string& prefix) const {
        gst_structure_set(structure, (prefix + "series").c_str(), G_TYPE_UINT, static_cast<guint>(series_),
                          (prefix + "frames").c_str(), G_TYPE_UINT64, static_cast<guint64>(frames_), nullptr);
        for (const auto& [name, sum] : sums_)
            set_figure(structure, prefix + name, sum.first / static_cast<double>(sum.second));
    }

  private:
    std::size_t series_ = 0, frames_ = 0;
    std::map<std::string, std::pair<double, std::size_t>> sums_;
};

class MriMetrics : public Configured<Transform, MetricsSettings> {
  public:
    static constexpr ElementInfo info{"mrimetrics", "GstMriMetrics", "MRI metrics", "Filter/Analyzer/MRI",
                                      "Scores images against the truth that rides with them"};
    static constexpr const char* sink_caps = MRI_IMAGE_CAPS;
    static constexpr const char* src_caps = MRI_IMAGE_CAPS;
    static void properties(Properties<MriMetrics>& p) {
        p.choice("fit", "Fit to the truth, per series, before comparing", &MetricsSettings::fit,
                 {{FitMode::none, "none", "Nothing: errors of scale count"},
                  {FitMode::linear, "linear", "a x + b"}});
        p.integer("crop-width", "Width in pixels of the centre that is compared; 0: all", 0, max_side,
                  &MetricsSettings::crop_width);
        p.integer("crop-height", "Height in pixels of the centre that is compared; 0: all", 0, max_side,
                  &MetricsSettings::crop_height);
        p.integer("max-frames",
                  "Frames kept for one report; a longer series is reported in parts (0: 300 live, else 4096)",
                  0, 1000000, &MetricsSettings::max_frames);
        p.boolean("input", "Also score the side data of role input", &MetricsSettings::input);
        p.boolean("gridded", "Also score the side data of role gridded", &MetricsSettings::gridded);
        p.string("location", "CSV file to write; empty: none", &MetricsSettings::location);
        p.boolean("keep-partial",
                  "Keep the rows written before an error or a stop without EOS, as location and '.partial'",
                  &MetricsSettings::keep_partial);
        p.string("label", "Name of what is scored, for messages and tables", &MetricsSettings::label,
                 Mutable::playing);
        p.computed(g_param_spec_boxed("summary", nullptr, "Means over the series reported so far",
                                      GST_TYPE_STRUCTURE, Properties<MriMetrics>::readable()),
                   [](MriMetrics& e, GValue* v) { g_value_take_boxed(v, e.summary().release()); });
    }

  protected:
    bool start() override;
    void stop() override;
    bool always_passthrough() const override { return true; }
    void set_caps(const GstCaps* in, const GstCaps* out) override;
    /// Frames of a part.
    int most_frames();
    void inspect(GstBuffer* buffer) override;
    void event(GstEvent* event) override;

  private:
    struct Track {
        std::string name; // of the image scored: image, or the role of the side data
        std::optional<Role> role;
        Scorer scorer;
        std::vector<GstClockTime> pts;
    };
    Track new_track(std::optional<Role> role, const MetricsSettings& s) const {
        return {role ? to_string(*role) : "image",
                role,
                Scorer(image_.width, image_.height, {s.crop_width, s.crop_height, s.fit == FitMode::linear}),
                {}};
    }
    /// Tracks for a new series: the image first.
    void new_tracks();
    void add(Track& track, GstBuffer* image, const ImageInfo& info, const std::vector<float>& truth,
             GstClockTime pts);
    bool same_size(const ImageInfo& side) const {
        return side.width == image_.width && side.height == image_.height;
    }
    void report();
    void report(Track& track);
    void write_csv(const Track& track, const SeriesScore& score, const std::string& label);
    void finish_table();
    StructurePtr summary() const;
    /// Whether a report has been made since start().
    bool scored() const {
        const std::lock_guard lock(summary_mutex_);
        return !means_.empty();
    }
    void reset() {
        tracks_.clear();
        without_truth_ = 0;
    }

    // State of the streaming thread.
    ImageInfo image_;
    std::vector<Track> tracks_;
    std::size_t without_truth_ = 0; // of this series
    bool warned_truth_ = false;
    std::set<Role> warned_;           // roles whose absence was told
    int part_ = 0;                    // reports of this series so far
    int most_frames_ = 0;             // of a part of this series
    std::optional<AtomicFile> table_; // of `location`, until the stream's end
    std::ofstream csv_;               // writes into it
    ErrorWatch watch_;
    mutable std::mutex summary_mutex_;   // guards the two below; nothing is called under it
    std::map<std::string, Means> means_; // by the track's name
    std::size_t total_without_truth_ = 0;
};

bool MriMetrics::start() {
    watch_.start(gst());
    {
        const std::lock_guard lock(summary_mutex_);
        means_.clear();
        total_without_truth_ = 0;
    }
    warned_truth_ = false;
    warned_.clear();
    const std::string location = settings().location;
    if (!location.empty()) {
        const std::string failed = "The table '" + location + "' cannot be written";
        tell_abandoned(*this, location);
        table_.emplace(location, failed);
        csv_.open(table_->temporary(), std::ios::trunc);
        if (!csv_)
            throw Error(Errc::open_write, failed, std::strerror(errno));
        csv_.imbue(std::locale::classic());
        csv_ << csv_header << std::flush;
    }
    return true;
}

void MriMetrics::stop() {
    reset();
    if (csv_.is_open())
        csv_.close();
    csv_.clear();
    if (table_ && scored()) {
        const MetricsSettings s = settings();
        std::string what =
            "The table '" + s.location + "' was not written: the stream did not come to its end";
        if (s.keep_partial)
            what += "; what there is of it is in '" +
                    table_->keep_partial("What there is of the table '" + s.location + "' could not be kept")
                        .string() +
                    "'";
        post_warning(what);
    }
    table_.reset();
    watch_.stop();
}

void MriMetrics::set_caps(const GstCaps* in, const GstCaps*) {
    report();
    reset();
    part_ = 0;
    image_ = ImageInfo::from_caps(in);
    most_frames_ = most_frames();
    new_tracks();
}

int MriMetrics::most_frames() {
    if (const int set = settings().max_frames; set > 0)
        return set;
    const auto query = adopt(gst_query_new_latency());
    gboolean live = FALSE;
    if (gst_pad_peer_query(GST_BASE_TRANSFORM_SINK_PAD(gst()), query.get()))
        gst_query_parse_latency(query.get(), &live, nullptr, nullptr);
    return live ? 300 : 4096;
}

void MriMetrics::new_tracks() {
    reset();
    const MetricsSettings s = settings();
    tracks_.push_back(new_track({}, s));
    if (s.input)
        tracks_.push_back(new_track(Role::input, s));
    if (s.gridded)
        tracks_.push_back(new_track(Role::gridded, s));
}

void MriMetrics::event(GstEvent* event) {
    if (GST_EVENT_TYPE(event) == GST_EVENT_EOS) {
        report();
        const bool any = scored();
        if (any)
            post_message(summary());
        if (table_ && !watch_.seen()) {
            if (any)
                finish_table();
            else
                post_warning("The table '" + settings().location + "' was not written: no frame was scored");
            table_.reset();
        }
    } else if (GST_EVENT_TYPE(event) == GST_EVENT_FLUSH_STOP && !tracks_.empty()) {
        new_tracks();
    }
}

void MriMetrics::inspect(GstBuffer* buffer) {
    GstSample* side = side_of(buffer, Role::truth);
    if (!side) {
        ++without_truth_;
        if (!std::exchange(warned_truth_, true))
            post_warning(
                "A frame came without its truth and was not scored",
                "only simulated data carry a truth (side data of role truth); such frames are counted");
        return;
    }
    const ImageInfo truth_info = ImageInfo::from_caps(gst_sample_get_caps(side));
    if (!same_size(truth_info))
        throw Error(Errc::format,
                    fmt::format("An image of {}x{} cannot be scored against a truth of {}x{}", image_.width,
                                image_.height, truth_info.width, truth_info.height));
    const std::vector<float> truth = magnitude_of(gst_sample_get_buffer(side), truth_info);
    for (Track& track : tracks_) {
        if (!track.role) {
            add(track, buffer, image_, truth, GST_BUFFER_PTS(buffer));
            continue;
        }
        GstSample* other = side_of(buffer, *track.role);
        const ImageInfo info = other ? ImageInfo::from_caps(gst_sample_get_caps(other)) : ImageInfo{};
        if (other && same_size(info))
            add(track, gst_sample_get_buffer(other), info, truth, GST_BUFFER_PTS(buffer));
        else if (warned_.insert(*track.role).second)
            post_warning("A frame came without side data of role " + track.name +
                         " of its size, which was not scored");
    }
    if (static_cast<int>(tracks_.front().scorer.frames()) >= most_frames_)
        report();
}

void MriMetrics::add(Track& track, GstBuffer* image, const ImageInfo& info, const std::vector<float>& truth,
                     GstClockTime pts) {
    track.scorer.add(magnitude_of(image, info), truth);
    track.pts.push_back(pts);
}

void MriMetrics::report() {
    for (Track& track : tracks_)
        report(track);
    {
        const std::lock_guard lock(summary_mutex_);
        total_without_truth_ += without_truth_;
    }
    without_truth_ = 0;
    ++part_;
}

void MriMetrics::report(Track& track) {
    const SeriesScore score = track.scorer.finish();
    if (score.frames == 0)
        return;
    const MetricsSettings s = settings();
    {
        const std::lock_guard lock(summary_mutex_);
        means_[track.name].add(score);
    }
    if (csv_.is_open())
        write_csv(track, score, s.label);
    track.pts.clear();
    StructurePtr message(gst_structure_new(
        "mri-metrics", "label", G_TYPE_STRING, s.label.c_str(), "image", G_TYPE_STRING, track.name.c_str(),
        "series", G_TYPE_INT, image_.series, "part", G_TYPE_INT, part_, "frames", G_TYPE_UINT64,
        static_cast<guint64>(score.frames), "without-truth", G_TYPE_UINT64,
        static_cast<guint64>(without_truth_), "fit", G_TYPE_STRING,
        s.fit == FitMode::linear ? "linear" : "none", "gain", G_TYPE_DOUBLE, score.gain, "offset",
        G_TYPE_DOUBLE, score.offset, "truth-peak", G_TYPE_DOUBLE, score.truth_peak, "moving-pixels",
        G_TYPE_UINT64, static_cast<guint64>(score.moving_pixels), nullptr));
    for (const auto& [name, value] : figures(score))
        set_figure(message.get(), name, value);
    MRI_INFO("series %d, %s: %zu frames, PSNR %.2f dB, SSIM %.4f, moving %.2f dB", image_.series,
             track.name.c_str(), score.frames, score.fitted.psnr, score.fitted.ssim, score.psnr_moving);
    post_message(std::move(message));
}

void MriMetrics::write_csv(const Track& track, const SeriesScore& score, const std::string& label) {
    const auto row = [&](const std::string& frame, const std::string& pts, const ScoreValues& fitted,
                         const std::string& moving, const ScoreValues& raw, const std::string& raw_moving) {
        csv_ << csv_text(label) << ',' << track.name << ',' << image_.series << ',' << frame << ',' << pts;
        csv_ << ',' << fitted.mse << ',' << fitted.nrmse << ',' << fitted.psnr << ',' << fitted.ssim << ','
             << moving;
        csv_ << ',' << raw.mse << ',' << raw.nrmse << ',' << raw.psnr << ',' << raw.ssim << ',' << raw_moving
             << '\n';
    };
    const auto text = [](double value) {
        std::ostringstream out;
        out.imbue(std::locale::classic());
        if (!std::isnan(value))
            out << value;
        return out.str();
    };
    const std::size_t first = static_cast<std::size_t>(part_) * most_frames_;
    for (std::size_t f = 0; f < score.frames; ++f)
        row(std::to_string(first + f),
            GST_CLOCK_TIME_IS_VALID(track.pts[f]) ? std::to_string(track.pts[f]) : "", score.frames_fitted[f],
            "", score.frames_raw[f], "");
    row("all", "", score.fitted, text(score.psnr_moving), score.raw, text(score.psnr_moving_raw));
    csv_.flush();
    if (!csv_)
        throw Error(Errc::write, "The table '" + settings().location + "' could not be written to its end",
                    std::strerror(errno));
}

/// Gives the table its name.
void MriMetrics::finish_table() {
    const std::string failed = "The table '" + settings().location + "' could not be written to its end";
    csv_.close();
    if (!csv_)
        throw Error(Errc::write, failed, std::strerror(errno));
    table_->commit(failed);
}

StructurePtr MriMetrics::summary() const {
    const MetricsSettings s = settings();
    StructurePtr structure(gst_structure_new("mri-metrics-summary", "label", G_TYPE_STRING, s.label.c_str(),
                                             "fit", G_TYPE_STRING,
                                             s.fit == FitMode::linear ? "linear" : "none", nullptr));
    const std::lock_guard lock(summary_mutex_);
    if (const auto image = means_.find("image"); image != means_.end())
        image->second.write(structure.get(), "");
    else
        Means{}.write(structure.get(), "");
    gst_structure_set(structure.get(), "without-truth", G_TYPE_UINT64,
                      static_cast<guint64>(total_without_truth_), nullptr);
    for (const auto& [name, means] : means_)
        if (name != "image")
            means.write(structure.get(), name + "-");
    return structure;
}

} // namespace

MRI_ELEMENT(mrimetrics, MriMetrics)
