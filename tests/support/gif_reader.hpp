// SPDX-License-Identifier: LGPL-2.1-or-later
// A GIF read back with giflib, for tests.
#pragma once

#include <array>
#include <cstdint>
#include <gif_lib.h>
#include <gtest/gtest.h>
#include <string>
#include <vector>

struct ReadGif {
    struct Frame {
        std::vector<std::array<std::uint8_t, 3>> pixels;
        int delay = -1;
    };
    int width = 0, height = 0;
    int repeats = -1; // of the NETSCAPE extension; -1: none
    std::vector<Frame> frames;
};

inline ReadGif read_gif(const std::string& path) {
    ReadGif out;
    int code = 0;
    GifFileType* gif = DGifOpenFileName(path.c_str(), &code);
    if (!gif) {
        ADD_FAILURE() << path << ": " << GifErrorString(code);
        return out;
    }
    EXPECT_EQ(DGifSlurp(gif), GIF_OK) << path;
    out.width = gif->SWidth;
    out.height = gif->SHeight;
    for (int i = 0; i < gif->ImageCount; ++i) {
        const SavedImage& image = gif->SavedImages[i];
        ReadGif::Frame frame;
        GraphicsControlBlock control;
        if (DGifSavedExtensionToGCB(gif, i, &control) == GIF_OK)
            frame.delay = control.DelayTime;
        const ColorMapObject* map = image.ImageDesc.ColorMap ? image.ImageDesc.ColorMap : gif->SColorMap;
        EXPECT_EQ(image.ImageDesc.Width, out.width);
        EXPECT_EQ(image.ImageDesc.Height, out.height);
        for (int p = 0; map && p < out.width * out.height; ++p) {
            const GifColorType& c = map->Colors[image.RasterBits[p]];
            frame.pixels.push_back({c.Red, c.Green, c.Blue});
        }
        for (int e = 0; e < image.ExtensionBlockCount; ++e) {
            const ExtensionBlock& block = image.ExtensionBlocks[e];
            if (block.Function == APPLICATION_EXT_FUNC_CODE && block.ByteCount == 11 &&
                e + 1 < image.ExtensionBlockCount)
                out.repeats =
                    image.ExtensionBlocks[e + 1].Bytes[1] + 256 * image.ExtensionBlocks[e + 1].Bytes[2];
        }
        out.frames.push_back(std::move(frame));
    }
    DGifCloseFile(gif, nullptr);
    return out;
}
