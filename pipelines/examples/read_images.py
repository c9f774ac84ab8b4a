#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""read_images.py ['PIPELINE']: images of a pipeline in python, with all that is known of each.

Needs python3-gi and gir1.2-gstreamer-1.0. The pipeline ends in `appsink name=images`; without one given, the phantom is
scanned and reconstructed. Prints a line an image: its number, time, size and mean, and its facts.
"""
import json
import re
import struct
import sys

import gi

gi.require_version("Gst", "1.0")
from gi.repository import Gst  # noqa: E402

PIPELINE = """mriphantomsrc frames=8 width=64 height=64 ! mrisim spokes=13 coils=2 alignment=readout ! mriframer
    ! mrirecon window=4 method=sense ! appsink name=images sync=false"""
COUNTERS = ("slice", "contrast", "phase", "repetition", "set")


def facts_of(buffer):
    """The facts of a buffer as a Gst.Structure; plugins/common/facts.hpp lists its fields."""
    meta = buffer.get_custom_meta("mri-facts")
    return meta.get_structure() if meta else Gst.Structure.new_empty("mri-facts")


def floats_of(data):
    """Numbers of float32 in bytes: numpy.frombuffer(data, "<f4") does the same."""
    return memoryview(data).cast("f")


def headers_of(facts):
    """A dict for each readout: numpy.frombuffer(data, numpy.dtype(layout)) gives an array with the same fields."""
    layout, data = json.loads(facts.get_value("readouts-dtype")), facts.get_value("readouts").get_data()
    codes = {"u2": "H", "u4": "I", "u8": "Q", "i2": "h", "i4": "i", "i8": "q", "f4": "f"}
    headers = []
    for start in range(0, len(data), layout["itemsize"]):
        header = {}
        for name, text, offset in zip(layout["names"], layout["formats"], layout["offsets"]):
            count, kind = re.fullmatch(r"(?:\((\d+),\))?<(\w+)", text).groups()
            values = struct.unpack_from("<" + (count or "1") + codes[kind], data, start + offset)
            header[name] = values if count else values[0]
        headers.append(header)
    return headers


def describe(sample):
    buffer, caps = sample.get_buffer(), sample.get_caps().get_structure(0)
    facts = facts_of(buffer)
    pixels = floats_of(buffer.extract_dup(0, buffer.get_size()))
    words = [f"image {buffer.offset} of series {caps.get_value('series')}",
             f"{buffer.pts / Gst.MSECOND:.1f} ms", f"{caps.get_value('width')} x {caps.get_value('height')}",
             f"mean {sum(map(abs, pixels)) / len(pixels):.4g}"]
    if facts.has_field("readouts"):
        headers = headers_of(facts)
        words.append(f"{len(headers)} readouts, the last at angle {headers[-1]['angle_index']}")
        words.append(", ".join(f"{name} {facts.get_value(name)}" for name in COUNTERS))
    if facts.has_field("trajectory"):
        positions = floats_of(facts.get_value("trajectory").get_data())
        words.append(f"trajectory to {max(map(abs, positions)):.4g} cycles")
    if facts.has_field("residual"):
        words.append(f"residual {facts.get_value('residual'):.4g}")
    if facts.has_field("truth"):
        truth = facts.get_value("truth")
        words.append(f"truth of {truth.get_buffer().get_size()} bytes")
    print("; ".join(words))


def main():
    Gst.init(None)
    pipeline = Gst.parse_launch(sys.argv[1] if len(sys.argv) > 1 else PIPELINE)
    images, bus = pipeline.get_by_name("images"), pipeline.get_bus()
    pipeline.set_state(Gst.State.PLAYING)
    while sample := images.emit("pull-sample"):  # None at the end and after an error
        describe(sample)
    latency = Gst.Query.new_latency()
    if pipeline.query(latency):
        live, least, _ = latency.parse_latency()
        print(f"latency of the pipeline: {least / Gst.MSECOND:.1f} ms{' (live)' if live else ''}")
    message = bus.timed_pop_filtered(Gst.SECOND, Gst.MessageType.ERROR | Gst.MessageType.EOS)
    pipeline.set_state(Gst.State.NULL)
    if message and message.type == Gst.MessageType.ERROR:
        sys.exit(f"read_images.py: {message.parse_error()[0].message}")


if __name__ == "__main__":
    main()
