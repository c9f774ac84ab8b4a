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
    def __init__(self, filters, middle, bottleneck, channels, leak, up_relu):
        super().__init__()
        conv = lambda i, o: nn.Conv3d(i, o, kernel_size=3, padding=1)
        up = lambda i, o: nn.ConvTranspose3d(i, o, kernel_size=3, stride=2, padding=1, output_padding=1)
        f, g, h = filters, middle, bottleneck
        self.conv1, self.conv1_1 = conv(channels, f), conv(f, f)
        self.conv2, self.conv2_2 = conv(f, g), conv(g, g)
        self.conv3, self.conv3_3 = conv(g, h), conv(h, h)
        self.convT1 = up(h, g)
        self.conv4, self.conv4_4 = conv(2 * g, g), conv(g, g)
        self.convT2 = up(g, f)
        self.conv5, self.conv5_5 = conv(2 * f, f), conv(f, f)
        self.conv6 = conv(f, 1)
        self.act = nn.LeakyReLU(leak) if leak else nn.ReLU()
        self.up_act = self.act if up_relu else nn.Identity()

    def forward(self, x, magnitude):
        a = self.act
        l1 = a(self.conv1_1(a(self.conv1(x))))
        l2 = a(self.conv2_2(a(self.conv2(F.max_pool3d(l1, 2, 2)))))
        l3 = a(self.conv3_3(a(self.conv3(F.max_pool3d(l2, 2, 2)))))
        u2 = torch.cat([self.up_act(self.convT1(l3)), l2], dim=1)
        u2 = a(self.conv4_4(a(self.conv4(u2))))
        u1 = torch.cat([self.up_act(self.convT2(u2)), l1], dim=1)
        u1 = a(self.conv5_5(a(self.conv5(u1))))
        return torch.relu(self.conv6(u1) + magnitude)


def pad(x, to=4):
    """Repeats the last frame, row and column up to multiples of four."""
    extra = [(-n) % to for n in x.shape]
    return F.pad(x[None, None], (0, extra[2], 0, extra[1], 0, extra[0]), mode="replicate")[0, 0]


def make(path, seed, shape, filters, middle, bottleneck, mean, leak, up_relu):
    torch.manual_seed(seed)
    net = UNet(filters, middle, bottleneck, 2 if mean else 1, leak, up_relu)
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
    print("torch", torch.__version__)
