#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Files of other programs for the tests, and what those programs make of them.

Needs numpy, h5py and ismrmrd. Each command prints the numbers that a test holds against its bounds, one "name value" a line.
"""
import argparse
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


def write_radial(name, samples, trajectory, matrix, oversampling, unit, fov=300.0):
    """samples: [frame][coil][spoke][sample]; trajectory: [frame][spoke][sample][2] in cycles per field of view of the image,
    which is left out with the unit "none"."""
    frames, _, spokes, length = samples.shape
    encoded = matrix * oversampling
    # Cycles per encoded field of view, which is `oversampling` times as wide, or parts of the encoded matrix.
    factor = {"cycles": oversampling, "normalised": oversampling / encoded, "recon-cycles": 1.0, "none": None}[unit]
    with ismrmrd.Dataset(name, "dataset", mode="w") as dataset:
        dataset.write_xml_header(header(matrix, oversampling, fov, "radial", frames, spokes).encode())
        for f in range(frames):
            for s in range(spokes):
                data = np.ascontiguousarray(samples[f, :, s], dtype=np.complex64)
                if factor is None:
                    acquisition = ismrmrd.Acquisition.from_array(data)
                else:
                    positions = np.ascontiguousarray(trajectory[f, s] * factor, dtype=np.float32)
                    acquisition = ismrmrd.Acquisition.from_array(data, positions)
                acquisition.center_sample = length // 2
                acquisition.idx.kspace_encode_step_1 = s
                acquisition.idx.repetition = f
                acquisition.scan_counter = f * spokes + s
                if s == spokes - 1:
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
    write_radial(args.output, samples, trajectory, matrix, args.oversampling, args.unit)


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
    command(make_cine, "output", matrix=128, oversampling=2, unit="normalised", frames=2, coils=8, spokes=201)
    command(against_cine, "images", coils=8)
    command(describe, "images", series=1)
    args = parser.parse_args()
    args.work(args)
    return 0


if __name__ == "__main__":
    sys.exit(main())
