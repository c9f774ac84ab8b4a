#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Golden vectors for the CRNN and for state dicts of PyTorch before 1.6, by an independent definition in python torch.

Writes tests/golden/crnn/: small.safetensors (weights under their names, and golden.image, golden.k0 [T, H, W, 2],
golden.mask [T, H, W], golden.hard and golden.soft [T, H, W, 2]), seed.safetensors (the seed's cell and its normalisations,
two layers recurrent over iterations, golden.soft) and small.pth (the same weights as an old state dict, with a
view, a transposed tensor, double precision and a shared storage beside them). The committed files were made with
python 3.11, torch 2.15.0, numpy 2.4.6 and safetensors 0.8.0:

    python3 tests/golden/make_crnn_golden.py tests/golden/crnn
"""
import collections
import pathlib
import sys

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

FILTERS, ITERATIONS, TAU = 3, 3, 0.2


def weights():
    torch.manual_seed(5)
    out = collections.OrderedDict()

    def layer(name, i, o):
        out[name + ".weight"] = torch.randn(o, i, 3, 3) * (0.7 / (9 * i) ** 0.5)
        out[name + ".bias"] = torch.randn(o) * 0.1

    layer("bcrnn.CRNN_model.i2h", 2, FILTERS)
    layer("bcrnn.CRNN_model.h2h", FILTERS, FILTERS)
    layer("bcrnn.CRNN_model.ih2ih", FILTERS, FILTERS)
    for n in "123":
        layer(f"conv{n}_x", FILTERS, FILTERS)
        layer(f"conv{n}_h", FILTERS, FILTERS)
    layer("conv4_x", FILTERS, 2)
    return out


def conv(w, name, x):
    return F.conv2d(x, w[name + ".weight"], w[name + ".bias"], padding=1)


def bcrnn(w, x, previous):
    """One frame after the other, as in the equations: nothing is shared between the directions."""
    total = [0] * len(x)
    for order in (range(len(x)), reversed(range(len(x)))):
        hidden = torch.zeros(1, FILTERS, *x.shape[-2:])
        for t in order:
            hidden = torch.relu(
                conv(w, "bcrnn.CRNN_model.i2h", x[t : t + 1])
                + conv(w, "bcrnn.CRNN_model.h2h", hidden)
                + conv(w, "bcrnn.CRNN_model.ih2ih", previous[t : t + 1])
            )
            total[t] = total[t] + hidden
    return torch.cat(total)


def crnn(w, image, k0, mask, tau):
    shape = (len(image), FILTERS, *image.shape[-2:])
    h = [torch.zeros(shape) for _ in range(4)]
    for _ in range(ITERATIONS):
        x = torch.stack([image.real, image.imag], dim=1)
        h[0] = bcrnn(w, x, h[0])
        for n in (1, 2, 3):
            h[n] = torch.relu(conv(w, f"conv{n}_x", h[n - 1]) + conv(w, f"conv{n}_h", h[n]))
        x = x + conv(w, "conv4_x", h[3])
        k = torch.fft.fft2(torch.complex(x[:, 0], x[:, 1]), norm="ortho")
        measured = k0 if tau is None else (k + tau * k0) / (1 + tau)
        image = torch.fft.ifft2((1 - mask) * k + mask * measured, norm="ortho")
    return image


SEED_FILTERS, SEED_ITERATIONS, SEED_LAYERS = 4, 4, 2


def seed_weights():
    torch.manual_seed(6)
    out = collections.OrderedDict()

    def layer(name, i, o):
        out[name + ".weight"] = torch.randn(o, i, 3, 3) * (0.7 / (9 * i) ** 0.5)
        out[name + ".bias"] = torch.randn(o) * 0.1

    def norm(name, channels):
        out[name + ".weight"] = 0.5 + 0.2 * torch.rand(channels)
        out[name + ".bias"] = 0.1 * torch.randn(channels)
        out[name + ".running_mean"] = torch.full((channels,), 3.0)  # stored statistics must not count
        out[name + ".running_var"] = torch.full((channels,), 7.0)

    f = SEED_FILTERS
    layer("bcrnn.CRNN_model.iteration_to_hidden", 2, f)
    layer("bcrnn.CRNN_model.hidden_to_hidden", f, f)
    layer("bcrnn.CRNN_model.iterationHidden_to_iterationHidden", f, f)
    norm("bcrnn.CRNN_model.bn", f)
    for n in range(1, SEED_LAYERS + 1):
        layer(f"conv{n}_x", f, f)
        layer(f"conv{n}_h", f, f)
    layer(f"conv{SEED_LAYERS + 1}_x", f, 2)
    norm("bn", f)
    norm("bn3d", 2)
    return out


def normalise(w, name, x):
    """Over frames and pixels, with the statistics of x itself."""
    mean = x.mean(dim=(0, 2, 3), keepdim=True)
    variance = ((x - mean) ** 2).mean(dim=(0, 2, 3), keepdim=True)
    gain, offset = (w[f"{name}.{part}"].reshape(1, -1, 1, 1) for part in ("weight", "bias"))
    return gain * (x - mean) / torch.sqrt(variance + 1e-5) + offset


def seed_crnn(w, image, k0, mask, tau):
    p = "bcrnn.CRNN_model."
    shape = (len(image), SEED_FILTERS, *image.shape[-2:])
    h = [torch.zeros(shape, dtype=torch.float64) for _ in range(SEED_LAYERS + 1)]
    for _ in range(SEED_ITERATIONS):
        x = torch.stack([image.real, image.imag], dim=1)
        total = torch.zeros(shape, dtype=torch.float64)
        for order in (range(len(x)), reversed(range(len(x)))):
            hidden = torch.zeros(1, *shape[1:], dtype=torch.float64)
            for t in order:
                hidden = torch.relu(
                    conv(w, p + "iteration_to_hidden", x[t : t + 1])
                    + conv(w, p + "hidden_to_hidden", hidden)
                    + conv(w, p + "iterationHidden_to_iterationHidden", h[0][t : t + 1])
                )
                hidden = normalise(w, p + "bn", hidden)
                total[t] += hidden[0]
        h[0] = total
        for n in range(1, SEED_LAYERS + 1):
            h[n] = normalise(w, "bn", torch.relu(conv(w, f"conv{n}_x", h[n - 1]) + conv(w, f"conv{n}_h", h[n])))
        x = x + conv(w, f"conv{SEED_LAYERS + 1}_x", h[-1])
        k = torch.fft.fft2(torch.complex(x[:, 0], x[:, 1]), norm="ortho")
        image = torch.fft.ifft2((1 - mask) * k + mask * (k + tau * k0) / (1 + tau), norm="ortho")
    return image


if __name__ == "__main__":
    out = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent / "crnn")
    out.mkdir(parents=True, exist_ok=True)
    w = weights()
    truth = torch.rand(3, 10, 8) * torch.exp(2j * torch.rand(3, 10, 8))
    mask = (torch.rand(3, 10, 1) < 0.5).float().expand(3, 10, 8).contiguous()
    k0 = mask * torch.fft.fft2(truth, norm="ortho")
    image = torch.fft.ifft2(k0, norm="ortho")
    real = lambda z: torch.view_as_real(z).contiguous()
    golden = {
        "golden.image": real(image),
        "golden.k0": real(k0),
        "golden.mask": mask,
        "golden.hard": real(crnn(w, image, k0, mask, None)),
        "golden.soft": real(crnn(w, image, k0, mask, TAU)),
    }
    save_file({**w, **golden}, out / "small.safetensors", {"network": "crnn"})

    old = collections.OrderedDict(w)
    matrix = torch.arange(6, dtype=torch.float64).reshape(2, 3)
    old["extra.transposed"] = matrix.t()
    line = torch.arange(10, dtype=torch.float32)
    old["extra.view"] = line[3:7]
    old["extra.whole"] = line
    torch.save(old, out / "small.pth", _use_new_zipfile_serialization=False)

    # In double precision: what differs from it is the product's own rounding.
    w = seed_weights()
    double = {name: tensor.double() for name, tensor in w.items()}
    soft = seed_crnn(double, image.to(torch.complex128), k0.to(torch.complex128), mask.double(), TAU)
    golden = {
        "golden.image": real(image),
        "golden.k0": real(k0),
        "golden.mask": mask,
        "golden.soft": real(soft).float(),
    }
    save_file({**w, **golden}, out / "seed.safetensors", {"network": "crnn"})
    print("torch", torch.__version__)
