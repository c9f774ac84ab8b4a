// SPDX-License-Identifier: LGPL-2.1-or-later
#include "models/files/model_info.hpp"
#include "plugins/math/base/error.hpp"

#include <gtest/gtest.h>

using namespace mri;

namespace {

const std::string good =
    "# a comment\n[modelinfo]\nversion = 1.0\ngroup-id=net\n\n[x]\nid=image\ndir=input\n"
    "type=float32\ndims=1,2,20,-1,128\nmri-scale=p99.5-of-time-average\n\n[y]\ndir=output\n"
    "type=complex64\ndims=-1,20,128\nmri-axes=HTW\ndims-order=row-major\n";

TEST(ModelInfo, ReadsWhatGStreamersFormatSays) {
    const ModelInfo info = parse_model_info(good, "net.modelinfo");
    EXPECT_EQ(info.input.name, "x");
    EXPECT_EQ(info.input.axes, "NCTHW");
    EXPECT_EQ(info.input.extent('H'), -1);
    EXPECT_EQ(info.input.extent('W'), 128);
    EXPECT_TRUE(info.input.is_complex());
    EXPECT_EQ(info.input.text(), "float32 1,2,20,-1,128 (NCTHW)");
    EXPECT_EQ(info.frames(), 20);
    EXPECT_TRUE(info.scaled);
    EXPECT_EQ(info.output.extent('T'), 20);
    EXPECT_EQ(info.output.extent('C'), 1);
    EXPECT_TRUE(info.output.is_complex());
}

TEST(ModelInfo, OneSentenceForWhatItCannotUse) {
    const auto replaced = [](const std::string& from, const std::string& to) {
        std::string text = good;
        const std::size_t at = text.find(from);
        EXPECT_NE(at, std::string::npos) << from;
        return text.replace(at, from.size(), to);
    };
    const struct {
        std::string text;
        std::string part;
    } cases[] = {
        {"", "no section [modelinfo]"},
        {"version=1.0\n", "line 1"},
        {replaced("version = 1.0", "version=2.0"), "'2.0'"},
        {replaced("type=float32", "type=uint8"), "'uint8'"},
        {replaced("dims=1,2,20,-1,128", "dims=1,2,20,x,128"), "'x'"},
        {replaced("dims=1,2,20,-1,128", "dims=1,2,20,0,128"), "'0'"},
        {replaced("dims=1,2,20,-1,128", "dims=1,2,20,-1,99999999999999999999"), "99999999999999999999"},
        {replaced("dims=1,2,20,-1,128", "dims=1,7,20,-1,128"), "7 channels"},
        {replaced("dims=1,2,20,-1,128", "dims=4,2,20,-1,128"), "batches of 4"},
        {replaced("dims=1,2,20,-1,128", "dims=128"), "1 dims"},
        {replaced("mri-axes=HTW", "mri-axes=HHW"), "'HHW'"},
        {replaced("mri-axes=HTW", "mri-axes=HZW"), "'HZW'"},
        {replaced("dims-order=row-major", "dims-order=col-major"), "row-major"},
        {replaced("dir=output", "dir=input"), "2 inputs"},
        {replaced("dir=output", "dir=sideways"), "'sideways'"},
        {replaced("dims=-1,20,128", "dims=-1,10,128"), "20 frames and the output 10"},
        {replaced("id=image", "ranges=0,255"), "ranges"},
        {replaced("mri-scale=p99.5-of-time-average", "mri-scale=loud"), "'loud'"}};
    for (const auto& c : cases) {
        try {
            parse_model_info(c.text, "net.modelinfo");
            ADD_FAILURE() << c.part;
        } catch (const Error& e) {
            EXPECT_NE(std::string(e.what()).find(c.part), std::string::npos) << e.what();
            EXPECT_NE(std::string(e.what()).find("net.modelinfo"), std::string::npos) << e.what();
        }
    }
    EXPECT_THROW(read_model_info("/nowhere.modelinfo"), Error);
    EXPECT_THROW(read_model_info("/dev/zero"), Error);
}

} // namespace
