#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Golden vectors for the residual 3D U-Net: an independent definition in python torch.

Writes tests/golden/unet/*.safetensors: the weights under their names, and `golden.input` [T, H, W] and `golden.output`
[T, H, W], float32 on the CPU. The committed files were made with python 3.11, torch 2.15.0, numpy 2.4.6 and
safetensors 0.8.0:

    python3 tests/golden/make_unet_golden.py tests/golden/unet
"""
import pathlib
import sys

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn


class UNet(nn.Module):
    def __init__(self, filters, middle, bottleneck, channels, leak, up_relu, convolutions):
        super().__init__()
        up = lambda i, o: nn.ConvTranspose3d(i, o, kernel_size=3, stride=2, padding=1, output_padding=1)
        f, g, h = filters, middle, bottleneck
        self.names = {}
        self.level(1, channels, f, convolutions)
        self.level(2, f, g, convolutions)
        self.level(3, g, h, convolutions)
        self.convT1 = up(h, g)
        self.level(4, 2 * g, g, convolutions)
        self.convT2 = up(g, f)
        self.level(5, 2 * f, f, convolutions)
        self.conv6 = nn.Conv3d(f, 1, kernel_size=3, padding=1)
        self.act = nn.LeakyReLU(leak) if leak else nn.ReLU()
        self.up_act = self.act if up_relu else nn.Identity()

    def level(self, n, i, o, convolutions):
        self.names[n] = [f"conv{n}", f"conv{n}_{n}", f"conv{n}_{n}_3", f"conv{n}_{n}_4"][:convolutions]
        for name in self.names[n]:
            setattr(self, name, nn.Conv3d(i, o, kernel_size=3, padding=1))
            i = o

    def run(self, n, x):
        for name in self.names[n]:
            x = self.act(getattr(self, name)(x))
        return x

    def forward(self, x, magnitude):
        l1 = self.run(1, x)
        l2 = self.run(2, F.max_pool3d(l1, 2, 2))
        l3 = self.run(3, F.max_pool3d(l2, 2, 2))
        u2 = self.run(4, torch.cat([self.up_act(self.convT1(l3)), l2], dim=1))
        u1 = self.run(5, torch.cat([self.up_act(self.convT2(u2)), l1], dim=1))
        return torch.relu(self.conv6(u1) + magnitude)


def pad(x, to=4):
    """Repeats the last frame, row and column up to multiples of four."""
    extra = [(-n) % to for n in x.shape]
    return F.pad(x[None, None], (0, extra[2], 0, extra[1], 0, extra[0]), mode="replicate")[0, 0]


def make(path, seed, shape, filters, middle, bottleneck, mean, leak, up_relu, convolutions=2):
    torch.manual_seed(seed)
    net = UNet(filters, middle, bottleneck, 2 if mean else 1, leak, up_relu, convolutions)
    x = torch.rand(shape)
    full = pad(x)
    if mean:  # over the frames that there are, not over the repeated ones
        average = pad(x.mean(0, keepdim=True).expand_as(x).contiguous())
        channels = torch.stack([full - average, average])
    else:
        channels = full[None]
    with torch.no_grad():
        y = net(channels[None], full[None, None])[0, 0, : shape[0], : shape[1], : shape[2]]
    tensors = {name: value.detach().contiguous() for name, value in net.state_dict().items()}
    tensors["golden.input"] = x.contiguous()
    tensors["golden.output"] = y.contiguous()
    metadata = {
        "network": "unet3d",
        "filters": str(filters),
        "middle": str(middle),
        "bottleneck": str(bottleneck),
        "convolutions": str(convolutions),
        "leak": str(leak),
        "up-relu": "true" if up_relu else "false",
        "input": "difference+mean" if mean else "magnitude",
    }
    save_file(tensors, path, metadata)


if __name__ == "__main__":
    out = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent / "unet")
    out.mkdir(parents=True, exist_ok=True)
    make(out / "seed.safetensors", 1, (8, 12, 16), 3, 6, 12, False, 0.0, False)
    make(out / "figure.safetensors", 2, (7, 10, 9), 2, 4, 16, True, 0.1, True)
    make(out / "ucl.safetensors", 3, (5, 8, 11), 2, 3, 5, False, 0.1, False)  # filters in no simple ratio
    make(out / "one.safetensors", 4, (4, 8, 8), 3, 4, 6, False, 0.0, True, 1)
    make(out / "three.safetensors", 5, (4, 9, 8), 2, 3, 4, True, 0.0, False, 3)
    make(out / "four.safetensors", 6, (8, 4, 8), 2, 3, 4, False, 0.1, False, 4)
    print("torch", torch.__version__)
