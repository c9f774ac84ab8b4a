// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/common/facts.hpp"
#include "tests/support/gst_test.hpp"

#include <set>

namespace {

using namespace mri;

std::shared_ptr<const TrajectoryData> line(int samples) {
    auto t = std::make_shared<TrajectoryData>();
    t->readouts = 1;
    t->samples = samples;
    for (int i = 0; i < samples; ++i) {
        t->kxy.push_back(static_cast<float>(i));
        t->kxy.push_back(0.5F);
    }
    return t;
}

TEST(Caps, KspaceSurvivesTheRoundTrip) {
    KspaceInfo info;
    info.alignment = Alignment::frame;
    info.coils = 8;
    info.samples = 384;
    info.width = 192;
    info.height = 190;
    info.fov_x = 300.5;
    info.fov_y = 310;
    info.trajectory = Trajectory::cartesian;
    info.framerate = {1000, 39};
    info.series = 7;
    info.encoded_width = 384;
    info.encoded_height = 190;
    info.encoded_fov_x = 601;
    info.encoded_fov_y = 310;
    info.center_line = 95;
    info.noise = 0.25;
    EXPECT_EQ(KspaceInfo::from_caps(info.to_caps().get()), info);
    EXPECT_EQ(info.framerate.duration(), 39 * GST_MSECOND);
    auto templ = adopt(gst_caps_from_string(MRI_KSPACE_FRAME_CAPS));
    EXPECT_TRUE(gst_caps_can_intersect(templ.get(), info.to_caps().get()));
}

TEST(Caps, ImageSurvivesTheRoundTrip) {
    const ImageInfo info{SampleFormat::c64, 4, 100, 60, 250, 150, {25, 1}, 3};
    EXPECT_EQ(ImageInfo::from_caps(info.to_caps().get()), info);
    EXPECT_EQ(info.bytes(), 4U * 100 * 60 * 8);
    EXPECT_NO_THROW(info.check_size(info.bytes()));
    EXPECT_THROW(info.check_size(info.bytes() - 8), Error);
}

TEST(Caps, WrongOnesAreRefusedByName) {
    for (const char* text : {"video/x-raw",
                             "application/x-mri-kspace, format=C64LE, alignment=frame, samples=4, width=4, "
                             "height=4, trajectory=radial",
                             "application/x-mri-kspace, format=C64LE, alignment=frame, coils=1, samples=4, "
                             "width=-4, height=4, trajectory=radial",
                             "application/x-mri-kspace, format=C64LE, alignment=frame, coils=1, samples=4, "
                             "width=4, height=4, trajectory=radial, noise=-1.0",
                             "application/x-mri-kspace, format=C64LE, alignment=frame, coils=1, samples=4, "
                             "width=4, height=4, trajectory=zigzag"}) {
        auto caps = adopt(gst_caps_from_string(text));
        EXPECT_THROW(KspaceInfo::from_caps(caps.get()), Error) << text;
    }
    KspaceInfo info;
    info.coils = 3;
    info.samples = 10;
    EXPECT_EQ(info.readouts_in(2 * 3 * 10 * 8), 2);
    EXPECT_THROW(info.readouts_in(2 * 3 * 10 * 8 + 8), Error);
    EXPECT_THROW(info.readouts_in(0), Error);
}

TEST(Metas, SurviveACopyOfTheWholeBufferAndNotOfAPart) {
    auto buffer = adopt(gst_buffer_new_allocate(nullptr, 64, nullptr));
    Readout readout;
    readout.kspace_encode_step_1 = 5;
    readout.flags = flag::last_in_repetition;
    add_readouts(buffer.get(), {readout});
    add_trajectory(buffer.get(), line(8));
    auto image = adopt(gst_buffer_new_allocate(nullptr, 16, nullptr));
    const ImageInfo info{SampleFormat::f32, 1, 2, 2, 0, 0, {}, 0};
    add_side(buffer.get(), Role::truth, image.get(), info.to_caps().get());

    auto copy = adopt(gst_buffer_copy(buffer.get()));
    ASSERT_EQ(readouts_of(copy.get()).size(), 1U);
    EXPECT_EQ(readouts_of(copy.get())[0], readout);
    ASSERT_TRUE(trajectory_of(copy.get()));
    EXPECT_EQ(trajectory_of(copy.get())->kxy[6], 3.0F);
    ASSERT_NE(side_of(copy.get(), Role::truth), nullptr);
    EXPECT_EQ(gst_sample_get_buffer(side_of(copy.get(), Role::truth)), image.get());

    auto part = adopt(gst_buffer_copy_region(buffer.get(), GST_BUFFER_COPY_ALL, 0, 32));
    EXPECT_TRUE(readouts_of(part.get()).empty());
    EXPECT_FALSE(trajectory_of(part.get()));
    EXPECT_EQ(side_of(part.get(), Role::truth), nullptr);
}

// What another language finds: the custom meta's structure, which follows each change and each whole copy.
TEST(Metas, AreTheCustomMetaOfFactsToo) {
    auto buffer = adopt(gst_buffer_new_allocate(nullptr, 64, nullptr));
    std::vector<Readout> readouts(3);
    readouts[0].slice = 7;
    readouts[2].scan_counter = 99;
    add_readouts(buffer.get(), readouts);
    add_trajectory(buffer.get(), line(8));
    add_consistency(buffer.get(), {0.25, 1.5});
    auto image = adopt(gst_buffer_new());
    add_side(buffer.get(), Role::truth, image.get(), nullptr);
    add_side(buffer.get(), Role::input, image.get(), nullptr);
    remove_side(buffer.get(), Role::input);

    auto copy = adopt(gst_buffer_copy(buffer.get()));
    buffer.reset();
    GstCustomMeta* meta = gst_buffer_get_custom_meta(copy.get(), facts::name);
    ASSERT_NE(meta, nullptr);
    const GstStructure* structure = gst_custom_meta_get_structure(meta);
    gint64 slice = 0;
    double residual = 0, ratio = 0;
    int samples = 0;
    EXPECT_TRUE(gst_structure_get_int64(structure, "slice", &slice));
    EXPECT_TRUE(gst_structure_get_double(structure, "residual", &residual));
    EXPECT_TRUE(gst_structure_get_double(structure, "noise-ratio", &ratio));
    EXPECT_TRUE(gst_structure_get_int(structure, "trajectory-samples", &samples));
    EXPECT_EQ(slice, 7);
    EXPECT_EQ(residual, 0.25);
    EXPECT_EQ(ratio, 1.5);
    EXPECT_EQ(samples, 8);
    const auto bytes_of = [&](const char* field) {
        gsize size = 0;
        auto* bytes = static_cast<GBytes*>(g_value_get_boxed(gst_structure_get_value(structure, field)));
        const void* data = g_bytes_get_data(bytes, &size);
        return std::span(static_cast<const std::byte*>(data), size);
    };
    ASSERT_EQ(bytes_of("trajectory").size(), 8 * 2 * sizeof(float));
    EXPECT_EQ(reinterpret_cast<const float*>(bytes_of("trajectory").data())[6], 3.0F);
    ASSERT_EQ(bytes_of("readouts").size(), 3 * sizeof(Readout));
    const std::string layout = gst_structure_get_string(structure, "readouts-dtype");
    EXPECT_NE(layout.find("\"itemsize\": " + std::to_string(sizeof(Readout))), std::string::npos) << layout;
    EXPECT_FALSE(gst_structure_has_field(structure, "trajectory-density"));
    EXPECT_FALSE(gst_structure_has_field(structure, "input"));
    const auto* truth =
        static_cast<GstSample*>(g_value_get_boxed(gst_structure_get_value(structure, "truth")));
    EXPECT_EQ(gst_sample_get_buffer(const_cast<GstSample*>(truth)), image.get());

    auto part = adopt(gst_buffer_copy_region(copy.get(), GST_BUFFER_COPY_ALL, 0, 32));
    EXPECT_EQ(gst_buffer_get_custom_meta(part.get(), facts::name), nullptr);
}

TEST(Metas, SideDataOfOneRoleAreReplacedOthersStay) {
    auto buffer = adopt(gst_buffer_new());
    auto a = adopt(gst_buffer_new());
    auto b = adopt(gst_buffer_new());
    add_side(buffer.get(), Role::truth, a.get(), nullptr);
    add_side(buffer.get(), Role::input, a.get(), nullptr);
    add_side(buffer.get(), Role::truth, b.get(), nullptr);
    EXPECT_EQ(gst_sample_get_buffer(side_of(buffer.get(), Role::truth)), b.get());
    EXPECT_EQ(gst_sample_get_buffer(side_of(buffer.get(), Role::input)), a.get());
    remove_side(buffer.get(), Role::input);
    EXPECT_EQ(side_of(buffer.get(), Role::input), nullptr);
    EXPECT_EQ(side_of(buffer.get(), Role::kspace), nullptr);
}

TEST(Metas, ATrajectoryWhoseSizesDoNotFitIsRefused) {
    auto buffer = adopt(gst_buffer_new());
    auto t = std::make_shared<TrajectoryData>(*line(8));
    t->samples = 9;
    EXPECT_THROW(add_trajectory(buffer.get(), t), Error);
    EXPECT_FALSE(trajectory_of(buffer.get()));
}

TEST(Metas, RolesHaveNames) {
    std::set<std::string> names;
    for (const auto role : {Role::truth, Role::input, Role::kspace, Role::gridded, Role::sensitivities})
        names.insert(to_string(role));
    EXPECT_EQ(names, (std::set<std::string>{"truth", "input", "kspace", "gridded", "sensitivities"}));
}

TEST(Mapped, RefusesBuffersThatAreNoWholeNumberOfElements) {
    auto buffer = adopt(gst_buffer_new_allocate(nullptr, 12, nullptr));
    EXPECT_EQ(Mapped<const float>(buffer.get()).size(), 3U);
    EXPECT_THROW(Mapped<const cfloat>(buffer.get()), Error);
}

TEST(Header, TravelsAsAStickyEvent) {
    EXPECT_EQ(header_of(new_header_event("<xml/>").get()), "<xml/>");
    auto other =
        adopt(gst_event_new_custom(GST_EVENT_CUSTOM_DOWNSTREAM_STICKY, gst_structure_new_empty("other")));
    EXPECT_EQ(header_of(other.get()), "");
}

} // namespace
