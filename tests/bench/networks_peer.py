#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The networks of bench_networks in python's PyTorch, written as fast as is usual there: channels-last, no gradients,
what does not depend on the CRNN's direction computed once.

    networks_peer.py unet|causal-unet|crnn FILE.safetensors THREADS SECONDS ITERATIONS float32|bfloat16|both

Prints a line for each run: who, precision, seconds, processor's seconds, peak MB, largest difference from ours over the largest value; or
who, precision and the reason why there is none.
"""
import statistics
import sys
import time

import torch
import torch.nn.functional as F
from safetensors.torch import load_file

kind, path, threads, budget, iterations, precision = sys.argv[1:7]
budget, iterations = float(budget), int(iterations)
torch.set_num_threads(int(threads))
torch.set_grad_enabled(False)
file = load_file(path)
bench = {name[6:]: tensor for name, tensor in file.items() if name.startswith("bench.")}
weights = {name: tensor for name, tensor in file.items() if not name.startswith("bench.")}


class Unet(torch.nn.Module):
    def __init__(self, dtype):
        super().__init__()
        for layer in sorted({name.rsplit(".", 1)[0] for name in weights}):
            w, b = (weights[f"{layer}.{part}"] for part in ("weight", "bias"))
            if layer.startswith("convT"):
                made = torch.nn.ConvTranspose3d(w.shape[0], w.shape[1], 3, stride=2, padding=1, output_padding=1)
            else:
                made = torch.nn.Conv3d(w.shape[1], w.shape[0], 3, padding=1)
            made.load_state_dict({"weight": w, "bias": b})
            setattr(self, layer, made)
        self.to(dtype=dtype, memory_format=torch.channels_last_3d)
        self.dtype = dtype

    def pair(self, a, b, x):
        return F.relu(b(F.relu(a(x))))

    def forward(self, image):
        x = image.to(self.dtype)
        one = self.pair(self.conv1, self.conv1_1, x)
        two = self.pair(self.conv2, self.conv2_2, F.max_pool3d(one, 2))
        three = self.pair(self.conv3, self.conv3_3, F.max_pool3d(two, 2))
        x = self.pair(self.conv4, self.conv4_4, torch.cat([self.convT1(three), two], 1))
        x = self.pair(self.conv5, self.conv5_5, torch.cat([self.convT2(x), one], 1))
        return F.relu(self.conv6(x).float() + image)


class CausalUnet(torch.nn.Module):
    """A frame [1, 2, H, W] and what the layers over time remember, [2, C, H, W] each, to an image and new memories."""

    def __init__(self, dtype):
        super().__init__()
        for name, tensor in weights.items():
            tensor = tensor.to(dtype)
            if tensor.dim() == 5 and name.startswith("conv"):
                # Over three frames it is a convolution of their channels side by side.
                tensor = tensor.transpose(1, 2).flatten(1, 2)
            self.register_buffer(name.replace(".", "_"), tensor.to(memory_format=torch.channels_last))
        self.dtype = dtype

    def frame(self, layer, x):
        return F.conv2d(x, getattr(self, layer + "_weight"), padding=1)

    def pair(self, first, second, x, memory):
        x = F.relu(self.frame(first, x))
        return F.relu(self.frame(second, torch.cat([*memory, x], 1))), [memory[1], x]

    def up(self, layer, x):
        return F.conv_transpose2d(x, getattr(self, layer + "_weight"), stride=2)

    def forward(self, image, m1, m2, m3, m4, m5):
        one, m1 = self.pair("conv1", "conv1_1", image.to(self.dtype), m1)
        two, m2 = self.pair("conv2", "conv2_2", F.max_pool2d(one, 2), m2)
        x, m3 = self.pair("conv3", "conv3_3", F.max_pool2d(two, 2), m3)
        x, m4 = self.pair("conv4", "conv4_4", torch.cat([self.up("convT1", x), two], 1), m4)
        x, m5 = self.pair("conv5", "conv5_5", torch.cat([self.up("convT2", x), one], 1), m5)
        return F.relu(self.frame("conv6", x).float() + image.sum(1, True)), m1, m2, m3, m4, m5

    def first(self, image):
        """The memories before a first frame: it is as if that had always been there."""
        memories = []
        zeros = lambda channels, level: torch.zeros(
            1, channels, image.shape[2] >> level, image.shape[3] >> level, dtype=self.dtype
        ).to(memory_format=torch.channels_last)
        filters = self.conv1_weight.shape[0]
        for channels, level in ((1, 0), (2, 1), (4, 2), (2, 1), (1, 0)):
            memories.append([zeros(channels * filters, level)] * 2)
        for layer in range(5):  # each layer's first input depends on the memories of those before it
            memories[layer] = [self.forward(image, *memories)[layer + 1][1]] * 2
        return memories


class CrnnIteration(torch.nn.Module):
    """One iteration without its data consistency: image channels [T, 2, H, W] and hidden states to a step and new ones."""

    def __init__(self, dtype):
        super().__init__()
        for name, tensor in weights.items():
            layer = name.replace("bcrnn.CRNN_model.", "").replace(".", "_")
            tensor = tensor.to(dtype)
            if tensor.dim() == 4:
                tensor = tensor.to(memory_format=torch.channels_last)
            self.register_buffer(layer, tensor)

    def conv(self, layer, x):
        return F.conv2d(x, getattr(self, layer + "_weight"), getattr(self, layer + "_bias"), padding=1)

    def forward(self, x, h0, h1, h2, h3):
        given = self.conv("i2h", x) + self.conv("ih2ih", h0)
        frames = len(x)
        total = [None] * frames
        for order in (range(frames), reversed(range(frames))):
            hidden = torch.zeros_like(given[:1])
            for t in order:
                hidden = F.relu(given[t : t + 1] + self.conv("h2h", hidden))
                total[t] = hidden if total[t] is None else total[t] + hidden
        h0 = torch.cat(total)
        h1 = F.relu(self.conv("conv1_x", h0) + self.conv("conv1_h", h1))
        h2 = F.relu(self.conv("conv2_x", h1) + self.conv("conv2_h", h2))
        h3 = F.relu(self.conv("conv3_x", h2) + self.conv("conv3_h", h3))
        return self.conv("conv4_x", h3).float(), h0, h1, h2, h3


def runner(dtype, compiled):
    if kind == "unet":
        model = Unet(dtype).eval()
        if compiled:
            model = torch.compile(model)
        image = bench["input"][None, None].contiguous(memory_format=torch.channels_last_3d)
        return lambda: model(image)[0, 0]
    if kind == "causal-unet":
        model = CausalUnet(dtype).eval()
        step = torch.compile(model) if compiled else model
        frames = bench["input"]
        mean = torch.zeros_like(frames[0])
        images = []
        for t, frame in enumerate(frames):
            mean = mean + (frame - mean) / min(t + 1, 20)
            images.append(torch.stack([frame - mean, mean])[None].contiguous(memory_format=torch.channels_last))
        memory = model.first(images[0])
        outputs = []
        for image in images:
            y, *memory = step(image, *memory)
            outputs.append(y[0, 0])
        state = [0, memory]

        def frame():
            _, *state[1] = step(images[state[0] % len(images)], *state[1])
            state[0] += 1
            return torch.stack(outputs) if state[0] == 1 else None

        return frame
    step = CrnnIteration(dtype).eval()
    filters = len(weights["bcrnn.CRNN_model.i2h.bias"])
    if compiled:
        step = torch.compile(step)
    image, k0 = (torch.view_as_complex(bench[name]) for name in ("input", "k0"))
    mask = bench["mask"]

    def run():
        x = image
        t, h, w = x.shape
        hidden = [torch.zeros(t, filters, h, w, dtype=dtype).to(memory_format=torch.channels_last) for _ in range(4)]
        for _ in range(iterations):
            channels = torch.view_as_real(x).permute(0, 3, 1, 2).to(dtype)
            change, *hidden = step(channels, *hidden)
            x = x + torch.view_as_complex(change.permute(0, 2, 3, 1).contiguous())
            k = torch.fft.fft2(x, norm="ortho")
            x = torch.fft.ifft2((1 - mask) * k + mask * k0, norm="ortho")
        return torch.view_as_real(x)

    return run


def peak_mb():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM:"))


for name in ("float32", "bfloat16") if precision == "both" else (precision,):
    for who in ("python-eager", "python-compiled"):
        try:
            if who == "python-compiled":
                import torch._inductor.config

                torch._inductor.config.freezing = True
            run = runner(getattr(torch, name), who == "python-compiled")
            with open("/proc/self/clear_refs", "w") as refs:
                refs.write("5")
            output = run()
            run() if who == "python-compiled" else None
            times, cpu_times = [], []
            end = time.monotonic() + budget
            while not times or (time.monotonic() + times[-1] < end and len(times) < 1000):
                begin, cpu_begin = time.perf_counter(), time.process_time()
                run()
                times.append(time.perf_counter() - begin)
                cpu_times.append(time.process_time() - cpu_begin)
            ours = bench[f"ours.{name}"]
            difference = ((output - ours).abs().max() / ours.abs().max()).item()
            print(who, name, statistics.median(times), statistics.median(cpu_times), peak_mb(), difference, flush=True)
        except Exception as e:  # no compiler, an operation that it does not know
            if who == "python-eager":
                raise
            print(who, name, str(e).strip().splitlines()[0][:160], flush=True)
