// SPDX-License-Identifier: LGPL-2.1-or-later
// The command mri-weights: formats there and back, PyTorch's view of them, exit codes.
#include "models/files/torch_state_dict.hpp"
#include "models/files/weights.hpp"
#include "models/torch/user_module.hpp"
#include "models/unet/unet.hpp"
#include "tests/support/network_support.hpp"
#include "tests/support/torch_python.hpp"

#include <cmath>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <sys/wait.h>

using namespace mri;
using namespace mri::test;

namespace {

class MriWeights : public testing::Test {
  protected:
    MriWeights() {
        small_.metadata["leak"] = "0.1";
        write_safetensors(path("a.safetensors"), small_);
    }
    std::string path(const std::string& name) const { return folder_.path(name); }
    /// The exit status; what it printed is in output_.
    int run(const std::string& arguments) {
        const std::string command = "mri-weights " + arguments + " >'" + path("out") + "' 2>&1";
        const int raw = std::system(command.c_str()); // NOLINT: the commands are the repository's own
        std::ifstream in(path("out"));
        std::stringstream text;
        text << in.rdbuf();
        output_ = text.str();
        return WIFEXITED(raw) ? WEXITSTATUS(raw) : -1;
    }

    TempDir folder_;
    TensorFile small_ = small_network();
    std::string output_;
};

TEST_F(MriWeights, ConvertsThereAndBack) {
    ASSERT_EQ(run("convert " + path("a.safetensors") + " " + path("b.pth")), 0) << output_;
    ASSERT_EQ(run("convert " + path("b.pth") + " " + path("c.safetensors")), 0) << output_;
    const TensorFile back = read_safetensors(path("c.safetensors"));
    EXPECT_EQ(back.metadata, small_.metadata);
    ASSERT_EQ(back.tensors.size(), small_.tensors.size());
    for (const auto& [name, tensor] : small_.tensors)
        EXPECT_EQ(back.tensors.at(name).values, tensor.values) << name;
    ASSERT_EQ(run("show " + path("b.pth")), 0);
    EXPECT_NE(output_.find("conv1.weight"), std::string::npos) << output_;
    EXPECT_NE(output_.find("26 tensors"), std::string::npos) << output_;
}

/// What the shapes of a state dict from elsewhere cannot tell, the user can.
TEST_F(MriWeights, SetsMetadata) {
    TensorFile bare = small_;
    bare.metadata.clear();
    write_safetensors(path("bare.safetensors"), bare);
    ASSERT_EQ(
        run("convert --set leak=0.1 --set up-relu=true " + path("bare.safetensors") + " " + path("b.pth")), 0)
        << output_;
    const UnetOptions options = Unet::load(path("b.pth"), {"cpu", Precision::float32, 1}).unet();
    EXPECT_EQ(options.leak, 0.1F);
    EXPECT_TRUE(options.up_relu);
    EXPECT_EQ(run("convert --set leak " + path("bare.safetensors") + " " + path("c.pth")), 2);
    EXPECT_NE(output_.find("KEY=VALUE"), std::string::npos) << output_;
    EXPECT_FALSE(std::ifstream(path("c.pth")));
}

TEST_F(MriWeights, TheTorchScriptModuleComputesTheSame) {
    for (const bool mean : {false, true}) {
        TensorFile file = small_;
        if (mean) { // two input channels
            file.metadata["input"] = "difference+mean";
            NamedTensor& first = file.tensors.at("conv1.weight");
            NamedTensor two{{first.shape[0], 2, 3, 3, 3}, {}};
            for (std::size_t f = 0; f < static_cast<std::size_t>(first.shape[0]); ++f)
                for (std::size_t i = 0; i < 54; ++i)
                    two.values.push_back(first.values[f * 27 + i % 27] * (i < 27 ? 1.0F : -0.3F));
            first = two;
        }
        file.metadata["window"] = "6"; // like the other sizes no multiple of 4
        write_safetensors(path("a.safetensors"), file);
        ASSERT_EQ(run("convert " + path("a.safetensors") + " " + path("net.pt")), 0) << output_;
        const RunOptions plain{"cpu", Precision::float32, 1};
        TorchModule module = TorchModule::load(path("net.pt"), path("net.pt.modelinfo"), true, plain);
        EXPECT_EQ(module.info().frames(), 6);
        EXPECT_TRUE(module.info().scaled);
        std::vector<float> input;
        for (int f = 0; f < 6; ++f) {
            const auto frame = blob(13, 11, f);
            input.insert(input.end(), frame.begin(), frame.end());
        }
        std::vector<float> a(input.size());
        std::vector<float> b(input.size());
        Unet::load(path("a.safetensors"), plain).run(input, a, {6, 11, 13}, 1.0F);
        module.run(input, b, {{6, 11, 13}, false});
        // The same sums of at most 27 x 12 products of values of order 1, in an order that may differ.
        for (std::size_t i = 0; i < a.size(); ++i)
            ASSERT_NEAR(a[i], b[i], 2e-5) << i;
        EXPECT_NE(a, input);
        if (!torch_python().empty()) {
            EXPECT_EQ(run_torch_python("runs " + path("net.pt") + " 6 11 13"), 0);
        }
    }
}

/// Names of a stranger's file become code, and reach a terminal.
TEST_F(MriWeights, NamesAreNeitherCodeNorControlSequences) {
    TensorFile crnn = read_weights(find_weights("unet.safetensors"));
    const std::string name = "conv1.bias if torch.save(x, 'there') is None else self.conv1.bias";
    crnn.tensors[name] = {{1}, {0}};
    write_safetensors(path("injected.safetensors"), crnn);
    EXPECT_EQ(run("convert " + path("injected.safetensors") + " " + path("injected.pt")), 1);
    EXPECT_NE(output_.find("letters, digits"), std::string::npos) << output_;
    EXPECT_FALSE(std::ifstream(path("injected.pt")));

    TensorFile coloured;
    coloured.metadata["note"] = "\x1b[31mRED\x1b]0;title\x07";
    coloured.tensors["a\x1b[1mb"] = {{1}, {0}};
    write_safetensors(path("coloured.safetensors"), coloured);
    ASSERT_EQ(run("show " + path("coloured.safetensors")), 0);
    EXPECT_EQ(output_.find('\x1b'), std::string::npos);
    EXPECT_NE(output_.find("\\x1b[31mRED\\x1b]0;title\\x07"), std::string::npos) << output_;
    EXPECT_NE(output_.find("a\\x1b[1mb"), std::string::npos) << output_;
    EXPECT_EQ(run("convert " + path("coloured.safetensors") + " " + path("coloured.pt")), 1);
    EXPECT_EQ(output_.find('\x1b'), std::string::npos) << "an error names tensors too";
}

TEST_F(MriWeights, PyTorchReadsTheStateDict) {
    if (torch_python().empty())
        GTEST_SKIP() << no_torch_python;
    ASSERT_EQ(run("convert " + path("a.safetensors") + " " + path("b.pth")), 0) << output_;
    EXPECT_EQ(run_torch_python("same " + path("b.pth") + " " + path("a.safetensors")), 0);
}

TEST_F(MriWeights, ExitCodes) {
    std::ofstream(path("bad.pth")) << "no weights";
    EXPECT_EQ(run("--help"), 0);
    EXPECT_NE(output_.find("Exit codes"), std::string::npos) << output_;
    EXPECT_EQ(run("convert --help"), 0);
    EXPECT_EQ(run(""), 2);
    EXPECT_EQ(run("convert " + path("a.safetensors")), 2);
    EXPECT_EQ(run("convert " + path("a.safetensors") + " " + path("b.onnx")), 2);
    EXPECT_NE(output_.find(".pth"), std::string::npos) << output_;
    EXPECT_EQ(run("show " + path("missing.pth")), 1);
    EXPECT_NE(output_.find("missing.pth"), std::string::npos) << output_;
    EXPECT_EQ(run("show " + path("bad.pth")), 1);
    EXPECT_EQ(run("convert " + path("a.safetensors") + " /nowhere/b.pth"), 1);
    EXPECT_EQ(run("convert cascade.safetensors " + path("c.pt")), 1);
    EXPECT_NE(output_.find("gridding"), std::string::npos) << output_;
    EXPECT_FALSE(std::ifstream(path("c.pt")));
}

} // namespace
