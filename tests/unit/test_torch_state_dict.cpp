// SPDX-License-Identifier: LGPL-2.1-or-later
// State dicts in zip archives and old ones; PyTorch's own are read where there is a python with torch.
#include "models/files/torch_state_dict.hpp"
#include "models/files/weights.hpp"
#include "models/files/zip.hpp"
#include "plugins/math/base/error.hpp"
#include "tests/support/temp_dir.hpp"
#include "tests/support/torch_python.hpp"

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <malloc.h>
#include <new>
#include <random>
#include <sys/wait.h>
#include <unistd.h>

using namespace mri;

namespace {

/// Bytes that operator new has given out, and the most at once.
std::atomic<std::size_t> in_use{0}, most_in_use{0};

void* counted(std::size_t size) {
    void* memory = std::malloc(size == 0 ? 1 : size);
    if (!memory)
        throw std::bad_alloc();
    const std::size_t now = in_use += malloc_usable_size(memory);
    for (std::size_t most = most_in_use; now > most && !most_in_use.compare_exchange_weak(most, now);) {
    }
    return memory;
}

void uncounted(void* memory) {
    in_use -= malloc_usable_size(memory);
    std::free(memory);
}

} // namespace

void* operator new(std::size_t size) {
    return counted(size);
}
void operator delete(void* memory) noexcept {
    uncounted(memory);
}
void operator delete(void* memory, std::size_t) noexcept {
    uncounted(memory);
}

namespace {

std::vector<std::byte> bytes_of(const std::string& text) {
    std::vector<std::byte> out(text.size());
    std::memcpy(out.data(), text.data(), text.size());
    return out;
}

std::string word(const std::string& w) {
    return "X" + std::string(1, static_cast<char>(w.size())) + std::string(3, '\0') + w;
}

std::vector<std::byte> archive_of(const std::string& pickle) {
    return format_zip({{"x/data.pkl", bytes_of(pickle)}, {"x/data/0", bytes_of(std::string(8, '\0'))}});
}

/// The message of what a function throws; empty where it throws no Error.
template <class Work>
std::string error_of(const Work& work) {
    try {
        work();
    } catch (const Error& e) {
        return e.what();
    }
    return {};
}

TensorFile some_tensors() {
    TensorFile file;
    file.tensors["conv1.weight"] = {{2, 1, 3}, {1, -2, 3.5F, 4, 5, 6e-20F}};
    file.tensors["conv1.bias"] = {{2}, {7, 8}};
    file.tensors["scalar"] = {{}, {9}};
    file.tensors["empty"] = {{0, 4}, {}};
    file.metadata = {{"network", "unet3d"}, {"leak", "0.1"}};
    return file;
}

TEST(TorchZip, RefusesAPackedArchive) {
    auto archive = format_zip({{"x/data.pkl", bytes_of("\x80\x02}.")}});
    const std::string text(reinterpret_cast<const char*>(archive.data()), archive.size());
    archive[text.find("PK\1\2") + 10] = std::byte{8}; // deflated
    try {
        parse_torch(archive, "packed.zip");
        ADD_FAILURE();
    } catch (const Error& e) {
        EXPECT_EQ(e.code(), Errc::unsupported);
    }
}

TEST(TorchZip, GivesBackWhatWasWritten) {
    const TensorFile file = some_tensors();
    const TensorFile back = parse_torch(format_torch(file), "x.pth");
    EXPECT_EQ(back.metadata, file.metadata);
    ASSERT_EQ(back.tensors.size(), file.tensors.size());
    for (const auto& [name, tensor] : file.tensors) {
        EXPECT_EQ(back.tensors.at(name).shape, tensor.shape) << name;
        EXPECT_EQ(back.tensors.at(name).values, tensor.values) << name;
    }
}

TEST(TorchZip, SurvivesDamage) {
    // Any byte may be anything: an error or some other tensors, but nothing out of bounds (run this under
    // AddressSanitizer) and nothing absurdly large.
    const auto bytes = format_torch(some_tensors());
    std::mt19937 random(1);
    for (int i = 0; i < 20000; ++i) {
        auto damaged = bytes;
        for (int k = 0; k < 1 + i % 3; ++k)
            damaged[random() % bytes.size()] = static_cast<std::byte>(random() % 256);
        try {
            std::size_t count = 0;
            for (const auto& [name, tensor] : parse_torch(damaged, "damaged").tensors)
                count += tensor.values.size();
            EXPECT_LE(count, bytes.size());
        } catch (const Error&) {
            // as it should
        }
    }
}

TEST(TorchZip, CallsNothingAndNamesWhatItIsNot) {
    const auto archive = [](const std::string& pickle, const std::string& more = "x/version") {
        return format_zip({{"x/data.pkl", bytes_of(pickle)}, {more, bytes_of("3")}});
    };
    const std::string evil =
        std::string("\x80\x02", 2) + "cos\nsystem\nX" + std::string("\x04\0\0\0", 4) + "true\x85R.";
    // A dictionary that is its own "state_dict".
    const std::string cycle = std::string("\x80\x02}q\0", 5) + "X" + std::string("\x0a\0\0\0", 4) +
                              "state_dict" + std::string("h\0s.", 4);
    const struct {
        std::vector<std::byte> bytes;
        std::string part;
    } cases[] = {{archive(evil), "os.system"},
                 {archive(cycle), "holds no tensors"},
                 {archive("\x80\x02}.", "x/constants.pkl"), "TorchScript"},
                 {format_zip({{"readme", bytes_of("hello")}}), "no state dict"}};
    for (const auto& c : cases) {
        try {
            parse_torch(c.bytes, "some.pth");
            ADD_FAILURE() << c.part;
        } catch (const Error& e) {
            EXPECT_NE(std::string(e.what()).find(c.part), std::string::npos) << e.what();
        }
    }
}

TEST(TorchZip, ReadsPyTorchsOwn) {
    if (test::torch_python().empty())
        GTEST_SKIP() << test::no_torch_python;
    const test::TempDir temporary;
    const std::string& folder = temporary.path();
    ASSERT_EQ(test::run_torch_python("modules " + folder), 0);
    const TensorFile file = read_weights(folder + "/state.pth");
    EXPECT_EQ(file.tensors.size(), 5U); // of the batch normalisation four, without its counter
    EXPECT_EQ(file.tensors.at("running_var").values, (std::vector<float>{1, 1, 1}));
    EXPECT_EQ(file.tensors.at("transposed").shape, (std::vector<std::int64_t>{3, 2}));
    EXPECT_EQ(file.tensors.at("transposed").values, (std::vector<float>{0, 3, 1, 4, 2, 5}));
    EXPECT_THROW(read_weights(folder + "/frame.pt"), Error);
    EXPECT_THROW(read_weights(folder + "/exported.pt2"), Error);
}

TEST(TorchZip, ReadsCheckpointsOfPyTorchsOwn) {
    if (test::torch_python().empty())
        GTEST_SKIP() << test::no_torch_python;
    const test::TempDir folder;
    ASSERT_EQ(test::run_torch_python("checkpoints " + folder.path()), 0);
    std::map<std::string, std::vector<float>> reference;
    std::ifstream in(folder.path("reference"), std::ios::binary);
    std::string name;
    for (std::size_t count = 0; in >> name >> count;) {
        in.get();
        auto& values = reference[name];
        values.resize(count);
        in.read(reinterpret_cast<char*>(values.data()), static_cast<std::streamsize>(count * sizeof(float)));
    }
    ASSERT_EQ(reference.size(), 7U);
    const auto expect_same = [&](const std::string& file, const auto& wanted) {
        const TensorFile read = read_weights(folder.path(file));
        EXPECT_EQ(read.tensors.size(), wanted.size()) << file;
        for (const auto& [tensor, values] : wanted) {
            ASSERT_TRUE(read.tensors.contains(tensor)) << file << " " << tensor;
            EXPECT_EQ(read.tensors.at(tensor).values, values) << file << " " << tensor;
        }
    };
    for (const char* kind : {"lightning", "average", "parallel"})
        for (int protocol = 2; protocol <= 5; ++protocol)
            for (const char* age : {"", "old-"})
                expect_same(age + std::string(kind) + "-" + std::to_string(protocol) + ".pth", reference);
    for (const char* statistic : {"norm.running_mean", "norm.running_var"})
        reference.erase(statistic);
    expect_same("parameters.pth", reference);
    EXPECT_NE(error_of([&] { read_weights(folder.path("whole.pth")); }).find("state_dict()"),
              std::string::npos);
    EXPECT_NE(error_of([&] { read_weights(folder.path("sparse.pth")); }).find("dense"), std::string::npos);
}

TEST(TorchZip, ReadsEveryFloatingPointType) {
    if (test::torch_python().empty())
        GTEST_SKIP() << test::no_torch_python;
    const test::TempDir temporary;
    const std::string& folder = temporary.path();
    ASSERT_EQ(test::run_torch_python("floats " + folder), 0);
    for (const char* type : {"float16", "bfloat16", "float64", "float32"}) {
        const TensorFile reference = read_safetensors(folder + "/" + type + ".reference");
        ASSERT_EQ(reference.tensors.size(), 3U);
        for (const char* kind : {".zip.pth", ".legacy.pth", ".safetensors"}) {
            const TensorFile file = read_weights(folder + "/" + type + kind);
            ASSERT_EQ(file.tensors.size(), 3U) << type << kind << ": counters and masks are left out";
            for (const auto& [name, tensor] : reference.tensors) {
                EXPECT_EQ(file.tensors.at(name).shape, tensor.shape) << type << kind << " " << name;
                const auto& values = file.tensors.at(name).values;
                ASSERT_EQ(values.size(), tensor.values.size());
                EXPECT_EQ(std::memcmp(values.data(), tensor.values.data(), values.size() * sizeof(float)), 0)
                    << type << kind << " " << name << ": bit for bit, as python converts";
            }
        }
    }
    const TensorFile large = read_weights(folder + "/large.pth");
    EXPECT_THROW(check_finite(large, "large.pth"), Error);
    EXPECT_THROW(check_tensors(large, "large.pth", {{"large", {1}}}, "a test"), Error);
    try {
        read_weights(folder + "/complex.pth");
        ADD_FAILURE();
    } catch (const Error& e) {
        EXPECT_EQ(e.code(), Errc::unsupported);
        EXPECT_NE(std::string(e.what()).find("torch.ComplexFloatStorage"), std::string::npos) << e.what();
    }
}

/// A training script's checkpoint: beside the state dict an optimiser with storages of its own.
TEST(TorchLegacy, ReadsAStateDictBesideAnOptimiser) {
    const auto word = [](const std::string& w) {
        return "X" + std::string(1, static_cast<char>(w.size())) + std::string(3, '\0') + w;
    };
    const auto tensor = [&](const std::string& storage, const std::string& key) {
        return "ctorch._utils\n_rebuild_tensor_v2\n((" + word("storage") + "ctorch\n" + storage + "\n" +
               word(key) + word("cpu") + "K\x02tQK" + std::string(1, '\0') + "K\x02\x85K\x01\x85\x89}tR";
    };
    const auto number = [](std::uint64_t n) {
        return std::string(1, static_cast<char>(n)) + std::string(7, '\0');
    };
    const std::string head = std::string("\x80\x02\x8a\x0al\xfc\x9c"
                                         "F\xf9 j\xa8P\x19.",
                                         15) +
                             "\x80\x02M\xe9\x03." + "\x80\x02}.";
    const auto file = [&](const std::string& optimiser) {
        return head + "\x80\x02}(" + word("optimizer") + "}" + word("m") + tensor(optimiser, "0") + "s" +
               word("state_dict") + "}" + word("a") + tensor("FloatStorage", "1") + "su." + "\x80\x02](" +
               word("0") + word("1") + "e." + number(2) + std::string(16, 'm') + number(2) +
               std::string("\0\0\x80\x3F\0\0\x20\xC0", 8);
    };
    ASSERT_TRUE(is_legacy_torch(bytes_of(file("DoubleStorage"))));
    const TensorFile read = parse_legacy_torch(bytes_of(file("DoubleStorage")), "x.pth");
    ASSERT_EQ(read.tensors.size(), 1U);
    EXPECT_EQ(read.tensors.at("a").values, (std::vector<float>{1.0F, -2.5F}));
    EXPECT_THROW(parse_legacy_torch(bytes_of(file("StrangeStorage")), "x.pth"), Error);
    EXPECT_THROW(parse_legacy_torch(bytes_of(file("FloatStorage")), "x.pth"), Error)
        << "its length is another";
}

/// The same without a python.
TEST(TorchZip, ReadsHalfPrecision) {
    const auto pickled = [](const std::string& storage) {
        const auto word = [](const std::string& w) {
            return "X" + std::string(1, static_cast<char>(w.size())) + std::string(3, '\0') + w;
        };
        return std::string("\x80\x02}") + word("a") + "ctorch._utils\n_rebuild_tensor_v2\n((" +
               word("storage") + "ctorch\n" + storage + "\n" + word("0") + word("cpu") + "K\x02tQK" +
               std::string(1, '\0') + "K\x02\x85K\x01\x85\x89}tRs.";
    };
    const struct {
        const char* storage;
        std::string data;
        std::vector<float> values;
    } cases[] = {{"HalfStorage", std::string("\x00\x3C\x01\x00", 4), {1.0F, 0x1p-24F}},
                 {"BFloat16Storage", std::string("\x80\x3F\x20\xC0", 4), {1.0F, -2.5F}}};
    for (const auto& c : cases) {
        const auto archive =
            format_zip({{"x/data.pkl", bytes_of(pickled(c.storage))}, {"x/data/0", bytes_of(c.data)}});
        EXPECT_EQ(parse_torch(archive, "x.pth").tensors.at("a").values, c.values) << c.storage;
        const auto cut = format_zip(
            {{"x/data.pkl", bytes_of(pickled(c.storage))}, {"x/data/0", bytes_of(c.data.substr(0, 3))}});
        EXPECT_THROW(parse_torch(cut, "x.pth"), Error) << c.storage;
    }
}

/// Checkpoints that python's pickle module made, without torch.
class PickleFiles : public testing::Test {
  protected:
    void SetUp() override {
        const int status = test::run_python("pickle_files.py '" + folder_.path() + "'");
        if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
            GTEST_SKIP() << "there is no python3";
        ASSERT_EQ(status, 0);
    }
    TensorFile read(const std::string& name) const { return read_weights(folder_.path(name)); }
    /// The weights that the script makes, with its offset.
    static void expect_weights(const TensorFile& file, float offset) {
        ASSERT_EQ(file.tensors.size(), 2U) << "the counter is left out";
        ASSERT_TRUE(file.tensors.contains("a.weight") && file.tensors.contains("a.bias"));
        EXPECT_EQ(file.tensors.at("a.weight").shape, (std::vector<std::int64_t>{2, 3}));
        EXPECT_EQ(file.tensors.at("a.weight").values,
                  (std::vector<float>{offset, offset + 0.5F, offset + 1, offset + 1.5F, offset + 2,
                                      offset + 2.5F}));
        EXPECT_EQ(file.tensors.at("a.bias").values, (std::vector<float>{offset - 0.25F, 1}));
    }
    test::TempDir folder_;
};

TEST_F(PickleFiles, EveryProtocolIsReadWithWhateverLiesBeside) {
    for (const char* kind : {"p", "old"})
        for (int protocol = 2; protocol <= 5; ++protocol) {
            const TensorFile file = read(kind + std::to_string(protocol) + ".pth");
            expect_weights(file, 0);
            EXPECT_EQ(file.metadata.at(state_dict_key), "state_dict");
            EXPECT_FALSE(file.metadata.contains(other_state_dicts_key));
        }
    EXPECT_FALSE(std::filesystem::exists(folder_.path("ran"))) << "a file's command was run";
}

TEST_F(PickleFiles, SaysWhichOfSeveralStateDictsIsTaken) {
    const TensorFile choice = read("choice.pth");
    expect_weights(choice, 1);
    EXPECT_EQ(choice.metadata.at(state_dict_key), "model");
    EXPECT_EQ(choice.metadata.at(other_state_dicts_key), "ema, params");
    const TensorFile nested = read("nested.pth");
    expect_weights(nested, 4);
    EXPECT_EQ(nested.metadata.at(state_dict_key), "model/net");
    const TensorFile average = read("ema.pth"); // model is an object
    expect_weights(average, 5);
    EXPECT_EQ(average.metadata.at(state_dict_key), "ema");
}

TEST_F(PickleFiles, NamesAWholeNetworkThatWasPickled) {
    const std::string error = error_of([&] { read("module.pth"); });
    EXPECT_NE(error.find("'__main__.Network'"), std::string::npos) << error;
    EXPECT_NE(error.find("state_dict()"), std::string::npos) << error;
}

TEST_F(PickleFiles, RefusesTwoNamesThatBecomeOne) {
    EXPECT_NE(error_of([&] { read("twice.pth"); }).find("twice"), std::string::npos);
}

TEST_F(PickleFiles, SurvivesDamage) {
    // As TorchZip.SurvivesDamage, with instructions of every protocol.
    std::mt19937 random(2);
    for (const char* name : {"p2.pth", "p4.pth", "p5.pth", "old2.pth", "old4.pth", "ema.pth"}) {
        const auto bytes = read_weights_bytes(folder_.path(name));
        for (int i = 0; i < 500; ++i) {
            auto damaged = bytes;
            for (int k = 0; k < 1 + i % 4; ++k)
                damaged[random() % std::min<std::size_t>(bytes.size(), i % 2 == 0 ? 3000 : bytes.size())] =
                    static_cast<std::byte>(random() % 256);
            try {
                is_zip(damaged) ? parse_torch(damaged, "damaged") : parse_legacy_torch(damaged, "damaged");
            } catch (const Error&) {
                // as it should
            }
        }
    }
}

/// Names as trainings make them; those that only look alike stay.
TEST(WeightsNames, ComeWithoutWhatTrainingsPutAround) {
    const test::TempDir folder;
    TensorFile file;
    const std::pair<const char*, const char*> names[] = {
        {"module.a", "a"},
        {"model._orig_mod.b", "b"},
        {"_orig_mod.module.module.c", "c"},
        {"module.model._orig_mod.encoder._orig_mod.d", "encoder.d"},
        {"module.e.module.weight", "e.module.weight"},
        {"submodule.f", "submodule.f"},
        {"my_orig_mod.g", "my_orig_mod.g"},
        {"model.", "model."},
        {"models.h", "models.h"}};
    for (const auto& [given, plain] : names)
        file.tensors[given] = {{1}, {1}};
    write_safetensors(folder.path("a.safetensors"), file);
    const TensorFile read = read_weights(folder.path("a.safetensors"));
    EXPECT_EQ(read.tensors.size(), std::size(names));
    for (const auto& [given, plain] : names)
        EXPECT_TRUE(read.tensors.contains(plain)) << given;
}

/// Small files that ask for much: each takes at most 4 times its bytes and 64 MB, and ends with an error.
TEST(Pickle, TakesBoundedMemoryWhateverItSays) {
    const auto repeated = [](const std::string& part, std::size_t bytes) {
        std::string out;
        while (out.size() < bytes)
            out += part;
        return out;
    };
    const std::string proto("\x80\x02", 2), get1("h\1", 2), get2("h\2", 2);
    const std::string pair = proto + "NN\x86q\1";
    std::string tensors = proto + "}(";
    const std::string tensor = "ctorch._utils\n_rebuild_tensor_v2\n((" + word("storage") +
                               "ctorch\nFloatStorage\n" + word("0") + word("cpu") + "K\x02tQK" +
                               std::string(1, '\0') + "K" + std::string(1, '\0') + "\x85K\x01\x85\x89}tRq\1";
    for (int i = 0; i < 200000; ++i)
        tensors += word(std::to_string(i)) + (i == 0 ? tensor : get1);
    const std::pair<const char*, std::string> bombs[] = {
        {"a list of pairs, many times over", pair + "]q\2(" + repeated(get1, 60000) +
                                                 "e0ccollections\nOrderedDict\n(" + repeated(get2, 60000) +
                                                 "tR."},
        {"one list that takes all of the stack again and again",
         pair + "]q\2(" + repeated("(" + repeated(get1, 10000) + "e", 2000000) + "."},
        {"pairs of pairs", pair + repeated(get1 + get1 + "\x86q\1" + "0", 2000000) + "."},
        {"a deep stack", proto + repeated("N2222222", 4000000) + "."},
        {"a stack of one value", pair + repeated("2", 4000000) + "."},
        {"marks", proto + repeated("(", 4000000) + "."},
        {"a memo", proto + "N" + repeated("\x94", 4000000) + "."},
        {"tensors without values", tensors + "u."},
    };
    for (const auto& [what, pickle] : bombs) {
        const auto archive = archive_of(pickle);
        const std::size_t before = in_use;
        most_in_use = before;
        EXPECT_NE(error_of([&] { parse_torch(archive, "bomb.pth"); }), "") << what;
        // The bytes themselves are counted once in the bound, and were there before.
        EXPECT_LE(most_in_use - before, 3 * archive.size() + (std::size_t{64} << 20)) << what;
    }
}

/// Tensors that share a storage: as many as fit into two and a half times the file.
TEST(Pickle, TensorsThatShareAStorageAreBounded) {
    const std::size_t count = 10000;
    std::string pickle = std::string("\x80\x02", 2) + "}(";
    const auto four = [](std::size_t n) {
        return "J" + std::string(1, static_cast<char>(n & 255)) + std::string(1, static_cast<char>(n >> 8)) +
               std::string(2, '\0');
    };
    for (int i = 0; i < 20; ++i)
        pickle += word(std::to_string(i)) +
                  (i == 0 ? "ctorch._utils\n_rebuild_tensor_v2\n((" + word("storage") +
                                "ctorch\nFloatStorage\n" + word("0") + word("cpu") + four(count) + "tQK" +
                                std::string(1, '\0') + four(count) + "\x85K\x01\x85\x89}tRq\1"
                          : std::string("h\1"));
    const auto archive = format_zip(
        {{"x/data.pkl", bytes_of(pickle + "u.")}, {"x/data/0", bytes_of(std::string(4 * count, '\0'))}});
    const std::size_t before = in_use;
    most_in_use = before;
    EXPECT_NE(error_of([&] { parse_torch(archive, "shared.pth"); }).find("larger than the file"),
              std::string::npos);
    EXPECT_LE(most_in_use - before, 3 * archive.size() + (std::size_t{1} << 20));
}

} // namespace
