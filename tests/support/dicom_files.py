#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""DICOM files as scanners and exports write them, by pydicom: dicom_files.py KIND FOLDER.

Needs pydicom, numpy, pylibjpeg-openjpeg and pyjpegls. All images have 40 columns and 36 rows; the pixel in column x and row y
of frame f is 7 x + 13 y + 31 f, plus what a kind says. Kinds that test places print numbers, one "name value" a line.
"""
import os
import sys

import jpeg_ls
import numpy as np
from openjpeg.utils import encode_array
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.filewriter import dcmwrite
from pydicom.sequence import Sequence
from pydicom.uid import (
    EnhancedMRImageStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000,
    JPEG2000Lossless,
    JPEGLSLossless,
    LegacyConvertedEnhancedMRImageStorage,
    MediaStorageDirectoryStorage,
    MRImageStorage,
    RLELossless,
    generate_uid,
)

COLUMNS, ROWS = 40, 36
ROOT = "1.2.826.0.1.3680043.10.543."


def picture(frame):
    y, x = np.mgrid[:ROWS, :COLUMNS]
    return 7 * x + 13 * y + 31 * frame


def dataset(**values):
    ds = Dataset()
    for keyword, value in values.items():
        if value is not None:
            setattr(ds, keyword, value)
    return ds


def group(**values):
    """A functional group: a sequence of one item."""
    return Sequence([dataset(**values)])


def common(sop_class, series):
    return dict(
        SOPClassUID=sop_class, SOPInstanceUID=generate_uid(ROOT), Modality="MR", Manufacturer="Test", PatientID="P1",
        PatientName="Test^One", StudyInstanceUID=ROOT + "1", SeriesInstanceUID=f"{ROOT}2.{series}", SeriesNumber=series,
        SamplesPerPixel=1, PhotometricInterpretation="MONOCHROME2", Rows=ROWS, Columns=COLUMNS, BitsAllocated=16, BitsStored=12,
        HighBit=11, PixelRepresentation=0)


def image(pixels, series=1, instance=1, slice_mm=0.0, trigger=None, **values):
    return dataset(**(common(MRImageStorage, series) | dict(
        InstanceNumber=instance, ImageType=["ORIGINAL", "PRIMARY", "M", "ND"], PixelSpacing=[1.5, 1.5], SliceThickness=8,
        ImageOrientationPatient=[1, 0, 0, 0, 1, 0], ImagePositionPatient=[-30, -27, slice_mm], TriggerTime=trigger,
        PixelData=pixels.astype("<u2").tobytes()) | values))


def save(ds, path, syntax=ExplicitVRLittleEndian):
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.file_meta.TransferSyntaxUID = syntax
    ds.save_as(path, enforce_file_format=True)


def compressed(ds, frames, encode, fragments=1):
    """Pixel data of encoded frames, each in so many fragments, with the table of their offsets."""
    data = [encode(frame) for frame in frames]
    data = [d + b"\0" * (len(d) % 2) for d in map(bytes, data)]
    ds.PixelData = encapsulate(data, fragments_per_frame=fragments, has_bot=True)
    ds["PixelData"].VR = "OB"
    ds["PixelData"].is_undefined_length = True
    return ds


def enhanced(frames, series, shared=(), sop_class=EnhancedMRImageStorage, **values):
    """An object of several frames; frames: (pixels, functional groups)."""
    ds = dataset(**(common(sop_class, series) | dict(
        InstanceNumber=1, ImageType=["ORIGINAL", "PRIMARY", "CARDIAC", "NONE"], NumberOfFrames=len(frames),
        PixelData=b"".join(pixels.astype("<u2").tobytes() for pixels, _ in frames)) | values))
    ds.SharedFunctionalGroupsSequence = Sequence([dataset(**(dict(
        PixelMeasuresSequence=group(PixelSpacing=[1.5, 1.5], SliceThickness=8),
        PlaneOrientationSequence=group(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])) | dict(shared)))])
    ds.PerFrameFunctionalGroupsSequence = Sequence([dataset(**groups) for _, groups in frames])
    return ds


def types(folder):
    """Four kinds of each image, as Siemens, Philips and GE name them and as the standard's own attribute does; series 1 to 4."""
    for series, words in enumerate(
            ({"M": ["M", "ND"], "P": ["P", "ND"], "R": ["R", "ND"], "I": ["I", "ND"]},
             {"M": ["M_FFE", "M", "FFE"], "P": ["PHASE MAP", "P", "FFE"], "R": ["R_FFE", "R", "FFE"], "I": ["I_FFE", "I", "FFE"]},
             {k: ["OTHER"] for k in "MPRI"}, {k: ["CARDIAC", "NONE"] for k in "MPRI"}), 1):
        for f in range(3):
            for k, kind in enumerate("MPRI"):
                ds = image(picture(f) + 1000 * k, series, 4 * f + k + 1, trigger=40 * f,
                           ImageType=["ORIGINAL", "PRIMARY", *words[kind]])
                if series == 3:
                    ds.add_new(0x00430010, "LO", "GEMS_PARM_01")
                    ds.add_new(0x0043102F, "SS", k)
                if series == 4:
                    ds.ComplexImageComponent = ("MAGNITUDE", "PHASE", "REAL", "IMAGINARY")[k]
                save(ds, f"{folder}/{series}-{f}{kind}", ImplicitVRLittleEndian if f == 1 else ExplicitVRLittleEndian)


def compressions(folder):
    """One series a compression, 3 frames each: 1 JPEG 2000 in two fragments, 2 the same signed, 3 JPEG 2000 with losses of
    almost none, 4 JPEG-LS, 5 RLE; 6 an enhanced object in JPEG 2000 of two fragments a frame, 7 one in JPEG-LS. A fourth frame of
    1 is cut, and all of 8 are."""
    lossless = lambda a: encode_array(a.astype("u2"), bits_stored=12)
    for f in range(4):
        ds = image(picture(f), 1, f + 1, trigger=40 * f)
        compressed(ds, [picture(f)], (lambda a: lossless(a)[:150]) if f == 3 else lossless, 2)
        save(ds, f"{folder}/1/{f}", JPEG2000Lossless)
    for f in range(3):
        ds = image(picture(f), 2, f + 1, trigger=40 * f, PixelRepresentation=1)
        save(compressed(ds, [picture(f) - 500], lambda a: encode_array(a.astype("i2"), bits_stored=12)), f"{folder}/2/{f}", JPEG2000Lossless)
        ds = image(picture(f), 3, f + 1, trigger=40 * f)
        save(compressed(ds, [picture(f)], lambda a: encode_array(a.astype("u2"), bits_stored=12, signal_noise_ratios=[90])),
             f"{folder}/3/{f}", JPEG2000)
        ds = image(picture(f), 4, f + 1, trigger=40 * f)
        save(compressed(ds, [picture(f)], lambda a: jpeg_ls.encode_array(a.astype("u2"))), f"{folder}/4/{f}", JPEGLSLossless)
        ds = image(picture(f), 5, f + 1, trigger=40 * f)
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.compress(RLELossless, generate_instance_uid=False)
        save(ds, f"{folder}/5/{f}", RLELossless)
        ds = image(picture(f), 8, f + 1, trigger=40 * f)
        save(compressed(ds, [picture(f)], lambda a: lossless(a)[:120]), f"{folder}/8/{f}", JPEG2000Lossless)
    frames = [(picture(f), dict(PlanePositionSequence=group(ImagePositionPatient=[-30, -27, 0]),
                                CardiacSynchronizationSequence=group(NominalCardiacTriggerDelayTime=40.0 * f))) for f in range(3)]
    ds = compressed(enhanced(frames, 6), [p for p, _ in frames], lossless, 2)
    save(ds, f"{folder}/6", JPEG2000Lossless)
    ds = compressed(enhanced(frames, 7), [p for p, _ in frames], lambda a: jpeg_ls.encode_array(a.astype("u2")))
    save(ds, f"{folder}/7", JPEGLSLossless)


def objects(folder):
    """Objects of several frames. Series 1: two slices of 4 phases in mixed order, phase images between them, each frame with a
    slope of its own. Series 2: one converted from ordinary images, whose trigger times are among the unassigned attributes.
    Series 3: as 1, without what tells times but their position in time. Series 4: claims 5 frames and describes 2. Series 5:
    claims more pixels than it has. Series 6: two slices in each of two objects, which their instance numbers alone order."""
    frames = []
    for f in (2, 0, 3, 1):
        for s in range(2):
            for component in ("MAGNITUDE", "PHASE"):
                frames.append((picture(f) + 100 * s, dict(
                    PlanePositionSequence=group(ImagePositionPatient=[-30, -27, 8 - 8 * s]),
                    FrameContentSequence=group(TemporalPositionIndex=f + 1),
                    CardiacSynchronizationSequence=group(NominalCardiacTriggerDelayTime=35.0 * f, RRIntervalTimeNominal=800),
                    MRImageFrameTypeSequence=group(FrameType=["ORIGINAL", "PRIMARY", "CARDIAC", "NONE"],
                                                   ComplexImageComponent=component),
                    PixelValueTransformationSequence=group(RescaleSlope=f + 1, RescaleIntercept=-f, RescaleType="US"))))
    save(enhanced(frames, 1), f"{folder}/1")
    converted = [(picture(f), dict(
        PlanePositionSequence=group(ImagePositionPatient=[-30, -27, 0]),
        UnassignedPerFrameConvertedAttributesSequence=group(TriggerTime=25 * f, InstanceNumber=9 - f))) for f in (1, 2, 0)]
    save(enhanced(converted, 2, dict(UnassignedSharedConvertedAttributesSequence=group(ImageType=["DERIVED", "PRIMARY", "M"])),
                  LegacyConvertedEnhancedMRImageStorage, ImageType=["DERIVED", "PRIMARY", "MIXED"]), f"{folder}/2")
    numbered = []
    for pixels, groups in frames[::2]:
        groups = dict(groups)
        groups["CardiacSynchronizationSequence"] = group(RRIntervalTimeNominal=800)
        numbered.append((pixels, groups))
    save(enhanced(numbered, 3), f"{folder}/3")
    save(enhanced(converted[:2], 4, NumberOfFrames=5, PixelData=bytes(5 * 2 * ROWS * COLUMNS)), f"{folder}/4")
    save(enhanced(converted, 5, PixelData=bytes(100)), f"{folder}/5")
    for number in (2, 1):
        slices = [(picture(number) + 100 * s, dict(PlanePositionSequence=group(ImagePositionPatient=[-30, -27, 8 * s]))) for s in (1, 0)]
        save(enhanced(slices, 6, InstanceNumber=number), f"{folder}/6-{9 - number}")


def headless(folder):
    """Three frames without preamble: one with its meta header, two without any, explicit and implicit; a text and a directory
    file lie beside them."""
    for f in range(3):
        ds = image(picture(f), 1, f + 1, trigger=40 * f)
        if f == 0:
            save(ds, f"{folder}/0")
            with open(f"{folder}/0", "r+b") as file:
                whole = file.read()
                file.seek(0)
                file.truncate()
                file.write(whole[132:])
        else:
            dcmwrite(f"{folder}/{f}", ds, enforce_file_format=False, implicit_vr=f == 2, little_endian=True)
    directory = dataset(SOPClassUID=MediaStorageDirectoryStorage, SOPInstanceUID=generate_uid(ROOT), FileSetID="TEST",
                        DirectoryRecordSequence=Sequence([]))
    save(directory, f"{folder}/DICOMDIR")
    with open(f"{folder}/README", "w") as file:
        file.write("AB notes that are no image, longer than a header\n" * 20)


def padded(folder):
    """Signed pixels with padding of -2000 in the first two columns; the second frame is MONOCHROME1 with a range of padding."""
    for f, values in enumerate((dict(), dict(PhotometricInterpretation="MONOCHROME1", PixelPaddingRangeLimit=-1990))):
        pixels = picture(f) - 100
        pixels[:, 0] = -2000
        pixels[:, 1] = -2000 + 10 * f
        ds = image(pixels, 1, f + 1, trigger=40 * f, PixelRepresentation=1, RescaleSlope=2, RescaleIntercept=7, **values)
        ds.PixelPaddingValue = -2000
        ds.PixelData = pixels.astype("<i2").tobytes()
        save(ds, f"{folder}/{f}", ImplicitVRLittleEndian if f else ExplicitVRLittleEndian)


def places(folder):
    """An oblique stack of 3 slices of 2 frames, off the centre, of rectangular pixels, whose SliceLocation is 0 everywhere, in the
    same series as 2 frames of a plane at right angles; a second patient with the same series, another size, and copies of files
    under other names. Prints the place of the pixel in column 20 and row 18 of each slice."""
    row = np.array([0.8, 0.36, -0.48])
    column = np.array([-0.6, 0.48, -0.64])
    normal = np.cross(row, column)
    spacing_rows, spacing_columns = 1.25, 1.5  # between rows, between columns
    instance = 0
    for s in (2, 0, 1):
        corner = np.array([31.0, -12.5, 77.25]) + 9.0 * s * normal
        for f in range(2):
            instance += 1
            ds = image(picture(f) + 100 * s, 1, instance, trigger=40 * f, SliceLocation=0, PixelSpacing=[spacing_rows, spacing_columns],
                       ImagePositionPatient=corner.round(6).tolist(), ImageOrientationPatient=[*row, *column])
            save(ds, f"{folder}/{instance}")
            save(ds, f"{folder}/copies/{instance}", ImplicitVRLittleEndian)
        centre = corner + 20 * spacing_columns * row + 18 * spacing_rows * column
        for axis, value in zip("xyz", centre):
            print(f"centre{s}{axis}", repr(float(value)))
    for axis, value in zip("xyz", normal):
        print(f"normal{axis}", repr(float(value)))
    for f in range(2):
        instance += 1
        save(image(picture(f) + 500, 1, instance, trigger=40 * f, SliceLocation=0, PixelSpacing=[spacing_rows, spacing_columns],
                   ImagePositionPatient=[31, -12.5, 77.25], ImageOrientationPatient=[*row, *normal]), f"{folder}/{instance}")
    for f in range(2):
        save(image(picture(f)[:10, :16] + 700, 1, f + 1, trigger=40 * f, PatientID="P2", Rows=10, Columns=16), f"{folder}/second/{f}")


def gap(folder):
    """Five frames 40 ms apart, of which the third is cut short in its compressed data."""
    for f in range(5):
        ds = image(picture(f), 1, f + 1, trigger=40 * f)
        save(compressed(ds, [picture(f)], lambda a: encode_array(a.astype("u2"), bits_stored=12)[:150 if f == 2 else None]), f"{folder}/{f}",
             JPEG2000Lossless)


if __name__ == "__main__":
    {f.__name__: f for f in (types, compressions, objects, headless, padded, places, gap)}[sys.argv[1]](sys.argv[2])
