#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""scan_files.py KIND FILE: writes a small scan with python's ismrmrd, for tests that are told what is in it.

grappa:  2 repetitions of 64 lines, one in 4 measured, 8 reference lines in the middle, a noise readout, 2 coils, TR 10 ms.
slices:  3 slices of 4 phases of 16 lines, slices interleaved line by line, group "scan", no time stamps.
golden:  one stream of 400 golden-angle spokes of a 64 x 64 image, positions normalised to +-0.5.
bare:    8 lines, sizes and trajectory in the header, no counters and no limits.
named:   the same with a patient and a study in the header: each value of theirs has the word PERSON.
"""
import math
import sys

import ismrmrd
import ismrmrd.xsd as xsd
import numpy as np


def header(encoded, recon, trajectory, **limits):
    def space(matrix, mm):
        return xsd.encodingSpaceType(matrixSize=xsd.matrixSizeType(x=matrix[0], y=matrix[1], z=1),
                                     fieldOfView_mm=xsd.fieldOfViewMm(x=mm[0], y=mm[1], z=8.0))

    encoding = xsd.encodingType(
        encodedSpace=space(*encoded), reconSpace=space(*recon), trajectory=xsd.trajectoryType(trajectory),
        encodingLimits=xsd.encodingLimitsType(**{
            name: xsd.limitType(minimum=0, maximum=count - 1, center=count // 2) for name, count in limits.items()}))
    return xsd.ToXML(xsd.ismrmrdHeader(
        experimentalConditions=xsd.experimentalConditionsType(H1resonanceFrequency_Hz=63500000), encoding=[encoding]))


def readout(data, flags=(), stamp=0, positions=None, **counters):
    acquisition = ismrmrd.Acquisition.from_array(data.astype(np.complex64), positions)
    acquisition.center_sample = data.shape[1] // 2
    acquisition.sample_time_us = 5
    acquisition.acquisition_time_stamp = stamp
    acquisition.read_dir, acquisition.phase_dir, acquisition.slice_dir = (1, 0, 0), (0, 1, 0), (0, 0, 1)
    for flag in flags:
        acquisition.set_flag(flag)
    for name, value in counters.items():
        setattr(acquisition.idx, name, value)
    return acquisition


def grappa(rng):
    xml = header(((128, 64), (600, 300)), ((64, 64), (300, 300)), "cartesian", kspace_encoding_step_1=64, repetition=2)
    noise = readout(rng.normal(size=(2, 256)), [ismrmrd.ACQ_IS_NOISE_MEASUREMENT])
    noise.sample_time_us = 2.5
    readouts = [noise]
    for repetition in range(2):
        lines = sorted({*range(0, 64, 4), *range(28, 36)})
        for line in lines:
            flags = []
            if 28 <= line < 36:
                flags.append(ismrmrd.ACQ_IS_PARALLEL_CALIBRATION_AND_IMAGING if line % 4 == 0
                             else ismrmrd.ACQ_IS_PARALLEL_CALIBRATION)
            if line == lines[-1]:
                flags.append(ismrmrd.ACQ_LAST_IN_REPETITION)
            readouts.append(readout(rng.normal(size=(2, 128)), flags, stamp=4 * len(readouts),
                                    kspace_encode_step_1=line, repetition=repetition))
    return "dataset", xml, readouts


def slices(rng):
    xml = header(((32, 16), (320, 160)), ((16, 16), (160, 160)), "cartesian", kspace_encoding_step_1=16, slice=3, phase=4)
    readouts = [readout(rng.normal(size=(1, 32)), kspace_encode_step_1=line, phase=phase, slice=at)
                for phase in range(4) for line in range(16) for at in range(3)]
    return "scan", xml, readouts


def golden(rng):
    xml = header(((128, 64), (600, 300)), ((64, 64), (300, 300)), "goldenangle")
    radii = (np.arange(128) - 64) / 128
    readouts = []
    for n in range(400):
        angle = n * math.pi * (math.sqrt(5) - 1) / 2
        positions = np.stack([radii * math.cos(angle), radii * math.sin(angle)], 1).astype(np.float32)
        readouts.append(readout(rng.normal(size=(1, 128)), positions=positions, stamp=2 * n))
    return "dataset", xml, readouts


def bare(rng):
    xml = header(((16, 8), (160, 80)), ((16, 8), (160, 80)), "cartesian")
    return "dataset", xml, [readout(rng.normal(size=(1, 16)), kspace_encode_step_1=line) for line in range(8)]


def named(rng):
    group, xml, readouts = bare(rng)
    header = ismrmrd.xsd.CreateFromDocument(xml)
    header.subjectInformation = xsd.subjectInformationType(patientName="PERSON^A", patientID="PERSON-1")
    header.studyInformation = xsd.studyInformationType(studyID="PERSON-2", studyInstanceUID="1.2.PERSON",
                                                       referringPhysicianName="PERSON^B")
    header.acquisitionSystemInformation = xsd.acquisitionSystemInformationType(institutionName="PERSON's hospital",
                                                                               receiverChannels=1)
    return group, xsd.ToXML(header), readouts


def main():
    kinds = {kind.__name__: kind for kind in (grappa, slices, golden, bare, named)}
    group, xml, readouts = kinds[sys.argv[1]](np.random.default_rng(1))
    with ismrmrd.Dataset(sys.argv[2], group) as dataset:
        dataset.write_xml_header(xml.encode() if isinstance(xml, str) else xml)
        for number, acquisition in enumerate(readouts):
            acquisition.scan_counter = number
            dataset.append_acquisition(acquisition)


if __name__ == "__main__":
    main()
