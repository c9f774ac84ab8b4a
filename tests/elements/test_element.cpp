// SPDX-License-Identifier: LGPL-2.1-or-later
// The element bases, through small elements made for the purpose.
#include "plugins/common/element.hpp"
#include "tests/support/gst_test.hpp"

#include <algorithm>

namespace {

using namespace mri;

enum class Fault { none, error, exception, other };

struct TestSettings {
    int window = 3;
    int hop = 1;
    double gain = 1.5;
    bool on = true;
    std::string text = "preset";
    Fault fault = Fault::none;
};

template <class Impl>
void add_properties(Properties<Impl>& p) {
    using S = TestSettings;
    p.integer("window", "Frames", 1, 100, &S::window);
    p.integer("hop", "Frames", 1, 100, &S::hop);
    p.real("gain", "Factor", -10, 10, &S::gain, Mutable::playing);
    p.boolean("on", "Switch", &S::on, Mutable::playing);
    p.string("text", "Text", &S::text, Mutable::playing);
    p.choice("fault", "What to throw", &S::fault,
             {{Fault::none, "none", "nothing"},
              {Fault::error, "error", "an Error"},
              {Fault::exception, "exception", "a std::exception"},
              {Fault::other, "other", "an int"}},
             Mutable::playing);
    p.computed(g_param_spec_int("answer", nullptr, "Read-only", 0, 100, 0, Properties<Impl>::readable()),
               [](Impl&, GValue* v) { g_value_set_int(v, 42); });
}

void misbehave(Fault fault) {
    if (fault == Fault::error)
        throw Error(Errc::decode, "bad thing in place X", "detail");
    if (fault == Fault::exception)
        throw std::runtime_error("library said\nmany lines");
    if (fault == Fault::other)
        throw 7; // NOLINT
}

class TestWindowed : public Configured<Windowed, TestSettings> {
  public:
    static constexpr ElementInfo info{"mritestwindowed", "GstMriTestWindowed", "test", "Filter", "test"};
    static constexpr const char* sink_caps = MRI_IMAGE_F32_CAPS;
    static constexpr const char* src_caps = MRI_IMAGE_F32_CAPS;
    static void properties(Properties<TestWindowed>& p) { add_properties(p); }

  protected:
    void set_caps(const GstCaps* caps) override {
        const auto s = settings();
        const auto image = ImageInfo::from_caps(caps);
        set_window(s.window, s.hop);
        set_src_caps(image.to_caps());
        set_timing(image.framerate.duration(), 5 * GST_MSECOND);
    }
    // The mean over the window, so that a frame's output tells which window it came from.
    std::vector<GstPtr<GstBuffer>> process(const Frames::Job& job) override {
        misbehave(settings().fault);
        float sum = 0;
        for (const auto& item : job.items)
            sum += Mapped<const float>(item.get())[0];
        std::vector<GstPtr<GstBuffer>> out;
        for (std::size_t i = 0; i < job.count; ++i) {
            auto buffer = new_output(job, job.first + i, sizeof(float));
            Mapped<float>(buffer.get())[0] = sum / static_cast<float>(job.items.size());
            out.push_back(std::move(buffer));
        }
        return out;
    }
};
MRI_ELEMENT(mritestwindowed, TestWindowed)

class TestTransform : public Configured<Transform, TestSettings> {
  public:
    static constexpr ElementInfo info{"mritesttransform", "GstMriTestTransform", "test", "Filter", "test"};
    static constexpr const char* sink_caps = MRI_IMAGE_F32_CAPS;
    static constexpr const char* src_caps = MRI_IMAGE_F32_CAPS;
    static void properties(Properties<TestTransform>& p) { add_properties(p); }

  protected:
    void set_caps(const GstCaps* in, const GstCaps*) override { bytes_ = ImageInfo::from_caps(in).bytes(); }
    std::size_t output_size(GstBuffer*) override { return bytes_; }
    void transform(GstBuffer* in, GstBuffer* out) override {
        const auto s = settings();
        misbehave(s.fault);
        Mapped<const float> from(in);
        Mapped<float> to(out);
        std::transform(from.span().begin(), from.span().end(), to.span().begin(),
                       [&](float v) { return v * static_cast<float>(s.gain); });
    }

  private:
    std::size_t bytes_ = 0;
};
MRI_ELEMENT(mritesttransform, TestTransform)

class TestSource : public Configured<Source, TestSettings> {
  public:
    static constexpr ElementInfo info{"mritestsource", "GstMriTestSource", "test", "Source", "test"};
    static constexpr const char* sink_caps = nullptr;
    static constexpr const char* src_caps = MRI_IMAGE_F32_CAPS;
    static void properties(Properties<TestSource>& p) { add_properties(p); }

  protected:
    bool start() override {
        count_ = 0;
        return true;
    }
    GstPtr<GstBuffer> create() override {
        if (count_ == 0)
            set_caps(ImageInfo{SampleFormat::f32, 1, 1, 1, 0, 0, {10, 1}, 0}.to_caps());
        if (count_ == 3) {
            misbehave(settings().fault);
            return nullptr;
        }
        auto buffer = new_buffer<float>(1);
        Mapped<float>(buffer.get())[0] = static_cast<float>(count_);
        GST_BUFFER_PTS(buffer.get()) = count_++ * 100 * GST_MSECOND;
        return buffer;
    }

  private:
    guint64 count_ = 0;
};
MRI_ELEMENT(mritestsource, TestSource)

class TestSink : public Configured<Sink, TestSettings> {
  public:
    static constexpr ElementInfo info{"mritestsink", "GstMriTestSink", "test", "Sink", "test"};
    static constexpr const char* sink_caps = MRI_IMAGE_F32_CAPS;
    static constexpr const char* src_caps = nullptr;
    static void properties(Properties<TestSink>& p) {
        add_properties(p);
        p.computed(g_param_spec_int("rendered", nullptr, "Buffers", 0, 1000, 0, p.readable()),
                   [](TestSink& self, GValue* v) { g_value_set_int(v, self.rendered_); });
    }

  protected:
    bool start() override {
        rendered_ = 0;
        return true;
    }
    void set_caps(const GstCaps* caps) override { ImageInfo::from_caps(caps); }
    GstFlowReturn render(GstBuffer*) override {
        ++rendered_;
        return GST_FLOW_OK;
    }
    void eos() override { misbehave(settings().fault); }

  private:
    std::atomic<int> rendered_{0};
};
MRI_ELEMENT(mritestsink, TestSink)

class ElementBases : public ::testing::Test {
  protected:
    static void SetUpTestSuite() {
        mri_register_mritestwindowed(nullptr);
        mri_register_mritesttransform(nullptr);
        mri_register_mritestsource(nullptr);
        mri_register_mritestsink(nullptr);
        // Registered without a plugin, the factories live in the registry until the process ends.
        for (const char* name : {"mritestwindowed", "mritesttransform", "mritestsource", "mritestsink"}) {
            const auto factory = adopt(gst_element_factory_find(name));
            GST_OBJECT_FLAG_SET(factory.get(), GST_OBJECT_FLAG_MAY_BE_LEAKED);
        }
    }
    static GstPtr<GstCaps> one_pixel(int series = 0, Fraction rate = {10, 1}) {
        return ImageInfo{SampleFormat::f32, 1, 1, 1, 0, 0, rate, series}.to_caps();
    }
    static void push(GstHarness* h, float value, int frame, bool discont = false) {
        auto buffer = test::buffer_of<float>({value}, frame * 100 * GST_MSECOND, 100 * GST_MSECOND);
        if (discont)
            GST_BUFFER_FLAG_SET(buffer.get(), GST_BUFFER_FLAG_DISCONT);
        EXPECT_EQ(gst_harness_push(h, buffer.release()), GST_FLOW_OK);
    }
    static std::vector<float> pull_all(GstHarness* h) {
        std::vector<float> values;
        while (auto buffer = adopt(gst_harness_try_pull(h)))
            values.push_back(test::values_of<float>(buffer.get()).at(0));
        return values;
    }
};

TEST_F(ElementBases, PropertiesHaveTheDefaultsOfTheSettings) {
    auto element =
        adopt(GST_ELEMENT(gst_object_ref_sink(gst_element_factory_make("mritestwindowed", nullptr))));
    int window = 0;
    int answer = 0;
    gint fault = -1;
    double gain = 0;
    gboolean on = FALSE;
    gchar* text = nullptr;
    g_object_get(element.get(), "window", &window, "gain", &gain, "on", &on, "text", &text, "answer", &answer,
                 "fault", &fault, nullptr);
    const GString_ptr owner(text);
    EXPECT_EQ(window, 3);
    EXPECT_EQ(gain, 1.5);
    EXPECT_TRUE(on);
    EXPECT_STREQ(text, "preset");
    EXPECT_EQ(answer, 42);
    EXPECT_EQ(fault, static_cast<int>(Fault::none));
    gst_util_set_object_arg(G_OBJECT(element.get()), "fault", "exception");
    g_object_get(element.get(), "fault", &fault, nullptr);
    EXPECT_EQ(fault, static_cast<int>(Fault::exception));
    auto* spec = g_object_class_find_property(G_OBJECT_GET_CLASS(element.get()), "text");
    EXPECT_STREQ(g_value_get_string(g_param_spec_get_default_value(spec)), "preset");
}

TEST_F(ElementBases, AReadyOnlyPropertyStaysWhileRunning) {
    auto element =
        adopt(GST_ELEMENT(gst_object_ref_sink(gst_element_factory_make("mritestwindowed", nullptr))));
    int window = 0;
    gst_element_set_state(element.get(), GST_STATE_PAUSED);
    g_object_set(element.get(), "window", 9, "gain", 2.5, nullptr);
    double gain = 0;
    g_object_get(element.get(), "window", &window, "gain", &gain, nullptr);
    EXPECT_EQ(window, 3);
    EXPECT_EQ(gain, 2.5);
    gst_element_set_state(element.get(), GST_STATE_NULL);
    g_object_set(element.get(), "window", 9, nullptr);
    g_object_get(element.get(), "window", &window, nullptr);
    EXPECT_EQ(window, 9);
}

TEST_F(ElementBases, WindowsSlideAndDrainAtEos) {
    auto h = test::harness("mritestwindowed window=3 hop=1");
    gst_harness_set_src_caps(h.get(), one_pixel().release());
    for (int i = 0; i < 5; ++i)
        push(h.get(), static_cast<float>(i), i);
    EXPECT_EQ(pull_all(h.get()), (std::vector<float>{1, 1, 2, 3}));
    gst_harness_push_event(h.get(), gst_event_new_eos());
    EXPECT_EQ(pull_all(h.get()), (std::vector<float>{3}));
}

TEST_F(ElementBases, OutputsKeepTimeStampsAndMetas) {
    auto h = test::harness("mritestwindowed window=3 hop=3");
    gst_harness_set_src_caps(h.get(), one_pixel().release());
    for (int i = 0; i < 3; ++i) {
        auto buffer = test::buffer_of<float>({1}, i * 100 * GST_MSECOND, 100 * GST_MSECOND);
        Readout readout;
        readout.repetition = static_cast<std::uint16_t>(i);
        add_readouts(buffer.get(), {readout});
        gst_harness_push(h.get(), buffer.release());
    }
    for (int i = 0; i < 3; ++i) {
        auto out = adopt(gst_harness_pull(h.get()));
        EXPECT_EQ(GST_BUFFER_PTS(out.get()), i * 100 * GST_MSECOND);
        EXPECT_EQ(GST_BUFFER_DURATION(out.get()), 100 * GST_MSECOND);
        ASSERT_EQ(readouts_of(out.get()).size(), 1U);
        EXPECT_EQ(readouts_of(out.get())[0].repetition, i);
    }
}

TEST_F(ElementBases, ANewSeriesDrainsTheOldOne) {
    auto h = test::harness("mritestwindowed window=4 hop=1");
    gst_harness_set_src_caps(h.get(), one_pixel(0).release());
    push(h.get(), 1, 0);
    push(h.get(), 3, 1);
    EXPECT_TRUE(pull_all(h.get()).empty());
    gst_harness_set_src_caps(h.get(), one_pixel(1).release());
    // Two frames padded by their edges to 1 1 3 3.
    EXPECT_EQ(pull_all(h.get()), (std::vector<float>{2, 2}));
}

TEST_F(ElementBases, LostDataDrainAndAFlushForgets) {
    auto h = test::harness("mritestwindowed window=4 hop=1");
    gst_harness_set_src_caps(h.get(), one_pixel().release());
    push(h.get(), 5, 0, true);
    push(h.get(), 5, 1);
    push(h.get(), 9, 7, true);
    EXPECT_EQ(pull_all(h.get()), (std::vector<float>{5, 5}));
    gst_harness_push_event(h.get(), gst_event_new_flush_start());
    gst_harness_push_event(h.get(), gst_event_new_flush_stop(TRUE));
    gst_harness_push_event(h.get(), gst_event_new_eos());
    EXPECT_TRUE(pull_all(h.get()).empty());
}

TEST_F(ElementBases, LatencyIsUnknownBeforeCapsAndTrueAfter) {
    auto h = test::harness("mritestwindowed window=4 hop=1");
    gst_harness_set_upstream_latency(h.get(), 10 * GST_MSECOND);
    auto query = adopt(gst_query_new_latency());
    auto pad = adopt(gst_element_get_static_pad(h->element, "src"));
    EXPECT_FALSE(gst_pad_query(pad.get(), query.get()));
    gst_harness_set_src_caps(h.get(), one_pixel().release());
    EXPECT_EQ(gst_harness_query_latency(h.get()), (10 + 3 * 100 + 5) * GST_MSECOND);
    gst_harness_set_src_caps(h.get(), one_pixel(1, {0, 1}).release());
    auto again = adopt(gst_query_new_latency());
    EXPECT_FALSE(gst_pad_query(pad.get(), again.get()));
}

TEST_F(ElementBases, LateFramesAreSkippedNotTheirInputs) {
    auto h = test::harness("mritestwindowed window=3 hop=1");
    gst_harness_set_src_caps(h.get(), one_pixel().release());
    gst_harness_push_upstream_event(
        h.get(), gst_event_new_qos(GST_QOS_TYPE_UNDERFLOW, 1.0, 100 * GST_MSECOND, 300 * GST_MSECOND));
    for (int i = 0; i < 9; ++i)
        push(h.get(), static_cast<float>(i), i);
    // Earliest = 300 + 2 * 100 ms: frames that end before 500 ms are skipped, frame 4 (400..500) is the first
    // one shown.
    EXPECT_EQ(pull_all(h.get()), (std::vector<float>{4, 5, 6, 7}));
}

class Faults : public ElementBases, public ::testing::WithParamInterface<const char*> {};

TEST_P(Faults, BecomeOneErrorOnTheBus) {
    for (const std::string name : {"mritestwindowed window=1 hop=1", "mritesttransform"}) {
        auto h = test::harness(name + " fault=" + GetParam());
        test::BusWatch watch(h->element);
        gst_harness_set_src_caps(h.get(), one_pixel().release());
        for (int i = 0; i < 2; ++i)
            EXPECT_EQ(gst_harness_push(h.get(), test::buffer_of<float>({1}).release()), GST_FLOW_ERROR);
        const auto errors = watch.errors();
        ASSERT_EQ(errors.size(), 1U) << name;
        EXPECT_FALSE(errors[0].empty());
        EXPECT_EQ(errors[0].find('\n'), std::string::npos);
    }
}

INSTANTIATE_TEST_SUITE_P(All, Faults, ::testing::Values("error", "exception", "other"));

TEST_F(ElementBases, ASourcesOwnErrorIsTheFirstOnTheBus) {
    const auto run = test::run_pipeline("mritestsource fault=error ! fakesink");
    ASSERT_FALSE(run.errors.empty());
    EXPECT_NE(run.errors[0].find("bad thing in place X"), std::string::npos);
    EXPECT_EQ(std::count_if(run.errors.begin(), run.errors.end(),
                            [](const auto& e) { return e.find("bad thing") != std::string::npos; }),
              1);
}

TEST_F(ElementBases, AChainRunsFromEndToEnd) {
    std::vector<float> got;
    const auto run =
        test::run_pipeline("mritestsource ! mritesttransform gain=2 ! tee name=t ! queue ! mritestsink "
                           "t. ! queue ! appsink sync=false",
                           20, [&](const std::string&, GstSample* sample) {
                               got.push_back(test::values_of<float>(gst_sample_get_buffer(sample)).at(0));
                           });
    EXPECT_TRUE(run.eos) << (run.errors.empty() ? "" : run.errors[0]);
    EXPECT_EQ(got, (std::vector<float>{0, 2, 4}));
}

TEST_F(ElementBases, ASinkThatFailsAtEosPostsAnErrorAndNoEos) {
    const auto run = test::run_pipeline("mritestsource ! mritestsink fault=exception", 5);
    EXPECT_FALSE(run.eos);
    ASSERT_FALSE(run.errors.empty());
    EXPECT_NE(run.errors[0].find("library said"), std::string::npos);
}

TEST_F(ElementBases, StatesCycle) {
    for (const char* name : {"mritestwindowed", "mritesttransform", "mritestsink"})
        EXPECT_TRUE(test::cycle_states(name).empty()) << name;
}

TEST_F(ElementBases, ASampleOutlivesItsPipeline) {
    GstPtr<GstSample> kept;
    test::run_pipeline("mritestsource ! mritestwindowed ! appsink sync=false", 20,
                       [&](const std::string&, GstSample* sample) { kept = retain(sample); });
    ASSERT_TRUE(kept);
    EXPECT_EQ(test::values_of<float>(gst_sample_get_buffer(kept.get())).size(), 1U);
}

} // namespace
