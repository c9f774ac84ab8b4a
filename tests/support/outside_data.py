#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Files of other programs for the tests, and what those programs make of them.

Needs numpy, h5py and ismrmrd; nibabel and pydicom for images. Each command prints the numbers that a test holds against
its bounds, one "name value" a line.
"""
import argparse
import re
import sys

import h5py
import ismrmrd
import ismrmrd.xsd as xsd
import numpy as np


def read_cfl(name):
    """A BART array with its singleton dimensions at the end removed, in BART's order of dimensions."""
    with open(name + ".hdr") as header:
        header.readline()
        dims = [int(word) for word in header.readline().split()]
    data = np.fromfile(name + ".cfl", dtype=np.complex64).reshape(dims, order="F")
    while data.ndim > 1 and data.shape[-1] == 1:
        data = data[..., 0]
    return data


def read_images(name, series=0):
    """All images of a series as [image][channel][y][x], read by the public package."""
    with ismrmrd.Dataset(name, "dataset", mode="r") as dataset:
        group = f"image_{series}"
        images = [dataset.read_image(group, n) for n in range(dataset.number_of_images(group))]
    for n, image in enumerate(images):
        assert image.image_index == n, f"image {n} carries the index {image.image_index}"
        assert image.image_series_index == series
        assert image.data.shape[1] == 1
    return np.stack([image.data[:, 0] for image in images])


def relative_error(image, truth):
    """Error after the best scale, that scale, and the error without it."""
    scale = np.vdot(image, truth) / np.vdot(image, image)
    norm = np.linalg.norm(truth)
    return np.linalg.norm(scale * image - truth) / norm, abs(scale), np.linalg.norm(image - truth) / norm


def report(**numbers):
    for name, value in numbers.items():
        print(name, repr(float(value)))


def header(matrix, oversampling, fov, trajectory, repetitions, spokes):
    """An ISMRMRD header: `matrix` pixels of `fov` mm, encoded over `oversampling` times as much in both directions."""
    def space(factor):
        n, mm = matrix * factor, fov * factor
        return xsd.encodingSpaceType(
            matrixSize=xsd.matrixSizeType(x=n, y=n, z=1), fieldOfView_mm=xsd.fieldOfViewMm(x=mm, y=mm, z=6.0)
        )

    def limit(count):
        return xsd.limitType(minimum=0, maximum=count - 1, center=count // 2)

    encoding = xsd.encodingType(
        encodedSpace=space(oversampling),
        reconSpace=space(1),
        encodingLimits=xsd.encodingLimitsType(kspace_encoding_step_1=limit(spokes), repetition=limit(repetitions)),
        trajectory=xsd.trajectoryType(trajectory),
    )
    return xsd.ToXML(
        xsd.ismrmrdHeader(
            experimentalConditions=xsd.experimentalConditionsType(H1resonanceFrequency_Hz=63500000),
            encoding=[encoding],
        )
    )


def write_radial(name, samples, trajectory, matrix, oversampling, unit, fov=300.0, averages=1):
    """samples: [frame][coil][spoke][sample]; trajectory: [frame][spoke][sample][2] in cycles per field of view of the image,
    which is left out with the unit "none". Of `averages` of a frame all but the first have the first half of its spokes."""
    frames, _, spokes, length = samples.shape
    encoded = matrix * oversampling
    # Cycles per encoded field of view, which is `oversampling` times as wide, or parts of the encoded matrix.
    factor = {"cycles": oversampling, "normalised": oversampling / encoded, "recon-cycles": 1.0, "none": None}[unit]
    with ismrmrd.Dataset(name, "dataset", mode="w") as dataset:
        dataset.write_xml_header(header(matrix, oversampling, fov, "radial", frames, spokes).encode())
        for f in range(frames):
            measured = [(a, s) for a in range(averages) for s in range(spokes if a == 0 else spokes // 2)]
            for n, (a, s) in enumerate(measured):
                data = np.ascontiguousarray(samples[f, :, s], dtype=np.complex64)
                if factor is None:
                    acquisition = ismrmrd.Acquisition.from_array(data)
                else:
                    positions = np.ascontiguousarray(trajectory[f, s] * factor, dtype=np.float32)
                    acquisition = ismrmrd.Acquisition.from_array(data, positions)
                acquisition.center_sample = length // 2
                acquisition.idx.kspace_encode_step_1 = s
                acquisition.idx.repetition = f
                acquisition.idx.average = a
                acquisition.scan_counter = f * len(measured) + n
                if n == len(measured) - 1:
                    acquisition.set_flag(ismrmrd.ACQ_LAST_IN_REPETITION)
                dataset.append_acquisition(acquisition)


def from_bart(args):
    """Samples as `bart phantom -k -t` made them at the positions of `bart traj`, unmodified."""
    trajectory = read_cfl(args.trajectory)[:2].real.transpose(2, 1, 0)[np.newaxis]
    samples = read_cfl(args.samples)[0].T[np.newaxis, np.newaxis]
    write_radial(args.output, samples, trajectory, args.matrix, args.oversampling, args.unit)


def against_bart(args):
    """Our image against a picture that BART made of the same samples."""
    ours = read_images(args.images)[0, 0]
    # BART's first dimension is x.
    theirs = read_cfl(args.picture).T
    if not np.iscomplexobj(ours):
        theirs = abs(theirs)
    error, scale, _ = relative_error(ours, theirs)
    report(error=error, scale=scale)


def against_disc(args):
    """Our ramp-weighted image, at its own scale, against the Fourier transform of BART's Cartesian samples of the same object
    within |k| < N / 2."""
    ours = read_images(args.images)[0, 0]
    kspace = read_cfl(args.kspace).T
    n = kspace.shape[0]
    k = np.arange(n) - n // 2
    kspace[np.hypot(*np.meshgrid(k, k)) >= n / 2] = 0
    truth = np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(kspace)))
    if not np.iscomplexobj(ours):
        truth = abs(truth)
    error, scale, plain = relative_error(ours, truth)
    report(error=plain, error_after_scale=error, scale=scale)


def against_generator(args):
    """Our image against the coil images that ISMRMRD's generator stored: root of the sum of squares of the central columns."""
    ours = read_images(args.images)
    with h5py.File(args.file, "r") as file:
        stored = file["dataset/coil_images"][...]
    coils = stored["real"].astype(np.float64) + 1j * stored["imag"]
    width = ours.shape[-1]
    first = (coils.shape[-1] - width) // 2
    truth = np.sqrt((abs(coils[..., first : first + width]) ** 2).sum(axis=1))
    worst = max(relative_error(abs(image[0]).astype(np.float64), truth[0])[0] for image in ours)
    report(images=len(ours), error=worst)


def disc_cine(matrix, frames, coils):
    """Smooth discs, one of which beats, and coils of smooth complex sensitivity: [frame][y][x], [coil][y][x]."""
    y, x = (np.mgrid[:matrix, :matrix] - matrix // 2) / matrix

    def disc(cx, cy, radius, value, edge=0.02):
        return value / (1 + np.exp((np.hypot(x - cx, y - cy) - radius) / (edge / 2)))

    cine = np.stack(
        [
            disc(0, 0, 0.38, 0.4)
            + disc(-0.12, 0.05, 0.10 + 0.03 * np.sin(2 * np.pi * f / frames), 0.5)
            + disc(0.15, -0.08, 0.07, 0.3)
            for f in range(frames)
        ]
    )
    angle = 2 * np.pi * np.arange(coils) / coils
    sensitivity = np.stack(
        [
            np.exp(-((x - 0.6 * np.cos(a)) ** 2 + (y - 0.6 * np.sin(a)) ** 2) / 0.5)
            * np.exp(1j * (2 * x * np.cos(a) + 2 * y * np.sin(a) + a))
            for a in angle
        ]
    )
    return cine, sensitivity


def make_cine(args):
    """A cine of discs, sampled by the direct Fourier sum in double precision: no gridding of anyone's."""
    matrix, length = args.matrix, args.matrix * args.oversampling
    cine, sensitivity = disc_cine(matrix, args.frames, args.coils)
    pixel = (np.arange(matrix) - matrix // 2) / matrix
    radius = (np.arange(length) - length // 2) / args.oversampling
    samples = np.empty((args.frames, args.coils, args.spokes, length), dtype=np.complex64)
    trajectory = np.empty((args.frames, args.spokes, length, 2))
    for f in range(args.frames):
        # Each frame begins at another angle, as a rotating trajectory does.
        angle = np.pi * (np.arange(args.spokes) + f / args.frames) / args.spokes
        kx, ky = radius * np.cos(angle)[:, None], radius * np.sin(angle)[:, None]
        trajectory[f] = np.stack([kx, ky], axis=-1)
        along_x = np.exp(-2j * np.pi * kx.reshape(-1, 1) * pixel)
        along_y = np.exp(-2j * np.pi * ky.reshape(-1, 1) * pixel)
        for c in range(args.coils):
            lines = along_x @ (sensitivity[c] * cine[f]).T
            samples[f, c] = (lines * along_y).sum(axis=1).reshape(args.spokes, length)
    write_radial(args.output, samples, trajectory, matrix, args.oversampling, args.unit, averages=args.averages)


def against_cine(args):
    """Our frames against the root of the sum of squares of the discs under the coils."""
    ours = read_images(args.images)
    cine, sensitivity = disc_cine(ours.shape[-1], len(ours), args.coils)
    truth = cine * np.sqrt((abs(sensitivity) ** 2).sum(axis=0))
    results = [relative_error(abs(image[0]).astype(np.float64), frame) for image, frame in zip(ours, truth)]
    report(
        images=len(ours),
        error=max(r[0] for r in results),
        scale=max((r[1] for r in results), key=lambda s: abs(s - 1)),
        error_without_scale=max(r[2] for r in results),
    )


ODD_HEADER = """<?xml version="1.0" encoding="ISO-8859-1"?>
<m:ismrmrdHeader xmlns:m="http://www.ismrm.org/ISMRMRD"><m:newElement>7</m:newElement>
<m:encoding><m:trajectory>Cartesian</m:trajectory>
<m:reconSpace><m:fieldOfView_mm><m:z>0.006</m:z><m:y>0.24</m:y><m:x>0.3</m:x></m:fieldOfView_mm>
<m:matrixSize><m:z>1</m:z><m:y>39.9996</m:y><m:x>48.0</m:x></m:matrixSize></m:reconSpace>
<m:encodedSpace><m:matrixSize><m:x>96</m:x><m:y> 40 </m:y><m:z>2</m:z></m:matrixSize>
<m:fieldOfView_mm><m:x>0.6</m:x><m:y>0.24</m:y><m:z>0.012</m:z></m:fieldOfView_mm></m:encodedSpace></m:encoding>
<m:studyInformation><m:studyDate>never</m:studyDate><m:studyDescription>M\xfcnchen</m:studyDescription></m:studyInformation>
</m:ismrmrdHeader>"""


def make_lines(args):
    """Cartesian lines of 48 x 40 pixels of 300 x 240 mm, oversampled twice along x, by the direct Fourier sum, stored in one
    of the ways that scanners and converters have, and the magnitude of numpy's inverse FFT of the samples that are left."""
    width, height, length = 48, 40, 96
    rng = np.random.default_rng(7)
    y, x = (np.arange(height) - height // 2) / height, (np.arange(width) - width // 2) / width
    image = np.zeros((height, width), dtype=complex)
    for _ in range(5):
        cx, cy, rx, ry = *rng.uniform(-0.3, 0.3, 2), *rng.uniform(0.05, 0.15, 2)
        image += rng.uniform(0.3, 1) * np.exp(-(((x - cx) / rx) ** 2) - ((y[:, None] - cy) / ry) ** 2 + 1j * rng.uniform(0, 6))
    kx, ky = (np.arange(length) - length // 2) / 2, np.arange(height) - height // 2
    samples = np.exp(-2j * np.pi * np.outer(ky, y)) @ image @ np.exp(-2j * np.pi * np.outer(x, kx))
    first_line = 12 if args.way == "partial" else 0
    first_sample = 20 if args.way == "echo" else 0
    pre, post = (6, 10) if args.way in ("discard", "reverse-discard") else (0, 0)
    kept = np.zeros_like(samples)
    kept[first_line:, first_sample:] = samples[first_line:, first_sample:]

    def space(factor):
        return xsd.encodingSpaceType(
            matrixSize=xsd.matrixSizeType(x=width * factor, y=height, z=1),
            fieldOfView_mm=xsd.fieldOfViewMm(x=300.0 * factor, y=240.0, z=6.0),
        )

    limit = xsd.limitType(minimum=0, maximum=height - first_line - 1, center=height // 2 - first_line)
    encoding = xsd.encodingType(
        encodedSpace=space(2),
        reconSpace=space(1),
        encodingLimits=xsd.encodingLimitsType(kspace_encoding_step_1=limit),
        trajectory=xsd.trajectoryType("cartesian"),
    )
    xml = xsd.ToXML(
        xsd.ismrmrdHeader(
            experimentalConditions=xsd.experimentalConditionsType(H1resonanceFrequency_Hz=63500000), encoding=[encoding]
        )
    ).encode()
    with ismrmrd.Dataset(args.output, "dataset", mode="w") as dataset:
        dataset.write_xml_header(ODD_HEADER.encode("latin-1") if args.way == "odd" else xml)
        for line in rng.permutation(np.arange(first_line, height)):
            data = samples[line, first_sample:]
            turned = args.way.startswith("reverse") and line % 2
            if turned:
                data = data[::-1]
            junk = 1e4 * (1 + rng.standard_normal(pre + post))
            data = np.concatenate([junk[:pre], data, junk[pre:]]).astype(np.complex64)
            acquisition = ismrmrd.Acquisition.from_array(data[np.newaxis])
            if turned:
                acquisition.set_flag(ismrmrd.ACQ_IS_REVERSE)
            acquisition.discard_pre, acquisition.discard_post = pre, post
            # Of a readout that runs backwards the centre counts from its end, as scanners give the same one for all.
            acquisition.center_sample = length // 2 - first_sample + (post if turned else pre)
            acquisition.idx.kspace_encode_step_1 = line - first_line
            dataset.append_acquisition(acquisition)
    if args.way == "odd":
        with h5py.File(args.output, "r+") as file:
            rows = file["dataset/data"][:]
            rows["head"]["version"] = 2
            rows["head"]["active_channels"] = rows["head"]["available_channels"] = 0
            file["dataset/data"][:] = rows
    truth = np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(kept)))[:, (length - width) // 2 : (length + width) // 2]
    np.save(args.truth, abs(truth))


def against_truth(args):
    """Our image, at its own scale, against an array of numpy's."""
    ours, truth = read_images(args.images), np.load(args.truth)
    report(images=len(ours), error=np.linalg.norm(abs(ours[0, 0]) - truth) / np.linalg.norm(truth))
def acquisitions(name):
    """Readouts of a file."""
    with ismrmrd.Dataset(name, "dataset", mode="r") as dataset:
        return [dataset.read_acquisition(n) for n in range(dataset.number_of_acquisitions())]


def header_of(name):
    with ismrmrd.Dataset(name, "dataset", mode="r") as dataset:
        return xsd.CreateFromDocument(dataset.read_xml_header())


def lines_of(readouts):
    """Cartesian lines as [coil][line][sample]."""
    return np.stack([np.asarray(readout.data, np.complex128) for readout in readouts], axis=1)


def cartesian_sum(readouts, header, centre_line):
    """The Fourier sum of all lines at the reconstructed pixels, over the encoded pixels: [coil][y][x]."""
    encoding = header.encoding[0]
    encoded, recon = encoding.encodedSpace, encoding.reconSpace
    k_y = np.array([readout.idx.kspace_encode_step_1 - centre_line for readout in readouts])
    k_x = np.arange(readouts[0].number_of_samples) - readouts[0].center_sample

    def waves(k, pixels, mm, encoded_mm):
        places = (np.arange(pixels) - pixels // 2) * mm / pixels / encoded_mm
        return np.exp(2j * np.pi * np.outer(places, k))

    x = waves(k_x, recon.matrixSize.x, recon.fieldOfView_mm.x, encoded.fieldOfView_mm.x)
    y = waves(k_y, recon.matrixSize.y, recon.fieldOfView_mm.y, encoded.fieldOfView_mm.y)
    cells = (recon.matrixSize.x * encoded.fieldOfView_mm.x / recon.fieldOfView_mm.x) * (
        recon.matrixSize.y * encoded.fieldOfView_mm.y / recon.fieldOfView_mm.y)
    return y @ lines_of(readouts) @ x.T / cells


def write_cartesian(name, lines, samples, centre_line, centre_sample, encoded, recon, flags=None, acceleration=1,
                    directions=None):
    """samples: [coil][line][sample]; encoded, recon: (x, y, mm along x, mm along y)."""
    def space(x, y, mm_x, mm_y):
        return xsd.encodingSpaceType(
            matrixSize=xsd.matrixSizeType(x=x, y=y, z=1), fieldOfView_mm=xsd.fieldOfViewMm(x=mm_x, y=mm_y, z=6.0)
        )

    encoding = xsd.encodingType(
        encodedSpace=space(*encoded),
        reconSpace=space(*recon),
        encodingLimits=xsd.encodingLimitsType(
            kspace_encoding_step_1=xsd.limitType(minimum=0, maximum=max(lines), center=centre_line),
            repetition=xsd.limitType(minimum=0, maximum=0, center=0),
        ),
        trajectory=xsd.trajectoryType("cartesian"),
        parallelImaging=xsd.parallelImagingType(
            accelerationFactor=xsd.accelerationFactorType(kspace_encoding_step_1=acceleration, kspace_encoding_step_2=1)
        ),
    )
    header = xsd.ismrmrdHeader(
        experimentalConditions=xsd.experimentalConditionsType(H1resonanceFrequency_Hz=63500000), encoding=[encoding]
    )
    with ismrmrd.Dataset(name, "dataset", mode="w") as dataset:
        dataset.write_xml_header(xsd.ToXML(header).encode())
        for n, line in enumerate(lines):
            acquisition = ismrmrd.Acquisition.from_array(np.ascontiguousarray(samples[:, n], dtype=np.complex64))
            acquisition.center_sample = centre_sample
            acquisition.idx.kspace_encode_step_1 = line
            acquisition.scan_counter = n
            acquisition.sample_time_us = 5
            read, phase, normal = directions if directions is not None else np.eye(3)
            acquisition.read_dir[:], acquisition.phase_dir[:], acquisition.slice_dir[:] = read, phase, normal
            for flag in flags[n] if flags else ():
                acquisition.set_flag(flag)
            if n == len(lines) - 1:
                acquisition.set_flag(ismrmrd.ACQ_LAST_IN_REPETITION)
            dataset.append_acquisition(acquisition)


def blobs(k_x, k_y, coils):
    """The Fourier transform of smooth blobs under coils that are plane waves of different tilt, whose sums are exact
    wherever samples and pixels lie; k in 1/mm: [coil][line][sample]."""
    rng = np.random.default_rng(4)
    samples = np.zeros((coils, len(k_y), len(k_x)), complex)
    for _ in range(6):
        x, y, size, value = rng.uniform(-60, 60), rng.uniform(-45, 45), rng.uniform(8, 20), rng.uniform(0.3, 1)
        for coil in range(coils):
            # What a tilt of some cycles over the field of view does to a blob: it moves in k-space.
            p_x, p_y = k_x[None] - 0.002 * np.cos(coil), k_y[:, None] - 0.002 * np.sin(2 * coil)
            samples[coil] += (1 + 0.2 * coil) * value * np.pi * size**2 * np.exp(
                -(np.pi * size) ** 2 * (p_x**2 + p_y**2) - 2j * np.pi * (p_x * x + p_y * y))
    return samples


# Encoded and reconstructed matrix and field of view in mm, lines before the centre and in all, samples likewise.
GEOMETRIES = {
    "phase-oversampling": ((128, 78, 300.0, 182.0), (64, 64, 150.0, 150.0), 39, 78, 64, 128),
    "partial-fourier": ((128, 72, 300.0, 169.0), (64, 64, 150.0, 150.0), 12, 48, 64, 128),
    "asymmetric-echo": ((128, 64, 300.0, 150.0), (64, 64, 150.0, 150.0), 32, 64, 40, 104),
    "centre-off-the-middle": ((128, 60, 320.0, 150.0), (64, 60, 160.0, 150.0), 25, 55, 64, 128),
    "zero-filled": ((96, 48, 300.0, 180.0), (128, 96, 150.0, 150.0), 24, 48, 48, 96),
    "rectangular-pixels": ((128, 40, 320.0, 170.0), (64, 48, 160.0, 150.0), 20, 40, 64, 128),
}


def make_geometry(args):
    """A Cartesian scan of blobs, on an oblique plane."""
    encoded, recon, before, count, centre, samples = GEOMETRIES[args.geometry]
    k_x = (np.arange(samples) - centre) / encoded[2]
    k_y = (np.arange(count) - before) / encoded[3]
    turn = np.array([[0.8, 0.36, 0.48], [-0.6, 0.48, 0.64], [0.0, -0.8, 0.6]])
    write_cartesian(args.output, list(range(count)), blobs(k_x, k_y, 2), before, centre, encoded, recon,
                    directions=turn)


def against_sum(args):
    """Our coil images against the Fourier sum of the file's lines at the reconstructed pixels."""
    header, readouts = header_of(args.file), acquisitions(args.file)
    centre = header.encoding[0].encodingLimits.kspace_encoding_step_1.center
    ours = read_images(args.images)
    exact = cartesian_sum(readouts, header, centre)
    # A series' first image; each coil at its own scale.
    report(images=len(ours), error=relative_error(ours[0].astype(complex), exact)[2],
           peak=abs(exact).max() / abs(exact).mean())


def sense(lines, reference, maps_of, iterations=30, l2=1e-3):
    """CG-SENSE on a grid. lines, reference: [coil][ky][kx], zero where not measured; maps_of makes sensitivities of
    images. Returns the image."""
    def to_image(k):
        return np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(k, axes=(1, 2))), axes=(1, 2))

    def to_kspace(image):
        return np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(image, axes=(1, 2))), axes=(1, 2))

    maps = maps_of(to_image(reference))
    mask = (abs(lines).sum(axis=(0, 2)) > 0)[None, :, None]

    def normal(image):
        return (maps.conj() * to_image(mask * to_kspace(maps * image[None]))).sum(axis=0) + l2 * image

    image = np.zeros(lines.shape[1:], complex)
    rest = (maps.conj() * to_image(lines)).sum(axis=0)
    step, power = rest.copy(), np.vdot(rest, rest).real
    for _ in range(iterations):
        product = normal(step)
        length = power / np.vdot(step, product).real
        image += length * step
        rest -= length * product
        power, before = np.vdot(rest, rest).real, power
        step = rest + power / before * step
    return image


def whitening(noise):
    """The inverse Cholesky factor of the noise's covariance: [coil][sample]."""
    return np.linalg.inv(np.linalg.cholesky(noise @ noise.conj().T / (noise.shape[1] - 1)))


def against_sense(args):
    """Our image against CG-SENSE by numpy, with the sensitivities of the file's reference lines; root of the sum of
    squares, aliased, beside it."""
    header, readouts = header_of(args.file), acquisitions(args.file)
    encoding = header.encoding[0]
    noise = [r for r in readouts if r.is_flag_set(ismrmrd.ACQ_IS_NOISE_MEASUREMENT)]
    readouts = [r for r in readouts if not r.is_flag_set(ismrmrd.ACQ_IS_NOISE_MEASUREMENT)]
    alone = [r.is_flag_set(ismrmrd.ACQ_IS_PARALLEL_CALIBRATION) for r in readouts]
    both = [r.is_flag_set(ismrmrd.ACQ_IS_PARALLEL_CALIBRATION_AND_IMAGING) for r in readouts]
    centre = encoding.encodingLimits.kspace_encoding_step_1.center
    height, width = encoding.reconSpace.matrixSize.y, encoding.reconSpace.matrixSize.x
    assert encoding.encodedSpace.matrixSize.y == height

    def grid(chosen):
        data = lines_of(chosen)
        if noise:
            data = np.einsum("ab,bls->als", whitening(np.asarray(noise[0].data, complex)), data)
        # The oversampled rim along the readout goes.
        rows = np.fft.fftshift(np.fft.ifft(np.fft.ifftshift(data, axes=2)), axes=2)
        first = rows.shape[2] // 2 - width // 2
        rows = np.fft.fftshift(np.fft.fft(np.fft.ifftshift(rows[:, :, first:first + width], axes=2)), axes=2)
        k = np.zeros((data.shape[0], height, width), complex)
        for n, readout in enumerate(chosen):
            k[:, readout.idx.kspace_encode_step_1 - centre + height // 2] = rows[:, n]
        return k

    lines = grid([r for r, a, b in zip(readouts, alone, both) if b or not a])
    reference = grid([r for r, a, b in zip(readouts, alone, both) if a or b])
    used = np.flatnonzero(abs(reference).sum(axis=(0, 2)))
    window = np.zeros(height)
    window[used] = np.hanning(len(used) + 2)[1:-1]
    across = np.zeros(width)
    across[width // 2 - len(used) // 2:width // 2 + len(used) // 2] = np.hanning(len(used) // 2 * 2 + 1)[:-1]

    def maps_of(images):
        return images / np.maximum(np.sqrt((abs(images) ** 2).sum(axis=0)), 1e-30)

    image = abs(sense(lines, reference * window[:, None] * across, maps_of))
    ours = abs(read_images(args.images)[0, 0]).astype(float)
    aliased = np.sqrt((abs(np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(lines, axes=(1, 2))), axes=(1, 2))) ** 2).sum(axis=0))
    if args.picture:
        np.savez(args.picture, ours=ours, sense=image, aliased=aliased)
    report(correlation=np.corrcoef(ours.ravel(), image.ravel())[0, 1],
           aliased=np.corrcoef(aliased.ravel(), image.ravel())[0, 1])


def make_grappa(args):
    """Every third line of blobs under eight coils, all around the centre as reference lines, the way scanners flag
    them; every line in the file of the truth."""
    encoded, recon, before, count, centre, samples = (128, 96, 300.0, 150.0), (64, 96, 150.0, 150.0), 48, 96, 64, 128
    matrix = recon[1], recon[0]
    y, x = ((np.arange(m) - m // 2) / m for m in matrix)
    image = image_of_discs(y, x)
    maps = ring_of_coils(y, x)
    k_x = (np.arange(samples) - centre) / 2  # cycles per reconstructed field of view
    k_y = np.arange(count) - before
    data = np.exp(-2j * np.pi * np.outer(k_y, y)) @ (maps * image) @ np.exp(-2j * np.pi * np.outer(x, k_x))
    lines = [n for n in range(count) if n % 3 == 0 or abs(n - before) <= 12]
    flags = [
        () if abs(n - before) > 12
        else (ismrmrd.ACQ_IS_PARALLEL_CALIBRATION_AND_IMAGING,) if n % 3 == 0
        else (ismrmrd.ACQ_IS_PARALLEL_CALIBRATION,)
        for n in lines
    ]
    if args.reference == "no":
        lines, flags = [n for n in lines if n % 3 == 0], None
    write_cartesian(args.output, lines, data[:, lines], before, centre, encoded, recon, flags, acceleration=3)


def ring_of_coils(y, x):
    """Eight coils of smooth complex sensitivity at pixels of these coordinates in fields of view: [coil][y][x]."""
    angle = 2 * np.pi * np.arange(8)[:, None, None] / 8
    y = y[:, None]
    return np.exp(-((x - 0.6 * np.cos(angle)) ** 2 + (y - 0.6 * np.sin(angle)) ** 2) / 0.3
                  + 2j * (x * np.cos(angle) + y * np.sin(angle) + angle))


def image_of_discs(y, x):
    """Smooth discs at pixels of these coordinates in fields of view."""
    radius = np.hypot(x, y[:, None])
    soft = lambda r, edge: 1 / (1 + np.exp((r - edge) / 0.012))
    return (0.5 * soft(radius, 0.36) + 0.4 * soft(np.hypot(x - 0.1, y[:, None] + 0.08), 0.1)
            + 0.2 * soft(np.hypot(x + 0.15, y[:, None] - 0.1), 0.07))


def against_discs(args):
    """The magnitude of our image against the discs as the coils together see them."""
    ours = abs(read_images(args.images)[0, 0]).astype(float)
    y, x = ((np.arange(m) - m // 2) / m for m in ours.shape)
    truth = image_of_discs(y, x) * np.sqrt((abs(ring_of_coils(y, x)) ** 2).sum(axis=0))
    report(error=relative_error(ours, truth)[2])


def against_whitened(args):
    """Our whitened coil images against those that numpy makes, noise scaled by the times of a sample."""
    header, readouts = header_of(args.file), acquisitions(args.file)
    noise, readouts = readouts[0], readouts[1:]
    imaging = [r for r in readouts if not r.is_flag_set(ismrmrd.ACQ_IS_PARALLEL_CALIBRATION)]
    matrix = whitening(np.asarray(noise.data, complex))
    bandwidth = header.acquisitionSystemInformation.relativeReceiverNoiseBandwidth or 1
    matrix = matrix * np.sqrt(imaging[0].sample_time_us / noise.sample_time_us * bandwidth)
    centre = header.encoding[0].encodingLimits.kspace_encoding_step_1.center
    exact = np.einsum("ab,byx->ayx", matrix, cartesian_sum(imaging, header, centre))
    ours = read_images(args.images)[0].astype(complex)
    report(error=relative_error(ours, exact)[2], ratio=imaging[0].sample_time_us / noise.sample_time_us)


def against_points(args):
    """Some pixels of our coil images, made without weights, against the Fourier sum of the readouts by their
    positions in cycles per field of view."""
    readouts = acquisitions(args.file)
    ours = read_images(args.images)[0].astype(complex)
    coils, height, width = ours.shape
    data = np.concatenate([np.asarray(r.data, complex) for r in readouts], axis=1)
    positions = np.concatenate([r.traj[:, :2].astype(float) for r in readouts])
    rng = np.random.default_rng(1)
    y, x = rng.integers(0, height, 600), rng.integers(0, width, 600)
    places = np.stack([(x - width // 2) / width, (y - height // 2) / height])
    exact = data @ np.exp(2j * np.pi * positions @ places)
    report(error=np.linalg.norm(ours[:, y, x] - exact) / np.linalg.norm(exact), coils=coils)


def describe(args):
    """What the public package reads of a file of images."""
    with ismrmrd.Dataset(args.images, "dataset", mode="r") as dataset:
        xml = dataset.read_xml_header()
        parsed = xsd.CreateFromDocument(xml)
        report(encodings=len(parsed.encoding), recon_x=parsed.encoding[0].reconSpace.matrixSize.x)
        for series in range(args.series):
            group = f"image_{series}"
            count = dataset.number_of_images(group)
            last = dataset.read_image(group, count - 1)
            meta = ismrmrd.Meta.deserialize(last.attribute_string)
            assert meta["DataRole"] == "Image"
            numbers = {
                "images": count,
                "channels": last.data.shape[0],
                "height": last.data.shape[2],
                "width": last.data.shape[3],
                "complex": np.iscomplexobj(last.data),
                "fov_x": last.field_of_view[0],
                "repetition": last.repetition,
                "time": last.acquisition_time_stamp,
                "largest": abs(last.data).max(),
                "pts": float(meta["GstPts"]),
            }
            report(**{f"{name}_{series}": value for name, value in numbers.items()})


def counted_scan(name):
    """A Cartesian scan that counts in the way of that name: rows of (line, counters, flags), limits of the header as counter ->
    maximum, and the counters that tell its frames apart."""
    lines = range(COUNTED_SIDE)
    rows, limits, frames = [], dict(kspace_encoding_step_1=COUNTED_SIDE - 1), ("slice", "contrast", "set", "phase", "repetition")

    def row(line, flags=(), **counters):
        rows.append((line, counters, flags))

    if name == "interleaved-slices":
        for r in range(2):
            for line in lines:
                for s in (1, 3, 0, 2):
                    row(line, slice=s, repetition=r)
        rows[-1] = rows[-1][:2] + ((ismrmrd.ACQ_LAST_IN_REPETITION,),)
        limits |= dict(slice=3, repetition=1)
    elif name == "echoes":
        for r in range(3):
            for line in lines:
                for e in range(2):
                    last = e == 1 and line == lines[-1]
                    row(line, (ismrmrd.ACQ_LAST_IN_REPETITION,) if last else (), contrast=e, repetition=r)
        limits |= dict(contrast=1, repetition=2)
    elif name == "velocities":  # segments of a gated cine, each line with both encodings
        for segment in range(4):
            for p in range(3):
                for line in lines[segment::4]:
                    for v in range(2):
                        row(line, set=v, phase=p, segment=segment)
        limits |= dict(set=1, phase=2, segment=3)
    elif name == "averages":  # the last one of half the lines, each line after the other
        for a in range(3):
            for line in lines[:: 2 if a == 2 else 1]:
                row(line, average=a)
        limits |= dict(average=2)
    elif name == "averages-of-phases":  # without a limit, averages innermost in one phase and outermost in the other
        for line in lines:
            for a in range(2):
                row(line, phase=0, average=a)
        for a in range(2):
            for line in lines:
                row(line, phase=1, average=a)
        limits = {}
    elif name == "segments-backwards":
        for beat in range(4):
            for p in range(3):
                for line in lines[3 - beat :: 4]:
                    row(line, phase=p, segment=3 - beat)
        limits |= dict(phase=2, segment=3)
    elif name == "no-limits":
        for beat in range(4):
            for s in range(2):
                for p in range(3):
                    for line in lines[beat::4]:
                        row(line, slice=s, phase=p, segment=beat)
        limits = None
    elif name == "wrong-limits":  # fewer lines and repetitions, more phases than there are
        for r in range(2):
            for p in range(3):
                for line in lines:
                    row(line, phase=p, repetition=r)
        limits = dict(kspace_encoding_step_1=COUNTED_SIDE // 2 - 1, phase=19, repetition=0)
    elif name == "flagged-phases":
        for r in range(2):
            for p in range(3):
                for line in lines:
                    last = line == lines[-1]
                    flags = [ismrmrd.ACQ_LAST_IN_PHASE] * last + [ismrmrd.ACQ_LAST_IN_REPETITION] * (last and p == 2)
                    row(line, flags, phase=p, repetition=r)
        limits |= dict(phase=2, repetition=1)
    elif name == "repetitions-innermost":
        for line in lines:
            for r in range(3):
                row(line, repetition=r)
        limits |= dict(repetition=2)
    else:
        raise ValueError(name)
    return rows, limits, frames


COUNTED_SIDE = 24


def counted_line(line, counters, frames):
    """Samples of a line: of a random picture for each frame, and something of its own for each measurement."""
    frame = [counters.get(name, 0) for name in frames]
    picture = np.random.default_rng([1, *frame]).normal(size=(COUNTED_SIDE, COUNTED_SIDE, 2)) @ (1, 1j)
    own = np.random.default_rng([2, *frame, line, counters.get("average", 0)]).normal(size=(COUNTED_SIDE, 2)) @ (1, 1j)
    return np.complex64(picture[line] + own)


def make_counted(args):
    """A scan of counted_scan()."""
    rows, limits, frames = counted_scan(args.scan)
    space = xsd.encodingSpaceType(
        matrixSize=xsd.matrixSizeType(x=COUNTED_SIDE, y=COUNTED_SIDE, z=1),
        fieldOfView_mm=xsd.fieldOfViewMm(x=300.0, y=300.0, z=6.0),
    )
    bounds = {
        name: xsd.limitType(minimum=0, maximum=most, center=COUNTED_SIDE // 2 if "step" in name else 0)
        for name, most in (limits or {}).items()
    }
    xml = xsd.ToXML(
        xsd.ismrmrdHeader(
            experimentalConditions=xsd.experimentalConditionsType(H1resonanceFrequency_Hz=63500000),
            encoding=[
                xsd.encodingType(
                    encodedSpace=space,
                    reconSpace=space,
                    encodingLimits=xsd.encodingLimitsType(**bounds),
                    trajectory=xsd.trajectoryType("cartesian"),
                )
            ],
        )
    )
    if limits is None:
        xml = re.sub(r"<encodingLimits\s*/>|<encodingLimits>.*</encodingLimits>", "", xml, flags=re.DOTALL)
        assert "encodingLimits" not in xml
    with ismrmrd.Dataset(args.output, "dataset", mode="w") as dataset:
        dataset.write_xml_header(xml.encode())
        for n, (line, counters, flags) in enumerate(rows):
            acquisition = ismrmrd.Acquisition.from_array(counted_line(line, counters, frames)[np.newaxis])
            acquisition.center_sample = COUNTED_SIDE // 2
            acquisition.scan_counter = n
            acquisition.acquisition_time_stamp = 1000 + 2 * n
            acquisition.idx.kspace_encode_step_1 = line
            for name, value in counters.items():
                setattr(acquisition.idx, name, value)
            for flag in flags:
                acquisition.set_flag(flag)
            dataset.append_acquisition(acquisition)


def against_counted(args):
    """Our images against the transform of the mean of each line's measurements; whether each series has one slice, contrast and
    set, its frames are in the order of repetition and phase, and its times advance."""
    rows, _, frames = counted_scan(args.scan)
    measured = {}
    for line, counters, _ in rows:
        lines = measured.setdefault(tuple(counters.get(name, 0) for name in frames), {})
        lines.setdefault(line, []).append(counted_line(line, counters, frames))
    worst, found, in_order, alone = 0.0, set(), True, True
    with h5py.File(args.images, "r") as file:
        series = sum(name.startswith("image_") for name in file["dataset"])
    for s in range(series):
        with ismrmrd.Dataset(args.images, "dataset", mode="r") as dataset:
            images = [dataset.read_image(f"image_{s}", n) for n in range(dataset.number_of_images(f"image_{s}"))]
        keys = [tuple(getattr(image, name) for name in frames) for image in images]
        alone &= len({key[:3] for key in keys}) == 1
        in_order &= sorted(keys, key=lambda key: (key[4], key[3])) == keys
        times = [float(ismrmrd.Meta.deserialize(image.attribute_string)["GstPts"]) for image in images]
        in_order &= all(before < after for before, after in zip(times, times[1:]))
        for image, key in zip(images, keys):
            assert key not in found, f"{key} twice"
            found.add(key)
            kspace = np.stack([np.mean(measured[key][line], axis=0) for line in range(COUNTED_SIDE)])
            truth = np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(kspace)))
            worst = max(worst, relative_error(abs(image.data[0, 0]).astype(np.float64), abs(truth))[2])
    report(series=series, missing=len(set(measured) ^ found), error=worst, in_order=in_order, alone=alone)
def rows(name):
    """All of /dataset/data: heads as bytes, trajectories, samples."""
    with h5py.File(name, "r") as file:
        data = file["dataset/data"][...]
        return [row["head"].tobytes() for row in data], list(data["traj"]), list(data["data"]), file["dataset/xml"][0]


def compare_raw(args):
    """One file of raw data against another, value by value."""
    ours, theirs = rows(args.file), rows(args.other)
    report(
        rows=len(ours[0]),
        missing=len(theirs[0]) - len(ours[0]),
        heads=sum(a != b for a, b in zip(ours[0], theirs[0])),
        trajectories=sum(not np.array_equal(a, b) for a, b in zip(ours[1], theirs[1])),
        samples=sum(a.tobytes() != b.tobytes() for a, b in zip(ours[2], theirs[2])),
        xml=ours[3] != theirs[3],
    )


def against_tool(args):
    """Raw data by numpy's transform, ISMRMRD's own program's image of the same file, and ours of it. All are roots of the sum
    of squares; the program's transform has another scale."""
    with ismrmrd.Dataset(args.file, "dataset", mode="r") as dataset:
        encoding = xsd.CreateFromDocument(dataset.read_xml_header()).encoding[0]
        size, cut = encoding.encodedSpace.matrixSize, encoding.reconSpace.matrixSize.x
        acquisitions = [dataset.read_acquisition(n) for n in range(dataset.number_of_acquisitions())]
    kspace = np.zeros((acquisitions[0].active_channels, size.y, size.x), dtype=np.complex128)
    for acquisition in acquisitions:
        kspace[:, acquisition.idx.kspace_encode_step_1] = acquisition.data
    axes = (1, 2)
    coils = np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(kspace, axes=axes), axes=axes), axes=axes)
    first = (size.x - cut) // 2
    numpy_image = np.sqrt((abs(coils[..., first : first + cut]) ** 2).sum(axis=0))
    with h5py.File(args.file, "r") as file:
        tool = np.squeeze(file["dataset/cpp/data"][...]).astype(np.float64)
    ours = abs(read_images(args.images)[-1, 0]).astype(np.float64)
    truth = abs(read_images(args.phantom)[-1, 0]).astype(np.float64)
    report(
        acquisitions=len(acquisitions),
        tool=relative_error(tool, numpy_image)[0],
        ours=relative_error(ours, numpy_image)[2],
        correlation=np.corrcoef(numpy_image.ravel(), truth.ravel())[0, 1],
    )


def against_phantom(args):
    """Raw data of one uniform coil without noise against the Fourier sum of the images that were scanned, at the positions
    that the file says: parts of the encoded matrix."""
    images = read_images(args.images)[:, 0].astype(np.float64)
    worst = 0.0
    with ismrmrd.Dataset(args.file, "dataset", mode="r") as dataset:
        encoding = xsd.CreateFromDocument(dataset.read_xml_header()).encoding[0]
        encoded, recon = encoding.encodedSpace, encoding.reconSpace
        count = dataset.number_of_acquisitions()
        for n in range(count):
            acquisition = dataset.read_acquisition(n)
            image = images[acquisition.idx.repetition]
            height, width = image.shape
            # Cycles per field of view of the image.
            kx = acquisition.traj[:, 0] * encoded.matrixSize.x * recon.fieldOfView_mm.x / encoded.fieldOfView_mm.x
            ky = acquisition.traj[:, 1] * encoded.matrixSize.y * recon.fieldOfView_mm.y / encoded.fieldOfView_mm.y
            along_x = np.exp(-2j * np.pi * np.outer(kx, (np.arange(width) - width // 2) / width))
            along_y = np.exp(-2j * np.pi * np.outer(ky, (np.arange(height) - height // 2) / height))
            exact = np.einsum("ky,yx,kx->k", along_y, image, along_x)
            worst = max(worst, np.linalg.norm(acquisition.data[0] - exact) / np.linalg.norm(exact))
    report(acquisitions=count, error=worst)


def against_integers(args):
    """Images in 16-bit integers, by their scale, against the same ones in float; what receivers look at."""
    with ismrmrd.Dataset(args.integers, "dataset", mode="r") as dataset:
        stored = [dataset.read_image("image_0", n) for n in range(dataset.number_of_images("image_0"))]
    metas = [ismrmrd.Meta.deserialize(image.attribute_string) for image in stored]
    floats = abs(read_images(args.floats)[:, 0])
    slopes = {float(meta["RescaleSlope"]) for meta in metas}
    assert len(slopes) == 1, "one scale for a series"
    slope = slopes.pop()
    values = np.stack([image.data[0, 0] for image in stored]) * slope
    last = metas[-1]
    report(
        images=len(stored),
        integers=stored[0].data.dtype == np.int16,
        magnitude=stored[0].image_type == ismrmrd.IMTYPE_MAGNITUDE,
        steps=abs(values - floats).max() / slope,
        window=float(last["WindowWidth"]) * slope / floats[0].max(),
        values=len(last["ImageRowDir"]),
    )


# A Cartesian scan of oblique, off-centre, rectangular slices, in each of which one pixel is bright.
OBLIQUE_MATRIX = np.array([40, 32])  # x, y
OBLIQUE_FOV = np.array([240.0, 256.0])  # mm
OBLIQUE_STEP = 10.0  # mm from slice to slice
OBLIQUE_FRAME = 40.0  # ms
OBLIQUE_ORDER = [2, 0, 1, 3]  # slices by position, in the order in which they are scanned


def oblique_axes():
    """read_dir, phase_dir and slice_dir: a transversal plane turned about two axes."""
    a, b = np.radians(25), np.radians(-35)
    turn_z = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    turn_x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    return (turn_z @ turn_x).T


def oblique_slice(place):
    """Position of the slice at `place` in the stack, its bright pixel (x, y), and where that lies: mm, LPS."""
    read, phase, normal = oblique_axes()
    position = np.array([31.5, -47.25, 112.75]) + place * OBLIQUE_STEP * normal
    pixel = np.array([9 + 5 * place, 24 - 4 * place])
    offset = (pixel - OBLIQUE_MATRIX // 2) * OBLIQUE_FOV / OBLIQUE_MATRIX
    return position, pixel, position + offset[0] * read + offset[1] * phase


def make_oblique(args):
    """The scan, slice after slice, and a header with all that names a patient. Frames are repetitions, or phases."""
    counter = args.counter
    width, height = (int(n) for n in OBLIQUE_MATRIX)
    space = xsd.encodingSpaceType(
        matrixSize=xsd.matrixSizeType(x=width, y=height, z=1),
        fieldOfView_mm=xsd.fieldOfViewMm(x=float(OBLIQUE_FOV[0]), y=float(OBLIQUE_FOV[1]), z=7.0),
    )

    def limit(count):
        return xsd.limitType(minimum=0, maximum=count - 1, center=count // 2)

    xml = xsd.ToXML(
        xsd.ismrmrdHeader(
            subjectInformation=xsd.subjectInformationType(
                patientName="Doe^Jane", patientID="PAT4711", patientBirthdate="1961-02-03", patientGender="F",
                patientWeight_kg=61.5,
            ),
            studyInformation=xsd.studyInformationType(
                studyDate="2031-05-06", studyTime="10:20:30", studyID="STU0815", accessionNumber=990017,
                referringPhysicianName="Roe^Richard", studyDescription="Heart of Jane",
                studyInstanceUID="1.2.826.0.1.3680043.8.498.77",
            ),
            measurementInformation=xsd.measurementInformationType(
                measurementID="MEAS31337", patientPosition=xsd.patientPositionType.HFS, protocolName="cine of Jane",
                frameOfReferenceUID="1.2.826.0.1.3680043.8.498.78",
            ),
            acquisitionSystemInformation=xsd.acquisitionSystemInformationType(
                systemVendor="Builder", systemModel="Magnet", systemFieldStrength_T=1.5, institutionName="Clinic of Roe",
                stationName="MRROOM9", deviceSerialNumber="SN55512",
            ),
            experimentalConditions=xsd.experimentalConditionsType(H1resonanceFrequency_Hz=63870000),
            encoding=[
                xsd.encodingType(
                    encodedSpace=space,
                    reconSpace=space,
                    encodingLimits=xsd.encodingLimitsType(
                        kspace_encoding_step_1=limit(height),
                        slice=limit(len(OBLIQUE_ORDER)),
                        **{counter: limit(args.frames)},
                    ),
                    trajectory=xsd.trajectoryType("cartesian"),
                )
            ],
            sequenceParameters=xsd.sequenceParametersType(TR=[1.25], TE=[1.1], flipAngle_deg=[12.0]),
        )
    )
    read, phase, normal = oblique_axes()
    kx, ky = (np.arange(n) - n // 2 for n in (width, height))
    with ismrmrd.Dataset(args.output, "dataset", mode="w") as dataset:
        dataset.write_xml_header(xml.encode())
        scans = 0
        for number, place in enumerate(OBLIQUE_ORDER):
            position, pixel, _ = oblique_slice(place)
            offset = (pixel - OBLIQUE_MATRIX // 2) / OBLIQUE_MATRIX
            for frame in range(args.frames):
                # Each frame has a brightness of its own.
                lines = (1 + place + 0.25 * frame) * np.exp(-2j * np.pi * (ky[:, None] * offset[1] + kx * offset[0]))
                for line in range(height):
                    acquisition = ismrmrd.Acquisition.from_array(lines[line][np.newaxis].astype(np.complex64))
                    acquisition.center_sample = width // 2
                    acquisition.idx.kspace_encode_step_1 = line
                    acquisition.idx.slice = number
                    setattr(acquisition.idx, counter, frame)
                    acquisition.scan_counter = scans
                    acquisition.measurement_uid = 7
                    # 2.5 ms a tick, from 10:20:30 on.
                    time = (number * args.frames + frame) * OBLIQUE_FRAME + line * OBLIQUE_FRAME / height
                    acquisition.acquisition_time_stamp = int((37230000 + time) / 2.5)
                    acquisition.position[:] = position
                    acquisition.read_dir[:], acquisition.phase_dir[:], acquisition.slice_dir[:] = read, phase, normal
                    if line == height - 1:
                        acquisition.set_flag(getattr(ismrmrd, "ACQ_LAST_IN_" + counter.upper()))
                    dataset.append_acquisition(acquisition)
                    scans += 1


def dicom_files(folder):
    import pathlib

    import pydicom

    sets = [pydicom.dcmread(name) for name in sorted(pathlib.Path(folder).rglob("*")) if name.is_file()]
    return sorted(sets, key=lambda d: (d.SeriesNumber, d.InstanceNumber))


def dicom_pixels(dataset):
    from pydicom.pixels import apply_rescale

    return apply_rescale(dataset.pixel_array, dataset)


def oblique_dicom(args):
    """DICOM of the scan: where pydicom finds the bright pixels, and what their values are."""
    sets = dicom_files(args.folder)
    slices = len(OBLIQUE_ORDER)
    frames = len(sets) // slices
    far = wrong = times = triggers = 0.0
    for n, d in enumerate(sets):
        place, frame = divmod(n, frames)
        image = dicom_pixels(d)
        y, x = np.unravel_index(np.argmax(image), image.shape)
        row, column = np.array(d.ImageOrientationPatient).reshape(2, 3).astype(float)
        spacing = [float(v) for v in d.PixelSpacing]
        found = np.array(d.ImagePositionPatient, dtype=float) + x * spacing[1] * row + y * spacing[0] * column
        far = max(far, np.linalg.norm(found - oblique_slice(place)[2]))
        wrong = max(wrong, abs(image[y, x] - (1 + place + 0.25 * frame)))
        start = 30e3 + OBLIQUE_ORDER.index(place) * frames * OBLIQUE_FRAME  # ms after 10:20
        times = max(times, abs(float(d.AcquisitionTime) * 1e3 - 102000e3 - start - frame * OBLIQUE_FRAME))
        if "TriggerTime" in d:
            triggers = max(triggers, abs(float(d.TriggerTime) - frame * OBLIQUE_FRAME))
    first = sets[0]
    report(
        gated=all("TriggerTime" in d and d.ScanOptions == "CG" for d in sets),
        triggers=triggers,
        files=len(sets),
        series=len({d.SeriesInstanceUID for d in sets}),
        studies=len({d.StudyInstanceUID for d in sets}),
        instances=len({d.SOPInstanceUID for d in sets}),
        slopes=len({d.RescaleSlope for d in sets}),
        slope=float(first.RescaleSlope),
        rows=first.Rows,
        thickness=float(first.SliceThickness),
        between=float(first.SpacingBetweenSlices),
        repetition_time=float(first.RepetitionTime),
        temporal_resolution=float(first.TemporalResolution),
        names=first.PatientName == "Doe^Jane" and first.PatientBirthDate == "19610203" and first.StudyID == "STU0815",
        far=far,
        wrong=wrong,
        times=times,
    )


def oblique_nifti(args):
    """NIfTI of the scan: where nibabel finds the bright pixels, by sform and by qform, and what their values are."""
    import nibabel

    image = nibabel.load(args.file)
    data = image.get_fdata().reshape(image.shape[:3] + (-1,))
    far = {"sform": 0.0, "qform": 0.0}
    wrong = 0.0
    for place in range(image.shape[2]):
        for frame in range(data.shape[3]):
            plane = data[:, :, place, frame]
            x, y = np.unravel_index(np.argmax(plane), plane.shape)
            truth = oblique_slice(place)[2] * [-1, -1, 1]
            for form, affine in (("sform", image.get_sform()), ("qform", image.get_qform())):
                far[form] = max(far[form], np.linalg.norm((affine @ [x, y, place, 1])[:3] - truth))
            wrong = max(wrong, abs(plane[x, y] - (1 + place + 0.25 * frame)))
    assert image.header["descrip"].item().startswith(b"gst-mri ")
    assert image.header.get_xyzt_units() == ("mm", "sec")
    report(
        **far,
        wrong=wrong,
        x=image.shape[0],
        y=image.shape[1],
        slices=image.shape[2],
        times=data.shape[3],
        step=image.header.get_zooms()[3] if len(image.shape) > 3 else 0,
        between=image.header.get_zooms()[2],
        forms=int(image.header["qform_code"]) * 10 + int(image.header["sform_code"]),
    )


def against_dcm2niix(args):
    """Our NIfTI against the one that dcm2niix made of our DICOM: voxel by voxel, each at its place in the patient."""
    import nibabel

    ours, theirs = nibabel.load(args.ours), nibabel.load(args.theirs)
    a, b = ours.get_fdata(), theirs.get_fdata()
    # From our indices to theirs: flips, and nothing else.
    to_theirs = np.linalg.inv(theirs.affine) @ ours.affine
    matrix = np.round(to_theirs[:3, :3])
    assert (matrix == np.diag(np.diag(matrix))).all() and (abs(np.diag(matrix)) == 1).all()
    shift = np.array([n - 1 if m < 0 else 0 for m, n in zip(np.diag(matrix), b.shape)])
    flipped = b[tuple(slice(None, None, int(m)) for m in np.diag(matrix))]
    report(
        matrix=abs(to_theirs[:3, :3] - matrix).max(),
        shift=abs(to_theirs[:3, 3] - shift).max(),
        same_shape=a.shape == b.shape,
        error=abs(a - flipped).max() / abs(a).max(),
    )


def dicom_uids(args):
    """Prints all UIDs of a folder, a line a file."""
    for d in dicom_files(args.folder):
        print(d.StudyInstanceUID, d.SeriesInstanceUID, d.SOPInstanceUID, d.FrameOfReferenceUID)


def dicom_against_images(args):
    """DICOM against the images that ismrmrdsink wrote of the same stream: largest error in units of the slope."""
    images = read_images(args.images)[:, 0]
    sets = dicom_files(args.folder)
    assert len(images) == len(sets)
    part = {"magnitude": abs, "phase": np.angle, "real": np.real, "imaginary": np.imag}[args.part]
    errors = [abs(dicom_pixels(d) - part(i)).max() / float(d.RescaleSlope) for i, d in zip(images, sets)]
    report(error=max(errors), signed=sets[0].PixelRepresentation)


def arrays_against_images(args):
    """Arrays of NumPy and BART against the images that ismrmrdsink wrote of the same stream."""
    images = read_images(args.images)
    array = np.load(args.name + ".npy")
    bart = read_cfl(args.name)
    bart = bart.reshape(bart.shape[:2] + (images.shape[1], len(images))).transpose(3, 2, 1, 0)
    same = array.dtype == images.dtype and np.array_equal(array, images)
    report(frames=len(images), npy=same, cfl=np.array_equal(bart, images), largest=abs(images).max())


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(required=True)

    def command(work, *arguments, **defaults):
        p = commands.add_parser(work.__name__.replace("_", "-"), help=work.__doc__)
        for name in arguments:
            p.add_argument(name)
        for name, value in defaults.items():
            p.add_argument("--" + name, type=type(value), default=value)
        p.set_defaults(work=work)

    command(from_bart, "trajectory", "samples", "output", matrix=128, oversampling=2, unit="cycles")
    command(against_bart, "images", "picture")
    command(against_disc, "images", "kspace")
    command(against_generator, "file", "images")
    command(make_cine, "output", matrix=128, oversampling=2, unit="normalised", frames=2, coils=8, spokes=201, averages=1)
    command(against_cine, "images", coils=8)
    command(make_lines, "output", "truth", way="plain")
    command(against_truth, "images", "truth")
    command(make_geometry, "output", geometry="phase-oversampling")
    command(against_sum, "file", "images")
    command(make_grappa, "output", reference="yes")
    command(against_discs, "images")
    command(against_whitened, "file", "images")
    command(against_points, "file", "images")
    command(against_sense, "file", "images", picture="")
    command(describe, "images", series=1)
    command(make_counted, "scan", "output")
    command(against_counted, "scan", "images")
    command(compare_raw, "file", "other")
    command(against_tool, "file", "images", "phantom")
    command(against_phantom, "file", "images")
    command(against_integers, "integers", "floats")
    command(make_oblique, "output", frames=3, counter="repetition")
    command(oblique_dicom, "folder")
    command(oblique_nifti, "file")
    command(against_dcm2niix, "ours", "theirs")
    command(dicom_uids, "folder")
    command(dicom_against_images, "folder", "images", part="magnitude")
    command(arrays_against_images, "name", "images")
    args = parser.parse_args()
    args.work(args)
    return 0


if __name__ == "__main__":
    sys.exit(main())
