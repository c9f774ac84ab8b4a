// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/common/frame_rate.hpp"
#include "tests/support/gst_test.hpp"

namespace {

using namespace mri;
using test::buffer_of;
using test::values_of;

constexpr int coils = 2;
constexpr int samples = 4;
constexpr GstClockTime tr = 3 * GST_MSECOND;

KspaceInfo kspace_info(int series = 0) {
    KspaceInfo info;
    info.coils = coils;
    info.samples = samples;
    info.width = info.height = 4;
    info.series = series;
    return info;
}

std::string header(int phases, int repetitions) {
    const auto limit = [](const char* name, int maximum) {
        return std::string("<") + name + "><minimum>0</minimum><maximum> " + std::to_string(maximum) +
               " </maximum><center>0</center></" + name + ">";
    };
    return "<?xml version=\"1.0\"?><ismrmrdHeader "
           "xmlns=\"http://www.ismrm.org/ISMRMRD\"><encoding><encodingLimits>" +
           limit("phase", phases) + limit("repetition", repetitions) +
           "</encodingLimits></encoding><encoding><encodingLimits>" + limit("phase", 99) +
           limit("repetition", 99) + "</encodingLimits></encoding></ismrmrdHeader>";
}

GstPtr<GstSample> note(int number) {
    const auto caps = adopt(gst_caps_new_empty_simple("application/x-note"));
    return adopt(gst_sample_new(buffer_of(std::vector<int>{number}).get(), caps.get(), nullptr, nullptr));
}

int note_of(GstBuffer* frame) {
    GstSample* sample = side_of(frame, Role::truth);
    return sample ? values_of<int>(gst_sample_get_buffer(sample))[0] : -1;
}

// The number of the readout is in every value: 100 n + 10 coil + sample.
float value(int number, int coil, int sample) {
    return static_cast<float>(100 * number + 10 * coil + sample);
}

class MriFramer : public ::testing::Test {
  protected:
    void open(const std::string& line, const KspaceInfo& info = kspace_info()) {
        h = test::harness(line);
        ASSERT_TRUE(h);
        element = adopt(gst_harness_find_element(h.get(), "mriframer"));
        bus = std::make_unique<test::BusWatch>(element.get());
        caps(info);
        number = 0;
    }
    void TearDown() override {
        bus.reset();
        element.reset();
        h.reset();
    }
    void caps(const KspaceInfo& info) { gst_harness_set_src_caps(h.get(), info.to_caps().release()); }
    void send_header(int phases, int repetitions) {
        gst_harness_push_event(h.get(), new_header_event(header(phases, repetitions)).release());
    }
    void eos() { gst_harness_push_event(h.get(), gst_event_new_eos()); }
    GstFlowReturn push(Readout head = {}, bool truth = false, bool discont = false) {
        std::vector<cfloat> data;
        for (int c = 0; c < coils; ++c)
            for (int s = 0; s < samples; ++s)
                data.emplace_back(value(number, c, s), 0);
        auto buffer = buffer_of(data, number * tr, tr);
        auto line = std::make_shared<TrajectoryData>();
        line->readouts = 1;
        line->samples = samples;
        line->kxy.assign(2 * samples, static_cast<float>(number));
        add_trajectory(buffer.get(), line);
        head.scan_counter = number;
        add_readouts(buffer.get(), {head});
        if (truth)
            add_side(buffer.get(), Role::truth, note(number).get());
        if (discont)
            GST_BUFFER_FLAG_SET(buffer.get(), GST_BUFFER_FLAG_DISCONT);
        ++number;
        return gst_harness_push(h.get(), buffer.release());
    }
    // A Cartesian line: its position in k-space is that of its phase encode, and no counter says more than `head`.
    GstFlowReturn push_line(int line, Readout head, std::complex<float> factor = 1) {
        std::vector<cfloat> data;
        for (int c = 0; c < coils; ++c)
            for (int s = 0; s < samples; ++s)
                data.push_back(value(line, c, s) * factor);
        auto buffer = buffer_of(data, number * tr, tr);
        auto at = std::make_shared<TrajectoryData>();
        at->readouts = 1;
        at->samples = samples;
        for (int s = 0; s < samples; ++s)
            at->kxy.insert(at->kxy.end(), {static_cast<float>(s), static_cast<float>(line)});
        add_trajectory(buffer.get(), at);
        head.kspace_encode_step_1 = static_cast<std::uint16_t>(line);
        head.scan_counter = number++;
        add_readouts(buffer.get(), {head});
        return gst_harness_push(h.get(), buffer.release());
    }
    // scan_counters of the next frame; none without a frame.
    std::vector<std::uint32_t> next_frame() {
        std::vector<std::uint32_t> all;
        last_frame = pull();
        if (last_frame)
            for (const Readout& head : readouts_of(last_frame.get()))
                all.push_back(head.scan_counter);
        return all;
    }
    // Values of series in the caps so far.
    std::vector<int> series_announced() {
        std::vector<int> all;
        while (const auto event = adopt(gst_harness_try_pull_event(h.get()))) {
            if (GST_EVENT_TYPE(event.get()) != GST_EVENT_CAPS)
                continue;
            GstCaps* caps = nullptr;
            gst_event_parse_caps(event.get(), &caps);
            const int series = KspaceInfo::from_caps(caps).series;
            if (all.empty() || all.back() != series)
                all.push_back(series);
        }
        return all;
    }
    GstFlowReturn push_many(int count) {
        GstFlowReturn flow = GST_FLOW_OK;
        for (int i = 0; i < count && flow == GST_FLOW_OK; ++i)
            flow = push();
        return flow;
    }
    GstPtr<GstBuffer> pull() { return adopt(gst_harness_try_pull(h.get())); }
    // The next frame holds the readouts first .. first + count - 1, in order, with all that belongs to them.
    GstPtr<GstBuffer> expect_frame(int first, int count, int stride = 0) {
        auto frame = pull();
        EXPECT_TRUE(frame) << "no frame from " << first;
        if (!frame)
            return frame;
        const auto data = values_of<cfloat>(frame.get());
        const auto heads = readouts_of(frame.get());
        const auto line = trajectory_of(frame.get());
        EXPECT_EQ(heads.size(), static_cast<std::size_t>(count));
        EXPECT_EQ(data.size(), static_cast<std::size_t>(count) * coils * samples);
        EXPECT_TRUE(line && line->readouts == count);
        if (testing::Test::HasFailure())
            return frame;
        for (int r = 0; r < count; ++r) {
            EXPECT_EQ(heads[r].scan_counter, static_cast<std::uint32_t>(first + r));
            EXPECT_EQ(line->kxy[2 * samples * r], static_cast<float>(first + r));
            for (int c = 0; c < coils; ++c)
                for (int s = 0; s < samples; ++s)
                    EXPECT_EQ(data[(c * count + r) * samples + s].real(), value(first + r, c, s));
        }
        EXPECT_EQ(GST_BUFFER_PTS(frame.get()), first * tr);
        EXPECT_EQ(GST_BUFFER_DURATION(frame.get()), (stride ? stride : count) * tr);
        return frame;
    }
    KspaceInfo out() {
        const auto caps = adopt(gst_pad_get_current_caps(h->sinkpad));
        return KspaceInfo::from_caps(caps.get());
    }

    test::Harness h{nullptr};
    GstPtr<GstElement> element;
    std::unique_ptr<test::BusWatch> bus;
    GstPtr<GstBuffer> last_frame; // of next_frame()
    int number = 0;
};

KspaceInfo cartesian_info() {
    auto info = kspace_info();
    info.trajectory = Trajectory::cartesian;
    return info;
}

std::string limits_header(const std::vector<std::pair<std::string, int>>& maxima) {
    std::string text = "<ismrmrdHeader><encoding><encodingLimits>";
    for (const auto& [name, maximum] : maxima) {
        text.append("<")
            .append(name)
            .append("><minimum>0</minimum><maximum>")
            .append(std::to_string(maximum));
        text.append("</maximum></").append(name).append(">");
    }
    return text + "</encodingLimits></encoding></ismrmrdHeader>";
}

using Counts = std::vector<std::uint32_t>;

Readout repetition(int index, std::uint64_t flags = 0) {
    Readout head;
    head.repetition = static_cast<std::uint16_t>(index);
    head.flags = flags;
    return head;
}

Readout phase(int index, int repetition = 0) {
    Readout head;
    head.phase = static_cast<std::uint16_t>(index);
    head.repetition = static_cast<std::uint16_t>(repetition);
    return head;
}

Readout slice(int index) {
    Readout head;
    head.slice = static_cast<std::uint16_t>(index);
    return head;
}

TEST(FrameRate, IsTheSimplestThatFits) {
    EXPECT_EQ(frame_rate(39 * GST_MSECOND, 39 * GST_MSECOND), (Fraction{1000, 39}));
    EXPECT_EQ(frame_rate(39999990, 40000005), (Fraction{25, 1}));
    EXPECT_EQ(frame_rate(33333320, 33333335), (Fraction{30, 1}));
    EXPECT_EQ(frame_rate(GST_SECOND, GST_SECOND), (Fraction{1, 1}));
    EXPECT_EQ(frame_rate(1, 1), (Fraction{1000000000, 1}));
    EXPECT_EQ(frame_rate(2500 * GST_MSECOND, 2500 * GST_MSECOND), (Fraction{2, 5}));
    EXPECT_EQ(frame_rate(0, 0), Fraction{});
    EXPECT_EQ(frame_rate(5 * GST_SECOND + 1, 5 * GST_SECOND + 1),
              Fraction{}); // 10^9 / (5 * 10^9 + 1) does not fit
    for (const GstClockTime d : {GstClockTime{1234567}, GstClockTime{987654321}, GstClockTime{46428571}}) {
        const auto rate = frame_rate(d, d + 13);
        ASSERT_TRUE(rate.known());
        const double seconds = static_cast<double>(rate.den) / rate.num;
        EXPECT_GE(seconds * 1e9, static_cast<double>(d) * (1 - 1e-12));
        EXPECT_LE(seconds * 1e9, static_cast<double>(d + 13) * (1 + 1e-12));
    }
}

TEST_F(MriFramer, CountsReadouts) {
    open("mriframer readouts=3");
    ASSERT_EQ(push_many(6), GST_FLOW_OK);
    expect_frame(0, 3);
    expect_frame(3, 3);
    EXPECT_FALSE(pull());
    EXPECT_EQ(out().alignment, Alignment::frame);
    EXPECT_EQ(out().framerate, (Fraction{1000, 9}));
    EXPECT_EQ(gst_harness_query_latency(h.get()), 2 * tr);
}

TEST_F(MriFramer, AWindowSlidesByTheStride) {
    open("mriframer readouts=4 stride=2");
    ASSERT_EQ(push_many(9), GST_FLOW_OK);
    expect_frame(0, 4, 2);
    expect_frame(2, 4, 2);
    expect_frame(4, 4, 2);
    EXPECT_FALSE(pull());
    EXPECT_EQ(out().framerate, (Fraction{500, 3}));
    eos(); // readout 8 was in no frame
    EXPECT_FALSE(pull());
    EXPECT_EQ(bus->warnings().size(), 1u);
}

TEST_F(MriFramer, NothingIsLeftWhenTheLastWindowHadAllReadouts) {
    open("mriframer readouts=4 stride=2");
    ASSERT_EQ(push_many(8), GST_FLOW_OK);
    eos();
    EXPECT_TRUE(bus->warnings().empty());
}

TEST_F(MriFramer, AStrideLongerThanTheFrameLeavesReadoutsOut) {
    open("mriframer readouts=2 stride=5");
    ASSERT_EQ(push_many(8), GST_FLOW_OK);
    expect_frame(0, 2, 5);
    expect_frame(5, 2, 5);
    EXPECT_FALSE(pull());
}

TEST_F(MriFramer, AFrameMayBeATime) {
    open("mriframer time=10 stride=2"); // 3 readouts of 3 ms
    ASSERT_EQ(push_many(5), GST_FLOW_OK);
    expect_frame(0, 3, 2);
    expect_frame(2, 3, 2);
    EXPECT_EQ(out().framerate, (Fraction{500, 3}));
    TearDown();
    open("mriframer time=10");
    EXPECT_EQ(gst_harness_push(h.get(), buffer_of(std::vector<cfloat>(coils * samples)).release()),
              GST_FLOW_ERROR);
    ASSERT_EQ(bus->errors().size(), 1u);
    EXPECT_NE(bus->errors()[0].find("duration"), std::string::npos) << bus->errors()[0];
    const auto result = test::run_pipeline("appsrc ! mriframer time=3 readouts=3 ! fakesink");
    EXPECT_EQ(result.errors.size(), 1u);
}

TEST_F(MriFramer, AFlagClosesAFrameAtOnce) {
    open("mriframer");
    send_header(0, 10);
    for (int r = 0; r < 2; ++r) {
        ASSERT_EQ(push(repetition(r)), GST_FLOW_OK);
        ASSERT_EQ(push(repetition(r)), GST_FLOW_OK);
        EXPECT_FALSE(pull());
        ASSERT_EQ(push(repetition(r, flag::last_in_repetition)), GST_FLOW_OK);
        expect_frame(3 * r, 3);
    }
    EXPECT_EQ(gst_harness_query_latency(h.get()), 2 * tr);
}

TEST_F(MriFramer, AChangeOfTheIndexClosesAFrame) {
    open("mriframer");
    send_header(0, 10);
    push(repetition(0));
    push(repetition(0));
    EXPECT_FALSE(pull());
    push(repetition(1));
    expect_frame(0, 2);
    push(repetition(1));
    eos();
    expect_frame(2, 2);
    EXPECT_TRUE(bus->warnings().empty());
}

TEST_F(MriFramer, TheHeaderSaysWhichIndexCounts) {
    open("mriframer");
    send_header(5, 0); // phases alone
    push(phase(0));
    push(phase(0));
    push(phase(1));
    expect_frame(0, 2);
    EXPECT_TRUE(bus->warnings().empty());
    push(phase(1, 1)); // nevertheless another repetition
    expect_frame(2, 1);
    auto warnings = bus->warnings();
    ASSERT_EQ(warnings.size(), 1u);
    EXPECT_NE(warnings[0].find("repetition"), std::string::npos) << warnings[0];
    TearDown();
    open("mriframer");
    send_header(5, 3); // both
    push(phase(0, 0));
    push(phase(1, 0));
    push(phase(0, 1));
    expect_frame(0, 1);
    expect_frame(1, 1);
    warnings = bus->warnings();
    ASSERT_EQ(warnings.size(), 1u);
    EXPECT_NE(warnings[0].find("index="), std::string::npos) << warnings[0];
    TearDown();
    open("mriframer index=repetition");
    send_header(5, 3);
    push(phase(0, 0));
    push(phase(1, 0));
    push(phase(2, 1));
    expect_frame(0, 2);
    EXPECT_TRUE(bus->warnings().empty());
    TearDown();
    open("mriframer index=phase");
    send_header(5, 3);
    push(phase(0, 0));
    push(phase(1, 0));
    expect_frame(0, 1);
}

TEST_F(MriFramer, AHeaderThatIsNoXmlIsAnError) {
    open("mriframer");
    gst_harness_push_event(h.get(), new_header_event("<ismrmrdHeader><encoding>").release());
    EXPECT_EQ(bus->errors().size(), 1u);
}

TEST_F(MriFramer, ASliceIsASeriesOfItsOwn) {
    open("mriframer readouts=2", kspace_info(4));
    push(slice(0));
    push(slice(0));
    expect_frame(0, 2);
    EXPECT_EQ(out().series, 4);
    push(slice(1));
    push(slice(1));
    expect_frame(2, 2);
    EXPECT_EQ(out().series, 5);
    push(slice(1));
    push(slice(2));
    push(slice(2));
    expect_frame(5, 2);
    EXPECT_EQ(out().series, 6);
    EXPECT_TRUE(bus->warnings().empty());
    caps(kspace_info(5)); // cuts the frame of slice 1 off
    EXPECT_FALSE(pull());
    EXPECT_EQ(bus->warnings().size(), 1u);
    push(slice(0));
    push(slice(0));
    expect_frame(7, 2);
    EXPECT_EQ(out().series, 7);
}

TEST_F(MriFramer, SeriesThatWereMeasuredSideBySideGoOutOneAfterAnother) {
    open("mriframer", cartesian_info());
    gst_harness_set_live(h.get(), FALSE);
    // Two repetitions of two lines, of two slices with two sets each: 0 1 2 3, 4 5 6 7, ...
    for (int r = 0; r < 2; ++r)
        for (int line = 0; line < 2; ++line)
            for (int s = 0; s < 2; ++s)
                for (int v = 0; v < 2; ++v) {
                    Readout head = slice(s);
                    head.set = static_cast<std::uint16_t>(v);
                    head.repetition = static_cast<std::uint16_t>(r);
                    ASSERT_EQ(push_line(line, head), GST_FLOW_OK);
                }
    EXPECT_FALSE(pull());
    eos();
    GstClockTime end = 0;
    for (std::uint32_t series = 0; series < 4; ++series)
        for (std::uint32_t r = 0; r < 2; ++r) {
            EXPECT_EQ(next_frame(), (Counts{8 * r + series, 8 * r + 4 + series}));
            ASSERT_TRUE(last_frame);
            // A frame lasts to the next of its series, eight readouts later; the series follow one another.
            EXPECT_EQ(GST_BUFFER_PTS(last_frame.get()), end);
            EXPECT_EQ(GST_BUFFER_DURATION(last_frame.get()), 8 * tr);
            end += 8 * tr;
        }
    EXPECT_FALSE(pull());
    EXPECT_EQ(series_announced(), (std::vector<int>{0, 1, 2, 3}));
    EXPECT_TRUE(bus->warnings().empty());
}

TEST_F(MriFramer, LiveSeriesGoOutAsTheyComeAndKeepTheirNumber) {
    open("mriframer", cartesian_info());
    for (int r = 0; r < 3; ++r)
        for (int line = 0; line < 2; ++line)
            for (int s = 0; s < 2; ++s) {
                Readout head = slice(s);
                head.repetition = static_cast<std::uint16_t>(r);
                head.flags = line == 1 ? flag::last_in_repetition : 0;
                ASSERT_EQ(push_line(line, head), GST_FLOW_OK);
                if (line == 1)
                    EXPECT_EQ(next_frame(), (Counts{static_cast<std::uint32_t>(4 * r + s),
                                                    static_cast<std::uint32_t>(4 * r + 2 + s)}));
                else
                    EXPECT_FALSE(pull());
            }
    EXPECT_EQ(series_announced(), (std::vector<int>{0, 1, 0, 1, 0, 1}));
    const auto warnings = bus->warnings();
    ASSERT_EQ(warnings.size(), 1u);
    EXPECT_NE(warnings[0].find("order=series"), std::string::npos) << warnings[0];
}

TEST_F(MriFramer, CountedFramesAreThoseOfASeries) {
    open("mriframer readouts=2", cartesian_info());
    for (int line = 0; line < 4; ++line)
        for (int s = 0; s < 2; ++s)
            push_line(line, slice(s));
    EXPECT_EQ(next_frame(), (Counts{0, 2}));
    EXPECT_EQ(next_frame(), (Counts{1, 3}));
    EXPECT_EQ(next_frame(), (Counts{4, 6}));
    EXPECT_EQ(next_frame(), (Counts{5, 7}));
    // A part of a frame that is long past is no part of what comes now.
    push_line(0, slice(0)); // 8
    for (int line = 0; line < 6; ++line)
        push_line(line, slice(1));
    for (int f = 0; f < 3; ++f)
        EXPECT_EQ(next_frame().size(), 2u);
    EXPECT_EQ(bus->warnings().size(), 1u); // that they take turns
    push_line(1, slice(0));                // 15
    push_line(2, slice(0));
    EXPECT_EQ(next_frame(), (Counts{15, 16}));
    EXPECT_EQ(bus->warnings().size(), 2u);
}

TEST_F(MriFramer, LiveAFrameGoesOutWithTheLastLineOfTheLimits) {
    open("mriframer", cartesian_info());
    gst_harness_push_event(
        h.get(),
        new_header_event(limits_header({{"kspace_encoding_step_1", 2}, {"phase", 1}, {"segment", 2}}))
            .release());
    // A line of each phase in each of three beats.
    for (int beat = 0; beat < 3; ++beat)
        for (int p = 0; p < 2; ++p) {
            Readout head = phase(p);
            head.segment = static_cast<std::uint16_t>(beat);
            ASSERT_EQ(push_line(beat, head), GST_FLOW_OK);
            if (beat == 2)
                EXPECT_EQ(next_frame(),
                          (Counts{static_cast<std::uint32_t>(p), static_cast<std::uint32_t>(2 + p),
                                  static_cast<std::uint32_t>(4 + p)}));
            else
                EXPECT_FALSE(pull());
        }
    // A phase lasts until the next one begins.
    EXPECT_EQ(GST_BUFFER_PTS(last_frame.get()), tr);
    EXPECT_EQ(GST_BUFFER_DURATION(last_frame.get()), tr);
}

TEST_F(MriFramer, AveragesAreAveragedLineByLine) {
    auto info = cartesian_info();
    info.noise = 0.5;
    open("mriframer", info);
    const auto average = [](int number, std::uint64_t flags = 0) {
        Readout head = repetition(0, flags);
        head.average = static_cast<std::uint16_t>(number);
        return head;
    };
    // Line 0 once, line 1 three times with the factors 1, 4 and 7.
    push_line(0, average(0));
    push_line(1, average(0));
    push_line(1, average(1), 4);
    push_line(1, average(2, flag::last_in_repetition), 7);
    EXPECT_EQ(next_frame(), (Counts{0, 1}));
    const auto data = values_of<cfloat>(last_frame.get());
    ASSERT_EQ(data.size(), 2u * coils * samples);
    for (int c = 0; c < coils; ++c)
        for (int s = 0; s < samples; ++s) {
            EXPECT_EQ(data[(2 * c) * samples + s], cfloat(value(0, c, s)));
            EXPECT_EQ(data[(2 * c + 1) * samples + s], cfloat(4 * value(1, c, s)));
        }
    EXPECT_EQ(GST_BUFFER_DURATION(last_frame.get()), 4 * tr);
    EXPECT_DOUBLE_EQ(out().noise, 0.5); // of the line measured once
    EXPECT_TRUE(bus->warnings().empty());
    TearDown();
    // All lines four times: half the noise.
    open("mriframer", info);
    for (int a = 0; a < 4; ++a)
        for (int line = 0; line < 2; ++line)
            push_line(line, average(a, a == 3 && line == 1 ? flag::last_in_repetition : 0));
    EXPECT_EQ(next_frame(), (Counts{0, 1}));
    EXPECT_DOUBLE_EQ(out().noise, 0.25);
    TearDown();
    // As frames of their own.
    open("mriframer index=average", info);
    for (int a = 0; a < 2; ++a)
        for (int line = 0; line < 2; ++line)
            push_line(line, average(a));
    EXPECT_EQ(next_frame(), (Counts{0, 1}));
    eos();
    EXPECT_EQ(next_frame(), (Counts{2, 3}));
}

TEST_F(MriFramer, WhatIsMeasuredAgainWithoutACounterIsAveragedWithAWord) {
    open("mriframer", cartesian_info());
    for (int i = 0; i < 6; ++i)
        push_line(i % 2, {});
    eos();
    EXPECT_EQ(next_frame(), (Counts{0, 1}));
    auto warnings = bus->warnings();
    ASSERT_EQ(warnings.size(), 1u);
    EXPECT_NE(warnings[0].find("3 times"), std::string::npos) << warnings[0];
    TearDown();
    // Spokes all differ: far more than a frame of 4 x 4 pixels needs.
    open("mriframer");
    push_many(40);
    eos();
    EXPECT_EQ(next_frame().size(), 40u);
    warnings = bus->warnings();
    ASSERT_EQ(warnings.size(), 1u);
    EXPECT_NE(warnings[0].find("readouts"), std::string::npos) << warnings[0];
    TearDown();
    open("mriframer index=none");
    push_many(40);
    eos();
    EXPECT_EQ(next_frame().size(), 40u);
    EXPECT_TRUE(bus->warnings().empty());
}

TEST_F(MriFramer, TooManyOpenFramesAreAnError) {
    open("mriframer close=end max-frames-open=2");
    push(repetition(0));
    push(repetition(1));
    EXPECT_EQ(push(repetition(2)), GST_FLOW_ERROR);
    const auto errors = bus->errors();
    ASSERT_EQ(errors.size(), 1u);
    EXPECT_NE(errors[0].find("max-frames-open"), std::string::npos) << errors[0];
}

TEST_F(MriFramer, WhatWaitsIsBounded) {
    // A readout of 2 coils x 8192 samples is 128 KiB: eight may wait.
    auto info = cartesian_info();
    info.samples = 8192;
    const auto push_big = [&](int of_slice, int of_repetition) {
        auto buffer = buffer_of(std::vector<cfloat>(coils * 8192), number * tr, tr);
        Readout head = slice(of_slice);
        head.repetition = static_cast<std::uint16_t>(of_repetition);
        head.scan_counter = number++;
        add_readouts(buffer.get(), {head});
        return gst_harness_push(h.get(), buffer.release());
    };
    // Slices one after the other: the first one goes out before the end.
    open("mriframer max-waiting=1", info);
    gst_harness_set_live(h.get(), FALSE);
    for (int s = 0; s < 2; ++s)
        for (int r = 0; r < 6; ++r)
            ASSERT_EQ(push_big(s, r), GST_FLOW_OK);
    for (std::uint32_t r = 0; r < 6; ++r)
        EXPECT_EQ(next_frame(), Counts{r});
    eos();
    for (std::uint32_t r = 6; r < 12; ++r)
        EXPECT_EQ(next_frame(), Counts{r});
    EXPECT_TRUE(bus->errors().empty());
    TearDown();
    // Side by side: one error.
    open("mriframer max-waiting=1 close=end", info);
    gst_harness_set_live(h.get(), FALSE);
    GstFlowReturn flow = GST_FLOW_OK;
    for (int i = 0; i < 20 && flow == GST_FLOW_OK; ++i)
        flow = push_big(i % 2, i / 2);
    EXPECT_EQ(flow, GST_FLOW_ERROR);
    EXPECT_LE(number, 10);
    const auto errors = bus->errors();
    ASSERT_EQ(errors.size(), 1u);
    EXPECT_NE(errors[0].find("max-waiting"), std::string::npos) << errors[0];
}

TEST_F(MriFramer, ThePartialFrameAtTheEnd) {
    open("mriframer readouts=4");
    push_many(6);
    expect_frame(0, 4);
    eos();
    EXPECT_FALSE(pull());
    ASSERT_EQ(bus->warnings().size(), 1u);
    EXPECT_NE(bus->warnings()[0].find("2 of 4"), std::string::npos) << bus->warnings()[0];
    TearDown();
    open("mriframer readouts=4 incomplete=emit");
    push_many(6);
    expect_frame(0, 4);
    eos();
    expect_frame(4, 2);
    EXPECT_TRUE(bus->warnings().empty());
    TearDown();
    open("mriframer"); // flags have closed the frames before
    push(repetition(0));
    push(repetition(0, flag::last_in_repetition));
    expect_frame(0, 2);
    push(repetition(1));
    eos();
    EXPECT_FALSE(pull());
    EXPECT_EQ(bus->warnings().size(), 1u);
}

TEST_F(MriFramer, LostDataCutAFrameOff) {
    open("mriframer readouts=3");
    push_many(4);
    expect_frame(0, 3);
    ASSERT_EQ(push({}, false, true), GST_FLOW_OK);
    EXPECT_EQ(bus->warnings().size(), 1u);
    push_many(2);
    const auto frame = expect_frame(4, 3);
    EXPECT_TRUE(GST_BUFFER_FLAG_IS_SET(frame.get(), GST_BUFFER_FLAG_DISCONT));
    push_many(3);
    EXPECT_FALSE(GST_BUFFER_FLAG_IS_SET(expect_frame(7, 3).get(), GST_BUFFER_FLAG_DISCONT));
}

TEST_F(MriFramer, LostDataTakeTheBeginningOfAFrameToo) {
    open("mriframer");
    send_header(0, 10);
    for (int i = 0; i < 3; ++i)
        push(repetition(0, i == 2 ? flag::last_in_repetition : 0));
    expect_frame(0, 3);
    push(repetition(1), false, true);
    push(repetition(1, flag::last_in_repetition)); // its first readout is missing
    EXPECT_FALSE(pull());
    EXPECT_EQ(bus->warnings().size(), 1u);
    for (int i = 0; i < 3; ++i)
        push(repetition(2, i == 2 ? flag::last_in_repetition : 0));
    expect_frame(5, 3);
}

TEST_F(MriFramer, LostDataCutAllFramesThatComeInPartsOff) {
    for (const bool live : {true, false}) {
        open("mriframer", cartesian_info());
        gst_harness_set_live(h.get(), live);
        gst_harness_push_event(h.get(),
                               new_header_event(limits_header({{"phase", 1}, {"segment", 3}})).release());
        for (int r = 0; r < 2; ++r)
            for (int beat = 0; beat < 4; ++beat)
                for (int p = 0; p < 2; ++p) {
                    Readout head = phase(p, r);
                    head.segment = static_cast<std::uint16_t>(beat);
                    // Something is missing in the third beat of the first repetition.
                    ASSERT_EQ(push(head, false, r == 0 && beat == 2 && p == 0), GST_FLOW_OK);
                }
        eos();
        EXPECT_EQ(next_frame(), (Counts{8, 10, 12, 14}));
        EXPECT_EQ(next_frame(), (Counts{9, 11, 13, 15}));
        EXPECT_FALSE(pull());
        std::size_t cut = 0;
        for (const std::string& warning : bus->warnings())
            cut += warning.find("cut off") != std::string::npos ? 1 : 0;
        EXPECT_EQ(cut, 4u); // two phases before it, two behind
        TearDown();
    }
    // Repetitions one after the other lose the one alone.
    open("mriframer");
    gst_harness_set_live(h.get(), FALSE);
    for (int r = 0; r < 3; ++r)
        for (int line = 0; line < 2; ++line)
            if (r != 1 || line != 1) // readout 3 is lost
                push(repetition(r), false, r == 2 && line == 0);
    eos();
    EXPECT_EQ(next_frame(), (Counts{0, 1}));
    EXPECT_EQ(next_frame(), (Counts{3, 4}));
    EXPECT_EQ(bus->warnings().size(), 1u);
}

TEST_F(MriFramer, TheTruthNearestTheMiddleStays) {
    open("mriframer readouts=5 stride=3");
    for (int i = 0; i < 11; ++i)
        ASSERT_EQ(push({}, i % 3 == 1), GST_FLOW_OK);   // 1, 4, 7, 10
    EXPECT_EQ(note_of(expect_frame(0, 5, 3).get()), 1); // middle 2
    EXPECT_EQ(note_of(expect_frame(3, 5, 3).get()), 4); // middle 5
    EXPECT_EQ(note_of(expect_frame(6, 5, 3).get()), 7); // middle 8
}

TEST_F(MriFramer, WhatIsNoImageDataIsLeftOut) {
    open("mriframer readouts=2");
    push(repetition(0, flag::noise), false, true);
    push();
    push(repetition(0, flag::navigation));
    push(repetition(0, flag::parallel_calibration | flag::parallel_calibration_and_imaging));
    const auto frame = pull();
    ASSERT_TRUE(frame);
    EXPECT_EQ(readouts_of(frame.get())[0].scan_counter, 1u);
    EXPECT_EQ(readouts_of(frame.get())[1].scan_counter, 3u);
    EXPECT_TRUE(GST_BUFFER_FLAG_IS_SET(frame.get(), GST_BUFFER_FLAG_DISCONT)); // the noise scan's
}

TEST_F(MriFramer, CalibrationGoesAlongWithTheFramesOfItsSeries) {
    open("mriframer readouts=2");
    const auto line = [](int step, std::uint64_t flags, int of_slice = 0) {
        Readout head = slice(of_slice);
        head.kspace_encode_step_1 = static_cast<std::uint16_t>(step);
        head.flags = flags;
        return head;
    };
    const auto both = flag::parallel_calibration | flag::parallel_calibration_and_imaging;
    // scan_counters of the calibration that the next frame carries
    const auto expect = [&](std::vector<std::uint32_t> frame_readouts, std::vector<std::uint32_t> expected) {
        const auto frame = pull();
        ASSERT_TRUE(frame);
        const auto heads = readouts_of(frame.get());
        ASSERT_EQ(heads.size(), frame_readouts.size());
        for (std::size_t r = 0; r < heads.size(); ++r)
            EXPECT_EQ(heads[r].scan_counter, frame_readouts[r]);
        GstSample* sample = side_of(frame.get(), Role::calibration);
        ASSERT_EQ(sample != nullptr, !expected.empty());
        if (!sample)
            return;
        const auto info = KspaceInfo::from_caps(gst_sample_get_caps(sample));
        EXPECT_EQ(info.alignment, Alignment::frame);
        EXPECT_EQ(info.coils, coils);
        EXPECT_EQ(info.samples, samples);
        GstBuffer* buffer = gst_sample_get_buffer(sample);
        const auto calibration = readouts_of(buffer);
        const auto data = values_of<cfloat>(buffer);
        const auto trajectory = trajectory_of(buffer);
        const std::size_t n = expected.size();
        ASSERT_EQ(calibration.size(), n);
        ASSERT_EQ(data.size(), n * coils * samples);
        ASSERT_TRUE(trajectory && trajectory->readouts == static_cast<int>(n));
        for (std::size_t r = 0; r < n; ++r) {
            const int counter = static_cast<int>(expected[r]);
            EXPECT_EQ(calibration[r].scan_counter, expected[r]);
            EXPECT_EQ(trajectory->kxy[2 * samples * r], static_cast<float>(counter));
            for (int c = 0; c < coils; ++c)
                for (int s = 0; s < samples; ++s)
                    EXPECT_EQ(data[(c * n + r) * samples + s].real(), value(counter, c, s));
        }
    };
    push(line(0, 0));
    push(line(1, 0));
    expect({0, 1}, {});
    push(line(5, flag::parallel_calibration));
    push(line(6, flag::parallel_calibration, 1)); // of slice 1
    push(line(2, 0));
    push(line(7, both));
    expect({4, 5}, {2, 5});
    push(line(6, 0, 1));
    push(line(7, 0, 1));
    expect({6, 7}, {3});
}

TEST_F(MriFramer, FramesShareTheirCalibration) {
    open("mriframer readouts=1");
    const auto calibration_line = [](int counter, int flags_of) {
        Readout head;
        head.kspace_encode_step_1 = static_cast<std::uint16_t>(counter);
        head.flags = flags_of ? flag::parallel_calibration : 0;
        return head;
    };
    // A reference scan has a length of its own, and caps for it.
    auto info = kspace_info();
    info.samples = 2;
    caps(info);
    auto reference = buffer_of(std::vector<cfloat>(coils * 2, cfloat(3, 4)));
    add_readouts(reference.get(), {calibration_line(8, 1)});
    ASSERT_EQ(gst_harness_push(h.get(), reference.release()), GST_FLOW_OK);
    caps(kspace_info());
    push(calibration_line(0, 0));
    push(calibration_line(0, 0));
    const auto first = pull(), second = pull();
    ASSERT_TRUE(first && second);
    GstSample* sample = side_of(first.get(), Role::calibration);
    ASSERT_TRUE(sample);
    EXPECT_EQ(side_of(second.get(), Role::calibration), sample);
    EXPECT_EQ(KspaceInfo::from_caps(gst_sample_get_caps(sample)).samples, 2);
    EXPECT_EQ(values_of<cfloat>(gst_sample_get_buffer(sample)), std::vector<cfloat>(coils * 2, cfloat(3, 4)));
    caps(kspace_info(1)); // another scan
    push();
    const auto other = pull();
    ASSERT_TRUE(other);
    EXPECT_FALSE(side_of(other.get(), Role::calibration));
}

TEST_F(MriFramer, AFlushForgetsWhatIsPending) {
    open("mriframer readouts=3");
    push_many(2);
    gst_harness_push_event(h.get(), gst_event_new_flush_start());
    gst_harness_push_event(h.get(), gst_event_new_flush_stop(TRUE));
    GstSegment segment;
    gst_segment_init(&segment, GST_FORMAT_TIME);
    gst_harness_push_event(h.get(), gst_event_new_segment(&segment));
    ASSERT_EQ(push_many(3), GST_FLOW_OK);
    expect_frame(2, 3);
    EXPECT_FALSE(pull());
    EXPECT_TRUE(bus->warnings().empty());
}

TEST_F(MriFramer, NewCapsStartANewFrame) {
    open("mriframer readouts=3 incomplete=emit");
    push_many(4);
    expect_frame(0, 3);
    caps(kspace_info(1));
    expect_frame(3, 1);
    push_many(3);
    expect_frame(4, 3);
    EXPECT_EQ(out().series, 1);
}

TEST_F(MriFramer, FramesPassUnchanged) {
    auto info = kspace_info();
    info.alignment = Alignment::frame;
    open("mriframer readouts=7", info);
    auto frame = buffer_of(std::vector<cfloat>(coils * samples * 5), 0, tr);
    add_side(frame.get(), Role::truth, note(3).get());
    GstBuffer* same = frame.get();
    ASSERT_EQ(gst_harness_push(h.get(), frame.release()), GST_FLOW_OK);
    const auto got = pull();
    EXPECT_EQ(got.get(), same);
    EXPECT_EQ(note_of(got.get()), 3);
    EXPECT_EQ(out(), info);
}

TEST_F(MriFramer, ReadoutsWithoutMetasAreFramedToo) {
    open("mriframer readouts=2");
    for (int i = 0; i < 2; ++i)
        ASSERT_EQ(gst_harness_push(h.get(), buffer_of(std::vector<cfloat>(coils * samples)).release()),
                  GST_FLOW_OK);
    const auto frame = pull();
    ASSERT_TRUE(frame);
    EXPECT_EQ(readouts_of(frame.get()).size(), 2u);
    EXPECT_FALSE(trajectory_of(frame.get()));
    EXPECT_FALSE(GST_BUFFER_PTS_IS_VALID(frame.get()));
    EXPECT_EQ(out().framerate, Fraction{});
}

TEST_F(MriFramer, WrongInputIsOneError) {
    open("mriframer readouts=2");
    EXPECT_EQ(gst_harness_push(h.get(), buffer_of(std::vector<cfloat>(3)).release()), GST_FLOW_ERROR);
    EXPECT_EQ(gst_harness_push(h.get(), buffer_of(std::vector<cfloat>(3)).release()), GST_FLOW_ERROR);
    EXPECT_EQ(bus->errors().size(), 1u);
    TearDown();
    open("mriframer readouts=2");
    push();
    EXPECT_EQ(gst_harness_push(h.get(), buffer_of(std::vector<cfloat>(coils * samples)).release()),
              GST_FLOW_ERROR);
    ASSERT_EQ(bus->errors().size(), 1u); // one readout with, one without a trajectory
}

TEST_F(MriFramer, GradientDelaysNeedRadialReadouts) {
    auto info = kspace_info();
    info.trajectory = Trajectory::cartesian;
    open("mriframer gradient-delay=ring readouts=3", info);
    EXPECT_NE(push(), GST_FLOW_OK);
    auto errors = bus->errors();
    ASSERT_EQ(errors.size(), 1u);
    EXPECT_NE(errors[0].find("gradient-delay"), std::string::npos) << errors[0];
    TearDown();
    info = kspace_info();
    info.alignment = Alignment::frame;
    open("mriframer gradient-delay=fixed delay-x=1", info);
    EXPECT_NE(push(), GST_FLOW_OK);
    EXPECT_EQ(bus->errors().size(), 1u);
}

TEST_F(MriFramer, AStrideAloneIsAnError) {
    const auto result = test::run_pipeline("appsrc ! mriframer stride=3 ! fakesink");
    ASSERT_EQ(result.errors.size(), 1u);
    EXPECT_NE(result.errors[0].find("stride"), std::string::npos) << result.errors[0];
}

TEST_F(MriFramer, StatesCycle) {
    EXPECT_TRUE(test::cycle_states("mriframer").empty());
}

} // namespace
