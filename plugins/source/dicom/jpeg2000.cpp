// SPDX-License-Identifier: LGPL-2.1-or-later
#include "plugins/source/dicom/jpeg2000.hpp"

#ifdef MRI_HAVE_OPENJPEG

#include <fmt/format.h>
#include <openjpeg.h>

#include <algorithm>
#include <cstring>
#include <memory>

namespace mri {

namespace {

template <auto destroy>
struct Free {
    template <class T>
    void operator()(T* object) const noexcept {
        destroy(object);
    }
};
using Codec = std::unique_ptr<opj_codec_t, Free<opj_destroy_codec>>;
using Stream = std::unique_ptr<opj_stream_t, Free<opj_stream_destroy>>;
using Image = std::unique_ptr<opj_image_t, Free<opj_image_destroy>>;

/// A stream of bytes in memory.
struct Reader {
    std::span<const std::uint8_t> data;
    std::size_t at = 0;
};

OPJ_SIZE_T read(void* out, OPJ_SIZE_T count, void* user) {
    auto& reader = *static_cast<Reader*>(user);
    const std::size_t length = std::min<std::size_t>(count, reader.data.size() - reader.at);
    if (length == 0)
        return static_cast<OPJ_SIZE_T>(-1);
    std::memcpy(out, reader.data.data() + reader.at, length);
    reader.at += length;
    return length;
}

OPJ_BOOL seek(OPJ_OFF_T to, void* user) {
    auto& reader = *static_cast<Reader*>(user);
    if (to < 0 || static_cast<std::size_t>(to) > reader.data.size())
        return OPJ_FALSE;
    reader.at = static_cast<std::size_t>(to);
    return OPJ_TRUE;
}

OPJ_OFF_T skip(OPJ_OFF_T by, void* user) {
    const auto at = static_cast<OPJ_OFF_T>(static_cast<Reader*>(user)->at);
    return by >= -at && seek(at + by, user) ? by : -1;
}

void keep_message(const char* text, void* user) {
    auto& message = *static_cast<std::string*>(user);
    message = text;
    while (!message.empty() && (message.back() == '\n' || message.back() == '.'))
        message.pop_back();
}

bool is_jp2(std::span<const std::uint8_t> data) {
    constexpr std::uint8_t signature[] = {0, 0, 0, 12, 'j', 'P', ' ', ' '};
    return data.size() > sizeof signature &&
           std::equal(std::begin(signature), std::end(signature), data.begin());
}

} // namespace

bool has_jpeg2000() noexcept {
    return true;
}

Jpeg2000Image decode_jpeg2000(std::span<const std::uint8_t> data, int width, int height,
                              std::string& reason) {
    Reader reader{data};
    const Codec codec(opj_create_decompress(is_jp2(data) ? OPJ_CODEC_JP2 : OPJ_CODEC_J2K));
    const Stream stream(opj_stream_create(std::size_t{1} << 16, OPJ_TRUE));
    std::string message;
    const auto fail = [&](const std::string& text) {
        reason = text + (message.empty() ? "" : " (" + message + ")");
        return Jpeg2000Image{};
    };
    if (!codec || !stream)
        return fail("OpenJPEG cannot start");
    opj_set_error_handler(codec.get(), keep_message, &message);
    opj_stream_set_user_data(stream.get(), &reader, nullptr);
    opj_stream_set_user_data_length(stream.get(), data.size());
    opj_stream_set_read_function(stream.get(), read);
    opj_stream_set_seek_function(stream.get(), seek);
    opj_stream_set_skip_function(stream.get(), skip);

    opj_dparameters_t parameters;
    opj_set_default_decoder_parameters(&parameters);
    opj_image_t* header = nullptr;
    // Strict: a codestream that was cut would decode to a picture without its fine structure.
    const bool read_header = opj_setup_decoder(codec.get(), &parameters) &&
                             opj_decoder_set_strict_mode(codec.get(), OPJ_TRUE) &&
                             opj_read_header(stream.get(), codec.get(), &header);
    const Image image(header);
    if (!read_header || !image)
        return fail("its JPEG 2000 data are damaged");
    if (image->numcomps != 1 || image->comps[0].w != static_cast<OPJ_UINT32>(width) ||
        image->comps[0].h != static_cast<OPJ_UINT32>(height) || image->comps[0].prec < 1 ||
        image->comps[0].prec > 16)
        return fail(fmt::format("its JPEG 2000 data are {} components of {}x{} with {} bits", image->numcomps,
                                image->numcomps > 0 ? image->comps[0].w : 0,
                                image->numcomps > 0 ? image->comps[0].h : 0,
                                image->numcomps > 0 ? image->comps[0].prec : 0));
    if (!opj_decode(codec.get(), stream.get(), image.get()) || !image->comps[0].data ||
        image->comps[0].w != static_cast<OPJ_UINT32>(width) ||
        image->comps[0].h != static_cast<OPJ_UINT32>(height))
        return fail("its JPEG 2000 data are damaged");
    Jpeg2000Image out;
    out.precision = static_cast<int>(image->comps[0].prec);
    const std::size_t count = static_cast<std::size_t>(width) * static_cast<std::size_t>(height);
    out.pixels.assign(image->comps[0].data, image->comps[0].data + count);
    return out;
}

} // namespace mri

#else

namespace mri {

bool has_jpeg2000() noexcept {
    return false;
}

Jpeg2000Image decode_jpeg2000(std::span<const std::uint8_t>, int, int, std::string& reason) {
    reason = "its JPEG 2000 data need a build with OpenJPEG";
    return {};
}

} // namespace mri

#endif
