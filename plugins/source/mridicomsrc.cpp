// SPDX-License-Identifier: LGPL-2.1-or-later
/**
 * SECTION:element-mridicomsrc
 * @title: mridicomsrc
 *
 * Cine series out of folders of DICOM files: one series of images per slice, in order of patient, DICOM series,
 * orientation and position, frames in order of time. Each series has a new value of series in the caps; time
 * stamps run on without a gap. A series is scaled by the 99.9th percentile of what is shown of it and clipped
 * to 0..1 (scale=false: values as the files give them).
 *
 * Files hold one image or several (enhanced and legacy converted objects), stored plainly or compressed: RLE,
 * JPEG, JPEG-LS, and JPEG 2000 in builds with OpenJPEG. Of magnitude, phase, real and imaginary images those
 * that image-type names are taken; all but magnitude is scaled to -1..1. Padding becomes 0.
 *
 * Slices are told apart by ImagePositionPatient and ImageOrientationPatient. Files without them are told apart
 * by SliceLocation, which a warning says. Each frame carries its place as the meta of one readout: position
 * of the pixel n/2 (the centre) in mm, LPS; read_dir along x, phase_dir along y, slice_dir the normal; slice,
 * phase in the beat and repetition (the beat), and its trigger time in ticks of 2.5 ms. A mri-header event of
 * each series tells the thickness of the slice (its field of view in z), where the files do.
 *
 * What cannot be used is skipped, each with a reason in the log (level INFO) and in one element message,
 * "mri-dicom-scan": files, series, skipped (counts), reasons (an array of strings "path: reason", at most
 * 1000) and order (what gave each series its order and times, as "trigger times over 3 beats"). One warning
 * counts the images that were left out. A folder that is missing, or no usable cine at all, is an error.
 * Images that turn out damaged when their series begins are left out with a warning.
 *
 * Slices are numbered from 1 within each DICOM series, in order of position; the property slices selects some
 * of them, as in "1,3-5,8-".
 *
 * Time: framerate sets the frame rate. Without it times are those of the first that makes sense: trigger
 * times, nominal or actual trigger delays, acquisition times, content times, the nominal R-R interval; 25
 * frames a second where there is none, which a warning says. Trigger times that begin again are those of
 * several beats, which follow each other in order of acquisition. Evenly spaced frames are one median step
 * apart; a series with pauses keeps its own times.
 *
 * Latency: none.
 *
 * Caps: application/x-mri-image, format=F32LE, channels=1, field of view in mm of the cropped or padded
 * image.
 *
 * ## Example launch line, with the folder as the environment variable GST_MRI_DATA
 * |[
 * gst-launch-1.0 mridicomsrc location=$GST_MRI_DATA/sunnybrook/SCD0000301 slices=5-6 width=192 height=192 !
 * fakesink
 * ]|
 */
#include "plugins/common/element.hpp"
#include "plugins/common/mrd_header.hpp"
#include "plugins/source/dicom/series.hpp"
#include "plugins/source/dicom/slice_selection.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <fmt/format.h>
#include <limits>
#include <optional>
#include <utility>

namespace mri {
namespace {

struct MriDicomSrcSettings {
    std::string location;
    std::vector<std::string> locations;
    bool recursive = true;
    int frames = 0;
    bool cycle = true;
    int width = 0;
    int height = 0;
    std::string slices;
    int repeat = 1;
    int loop = 1;
    Fraction framerate{0, 1};
    bool scale = true;
    DicomImageType image_type = DicomImageType::magnitude;
};

constexpr Fraction fallback_rate{25, 1};
constexpr std::size_t max_reasons = 1000;

/// One folder, or several between ':' or ';'. A name that exists is never split.
std::vector<std::string> split_location(const std::string& location) {
    std::error_code code;
    if (location.empty())
        return {};
    if (std::filesystem::exists(location, code))
        return {location};
    std::vector<std::string> folders;
    std::size_t begin = 0;
    while (begin <= location.size()) {
        const std::size_t end = std::min(location.find_first_of(":;", begin), location.size());
        if (end > begin)
            folders.push_back(location.substr(begin, end - begin));
        begin = end + 1;
    }
    return folders;
}

Fraction rate_of(const MriDicomSrcSettings& s, const CineSeries& cine) {
    if (s.framerate.known())
        return s.framerate;
    // Anything but a frame rate between 1/1000 and 1000 Hz is no trigger time in ms.
    if (cine.frame_duration < 1e-3 || cine.frame_duration > 1e3)
        return fallback_rate;
    Fraction rate;
    gst_util_double_to_fraction(1.0 / cine.frame_duration, &rate.num, &rate.den);
    return rate.known() ? rate : fallback_rate;
}

class MriDicomSrc : public Configured<Source, MriDicomSrcSettings> {
  public:
    static constexpr ElementInfo info{"mridicomsrc", "GstMriDicomSrc", "DICOM cine source", "Source/MRI",
                                      "Cine series from folders of DICOM files, slice by slice"};
    static constexpr const char* sink_caps = nullptr;
    static constexpr const char* src_caps = MRI_IMAGE_F32_CAPS;

    static void properties(Properties<MriDicomSrc>& p) {
        using S = MriDicomSrcSettings;
        constexpr int many = std::numeric_limits<int>::max();
        p.string("location", "Folder with DICOM files, or several between ':' or ';'", &S::location);
        p.custom(
            gst_param_spec_array(
                "locations", nullptr, "Folders with DICOM files, after those of location",
                g_param_spec_string("folder", nullptr, "Folder", nullptr,
                                    static_cast<GParamFlags>(G_PARAM_READWRITE | G_PARAM_STATIC_STRINGS)),
                p.flags(Mutable::ready)),
            [](MriDicomSrc& self, const GValue* value) { self.set_locations(value); },
            [](MriDicomSrc& self, GValue* value) { self.get_locations(value); });
        p.boolean("recursive", "Search subfolders too", &S::recursive);
        p.integer("frames", "Resample each series to this many frames (0: as in the files)", 0, 10000,
                  &S::frames);
        p.boolean("cycle", "Resampling: the first frame follows the last, as in a heart cycle", &S::cycle);
        p.integer("width", "Crop or pad around the centre to this many pixels (0: as in the files)", 0, 4096,
                  &S::width);
        p.integer("height", "Crop or pad around the centre to this many pixels (0: as in the files)", 0, 4096,
                  &S::height);
        p.string("slices", "Slices to take from each DICOM series, counted from 1, as 1,3-5,8- (empty: all)",
                 &S::slices);
        p.integer("repeat", "Repetitions of each series' frames, as consecutive beats", 1, many, &S::repeat);
        p.integer("loop", "Passes over all series (0: without end)", 0, many, &S::loop);
        p.fraction("framerate", "Frames a second (0/1: as in the files)", {0, 1}, {100000, 1}, &S::framerate);
        p.boolean("scale", "Divide by the 99.9th percentile of a series and clip to 0..1", &S::scale);
        p.choice(
            "image-type", "Images to take of those that show one signal in several ways", &S::image_type,
            {{DicomImageType::magnitude, "magnitude", "Magnitude, and images that do not say what they are"},
             {DicomImageType::phase, "phase", "Phase, velocity"},
             {DicomImageType::real, "real", "Real part"},
             {DicomImageType::imaginary, "imaginary", "Imaginary part"}});
    }

  protected:
    bool start() override {
        const auto s = settings();
        std::vector<std::string> folders = split_location(s.location);
        folders.insert(folders.end(), s.locations.begin(), s.locations.end());
        if (folders.empty())
            throw Error(Errc::settings,
                        "The property location is not set: it names the folder with the DICOM files");
        const SliceSelection selection(s.slices);

        DicomScan scan = scan_dicom(folders, s.recursive, 2, s.image_type);
        report(scan);
        if (scan.series.empty())
            throw no_cine(folders, scan);
        std::vector<DicomSeries> chosen;
        for (const DicomSeries& series : scan.series)
            if (selection.contains(series.slice + 1))
                chosen.push_back(series);
        if (chosen.empty())
            throw Error(Errc::settings, fmt::format("The property slices, '{}', leaves none of {} slices",
                                                    s.slices, scan.series.size()));
        series_ = std::move(chosen);
        next_ = 0;
        pass_ = 0;
        number_ = 0;
        time_ = 0;
        cine_.reset();
        warned_of_rate_ = false;
        return true;
    }

    void stop() override {
        series_.clear();
        cine_.reset();
    }

    GstPtr<GstBuffer> create() override {
        const auto s = settings();
        if (cine_ && frame_ == static_cast<guint64>(cine_->frames) * static_cast<guint64>(s.repeat)) {
            time_ += time_of(frame_);
            cine_.reset();
        }
        while (!cine_) {
            if (next_ == series_.size()) {
                ++pass_;
                if (series_.empty() || (s.loop > 0 && pass_ >= s.loop))
                    return {};
                next_ = 0;
            }
            open_series(s);
        }
        const std::size_t pixels = image_.pixels();
        auto buffer = new_buffer<float>(pixels);
        {
            const Mapped<float> out(buffer.get());
            const auto at = static_cast<std::size_t>(frame_ % static_cast<guint64>(cine_->frames)) * pixels;
            std::copy_n(cine_->pixels.data() + at, pixels, out.data());
        }
        GST_BUFFER_PTS(buffer.get()) = time_ + time_of(frame_);
        GST_BUFFER_DURATION(buffer.get()) = duration_of(frame_);
        add_place(buffer.get());
        ++frame_;
        return buffer;
    }

  private:
    /// Time of a frame of the current series, repeats included: from its index, so that rounding does not add
    /// up, or as its file says.
    GstClockTime time_of(guint64 frame) const {
        if (!uneven_)
            return gst_util_uint64_scale(frame, GST_SECOND * static_cast<guint64>(image_.framerate.den),
                                         static_cast<guint64>(image_.framerate.num));
        const auto frames = static_cast<guint64>(cine_->frames);
        const double beat = cine_->sources.back().time + cine_->frame_duration;
        const double time = static_cast<double>(frame / frames) * beat + cine_->sources[frame % frames].time;
        return static_cast<GstClockTime>(std::llround(time * GST_SECOND));
    }

    /// A frame before a pause lasts as long as the others.
    GstClockTime duration_of(guint64 frame) const {
        const GstClockTime step = time_of(frame + 1) - time_of(frame);
        return uneven_ ? std::min(step, static_cast<GstClockTime>(
                                            std::llround(1.5 * cine_->frame_duration * GST_SECOND)))
                       : step;
    }

    /// Where the image lies and when in the beat it is, as one readout's facts.
    void add_place(GstBuffer* buffer) const {
        const auto& plane = current_->plane;
        if (!plane || !cine_->centre)
            return;
        const auto floats = [](const DicomVector& v) {
            return std::array<float, 3>{static_cast<float>(v[0]), static_cast<float>(v[1]),
                                        static_cast<float>(v[2])};
        };
        const auto ticks = [](double ms) {
            return ms > 0 && ms < 1e9 ? static_cast<std::uint32_t>(ms / 2.5) : std::uint32_t{0};
        };
        const auto frames = static_cast<guint64>(cine_->frames);
        const auto index = static_cast<std::size_t>(frame_ % frames);
        Readout readout;
        readout.position = floats(*cine_->centre);
        readout.read_dir = floats(plane->row);
        readout.phase_dir = floats(plane->column);
        readout.slice_dir = floats(plane->normal());
        readout.slice = static_cast<std::uint16_t>(current_->slice);
        readout.acquisition_time_stamp =
            ticks(static_cast<double>(GST_BUFFER_PTS(buffer)) / static_cast<double>(GST_MSECOND));
        guint64 beat = frame_ / frames;
        if (cine_->sources.empty()) {
            readout.phase = static_cast<std::uint16_t>(index);
        } else {
            const DicomFrame& source = cine_->sources[index];
            readout.phase = static_cast<std::uint16_t>(source.phase);
            beat = beat * static_cast<guint64>(cine_->sources.back().beat + 1) +
                   static_cast<guint64>(source.beat);
            readout.physiology_time_stamp[0] = ticks(source.trigger_time.value_or(0));
        }
        readout.repetition = static_cast<std::uint16_t>(beat);
        add_readouts(buffer, {readout});
    }

    /// The series' matrix, field of view and slice thickness as an MRD header.
    std::string header() const {
        MrdEncoding encoding;
        encoding.encoded = {{image_.width, image_.height, 1},
                            {image_.fov_x, image_.fov_y, current_->thickness}};
        encoding.recon = encoding.encoded;
        encoding.trajectory = Trajectory::cartesian;
        MrdHeader header;
        header.encodings.push_back(std::move(encoding));
        return header.xml();
    }

    /// Opens the next series. One that cannot be read is left out for good, with a warning; the last one's
    /// error is thrown.
    void open_series(const MriDicomSrcSettings& s) {
        DicomLoadOptions options;
        options.frames = s.frames;
        options.cycle = s.cycle;
        options.width = s.width;
        options.height = s.height;
        options.scale = s.scale;
        try {
            cine_ = load_dicom_series(series_[next_], options);
        } catch (const Error& error) {
            if (error.code() != Errc::decode || series_.size() == 1)
                throw;
            post_warning(fmt::format("A series of {} frames is left out: {}", series_[next_].frames.size(),
                                     error.what()));
            series_.erase(series_.begin() + static_cast<std::ptrdiff_t>(next_));
            return;
        }
        current_ = &series_[next_++];
        if (!cine_->skipped.empty())
            post_warning(fmt::format("{} of {} frames of a series are left out, the first as '{}': {}",
                                     cine_->skipped.size(), current_->frames.size(),
                                     cine_->skipped.front().path, cine_->skipped.front().reason));
        frame_ = 0;
        image_ = {};
        image_.width = cine_->width;
        image_.height = cine_->height;
        image_.fov_x = cine_->fov_x;
        image_.fov_y = cine_->fov_y;
        image_.framerate = rate_of(s, *cine_);
        image_.series = number_++;
        uneven_ = !s.framerate.known() && !cine_->regular;
        if (!s.framerate.known() && cine_->frame_duration <= 0 && !std::exchange(warned_of_rate_, true))
            post_warning(
                fmt::format("The files do not tell the time between frames: {} a second are taken (the "
                            "property framerate sets another)",
                            fallback_rate.num),
                current_->frames.front().path);
        set_caps(image_.to_caps());
        if (current_->thickness > 0)
            push_event(new_header_event(header()));
        MRI_INFO("series %d: patient '%s', slice at %.2f mm, %d frames of %dx%d by %s", image_.series,
                 current_->patient.c_str(), current_->slice_position, cine_->frames, cine_->width,
                 cine_->height, current_->order.c_str());
    }

    /// One sentence on the images that were left out; files that are no images at all are not counted.
    static std::string left_out(const DicomScan& scan) {
        struct Kind {
            DicomSkip skip;
            const char* text;
        };
        std::string text;
        for (const auto& [skip, what] :
             {Kind{DicomSkip::image_type, "of another type than image-type names"},
              Kind{DicomSkip::unreadable, "cannot be read"}, Kind{DicomSkip::copy, "are copies"},
              Kind{DicomSkip::no_cine, "belong to no cine"},
              Kind{DicomSkip::no_image, "are no images of known place"}}) {
            std::size_t images = 0;
            const DicomSkipped* first = nullptr;
            for (const DicomSkipped& skipped : scan.skipped)
                if (skipped.kind == skip) {
                    images += skipped.images;
                    first = first ? first : &skipped;
                }
            if (first)
                text += fmt::format("{}{} {} ('{}': {})", text.empty() ? "Left out: " : "; ", images, what,
                                    first->path, first->reason);
        }
        return text;
    }

    void report(const DicomScan& scan) {
        for (const DicomSkipped& skipped : scan.skipped)
            MRI_INFO("skipped '%s': %s", skipped.path.c_str(), skipped.reason.c_str());
        if (const std::string text = left_out(scan); !text.empty() && !scan.series.empty())
            post_warning(text);
        for (const std::string& note : scan.notes)
            post_warning(note);
        StructurePtr message(
            gst_structure_new("mri-dicom-scan", "files", G_TYPE_UINT64, static_cast<guint64>(scan.files),
                              "series", G_TYPE_UINT64, static_cast<guint64>(scan.series.size()), "skipped",
                              G_TYPE_UINT64, static_cast<guint64>(scan.skipped.size()), nullptr));
        std::vector<std::string> reasons, order;
        for (const DicomSkipped& skipped : scan.skipped)
            reasons.push_back(skipped.path + ": " + skipped.reason);
        for (const DicomSeries& series : scan.series)
            order.push_back(series.order);
        take_texts(message.get(), "reasons", reasons);
        take_texts(message.get(), "order", order);
        post_message(std::move(message));
    }

    /// Sets a field to an array of at most max_reasons strings.
    static void take_texts(GstStructure* message, const char* field, const std::vector<std::string>& texts) {
        GValue values = G_VALUE_INIT;
        const std::size_t count = std::min(texts.size(), max_reasons);
        gst_value_array_init(&values, static_cast<guint>(count));
        for (std::size_t i = 0; i < count; ++i) {
            GValue text = G_VALUE_INIT;
            g_value_init(&text, G_TYPE_STRING);
            // Paths may be in any encoding, messages are UTF-8.
            g_value_take_string(&text,
                                g_utf8_make_valid(texts[i].c_str(), static_cast<gssize>(texts[i].size())));
            gst_value_array_append_and_take_value(&values, &text);
        }
        gst_structure_take_value(message, field, &values);
    }

    static Error no_cine(const std::vector<std::string>& folders, const DicomScan& scan) {
        std::string where;
        for (const std::string& folder : folders)
            where += (where.empty() ? "'" : "', '") + folder;
        std::string text = "There is no cine series in " + where + "'";
        if (scan.files == 0) {
            text += ": no files at all";
        } else {
            // A DICOM file tells more than another one.
            const auto told = std::find_if(scan.skipped.begin(), scan.skipped.end(), [](const auto& skipped) {
                return skipped.kind != DicomSkip::other_file;
            });
            text += fmt::format(": {} files", scan.files);
            if (!scan.skipped.empty()) {
                const DicomSkipped& first = told == scan.skipped.end() ? scan.skipped.front() : *told;
                text += fmt::format(", among them '{}': {}", first.path, first.reason);
            }
        }
        return Error(Errc::not_found, text);
    }

    void set_locations(const GValue* value) {
        std::vector<std::string> folders;
        for (guint i = 0; i < gst_value_array_get_size(value); ++i)
            if (const char* text = g_value_get_string(gst_value_array_get_value(value, i)))
                folders.emplace_back(text);
        change_settings([&](auto& s) { s.locations = std::move(folders); });
    }

    void get_locations(GValue* value) {
        for (const std::string& folder : settings().locations) {
            GValue text = G_VALUE_INIT;
            g_value_init(&text, G_TYPE_STRING);
            g_value_set_string(&text, folder.c_str());
            gst_value_array_append_and_take_value(value, &text);
        }
    }

    // Streaming thread, between start() and stop().
    std::vector<DicomSeries> series_;
    std::optional<CineSeries> cine_;       ///< the series being shown
    const DicomSeries* current_ = nullptr; ///< in series_, while cine_ is set
    ImageInfo image_;
    bool uneven_ = false; ///< frames have the times that cine_ tells
    bool warned_of_rate_ = false;
    std::size_t next_ = 0; ///< in series_
    int pass_ = 0;
    int number_ = 0;        ///< of the next series in the caps
    guint64 frame_ = 0;     ///< of the current series, repeats included
    GstClockTime time_ = 0; ///< where the current series begins
};

} // namespace
} // namespace mri

MRI_ELEMENT(mridicomsrc, mri::MriDicomSrc)
