#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Writes score.txt: the score of two made-up series, computed with numpy and scikit-image alone.

Versions the committed file was made with: python 3.11, numpy 2.4.6, scikit-image 0.26.0.
    python3 -m venv venv && venv/bin/pip install numpy==2.4.6 scikit-image==0.26.0
    venv/bin/python score.py > score.txt
SSIM: structural_similarity with its defaults (win_size 7, uniform window, use_sample_covariance=True), data_range=1.
test_score.cpp makes the same series from the same generator.
"""
import numpy as np
from skimage.metrics import (mean_squared_error, normalized_root_mse, peak_signal_noise_ratio,
                             structural_similarity)


def uniform(seed, count):
    """Numerical Recipes' linear congruential generator, the upper 24 bits as a float in 0..1."""
    out = np.empty(count, np.float32)
    state = seed
    for i in range(count):
        state = (1664525 * state + 1013904223) & 0xFFFFFFFF
        out[i] = np.float32(state >> 8) / np.float32(16777216)
    return out


def series(frames, height, width, gain, offset, noise):
    u = uniform(1, frames * height * width).reshape(frames, height, width)
    v = uniform(2, frames * height * width).reshape(frames, height, width)
    y, x = np.mgrid[:height, :width]
    truth = np.empty_like(u)
    for t in range(frames):
        disc = (x - width // 2 - 3 * t) ** 2 + (y - height // 2 + t) ** 2 < (width // 4) ** 2
        truth[t] = np.float32(0.2) + np.float32(0.6) * disc + np.float32(0.125) * u[t]
    image = np.float32(gain) * truth + np.float32(offset) + np.float32(noise) * (v - np.float32(0.5))
    return truth, image


def centre(a, size):
    h, w = a.shape[1:]
    ch, cw = min(size, h), min(size, w)
    y, x = h // 2 - ch // 2, w // 2 - cw // 2
    return a[:, y:y + ch, x:x + cw]


def report(name, truth, image):
    truth, image = centre(truth, 128).astype(np.float64), centre(image, 128).astype(np.float64)
    design = np.stack([image.ravel(), np.ones(image.size)], axis=1)
    (a, b), *_ = np.linalg.lstsq(design, truth.ravel(), rcond=None)
    deviation = truth.std(axis=0)
    moving = deviation > np.percentile(deviation, 99.5) / 4
    print(f"{name}.gain {a:.12g}\n{name}.offset {b:.12g}\n{name}.moving_pixels {moving.sum()}")
    for kind, x in (("fitted", np.clip(a * image + b, 0, 1)), ("raw", np.clip(image, 0, 1))):
        frames = [structural_similarity(t, i, data_range=1) for t, i in zip(truth, x)]
        print(f"{name}.{kind}.mse {mean_squared_error(truth, x):.12g}")
        print(f"{name}.{kind}.nrmse {normalized_root_mse(truth, x):.12g}")
        print(f"{name}.{kind}.psnr {peak_signal_noise_ratio(truth, x, data_range=1):.12g}")
        print(f"{name}.{kind}.ssim {np.mean(frames):.12g}")
        print(f"{name}.{kind}.ssim_frame1 {frames[1]:.12g}")
        print(f"{name}.{kind}.psnr_frame1 {peak_signal_noise_ratio(truth[1], x[1], data_range=1):.12g}")
        error = ((x - truth) ** 2)[:, moving]
        print(f"{name}.{kind}.psnr_moving {-10 * np.log10(error.mean()):.12g}")


report("large", *series(4, 140, 151, 0.625, 0.125, 0.25))
report("small", *series(5, 33, 40, 1.5, -0.25, 0.75))
