#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""PyTorch's own files for the tests, and PyTorch's own view of ours.

    torch_files.py modules FOLDER      modules as TorchScript, a torch.export program, a state dict
    torch_files.py floats FOLDER       one state dict in each floating-point type and kind of file
    torch_files.py checkpoints FOLDER  training scripts' checkpoints, NAME-PROTOCOL.pth, old ones, their values
    torch_files.py compiled FOLDER     a package that AOTInductor compiled (exit status 3: it cannot here)
    torch_files.py same A.pth B.safetensors     tensors by name, bit for bit
    torch_files.py runs MODULE.pt T H W         loads and runs a TorchScript module of one image channel
    torch_files.py evaluate MODULE.pt IN.safetensors OUT.safetensors   runs it on the tensors, in order of names;
                                       its output as "y", beside its parameters
"""
import collections
import pathlib
import sys
import warnings

import torch

warnings.filterwarnings("ignore")


class Frame(torch.nn.Module):
    def forward(self, x):
        return 2 * x + 1


class Window(torch.nn.Module):
    def forward(self, x):
        return x - x.mean(2, keepdim=True)


class Turn(torch.nn.Module):
    """Times i, as two channels."""

    def forward(self, x):
        return torch.stack([-x[:, 1], x[:, 0]], dim=1)


class TurnComplex(torch.nn.Module):
    def forward(self, x):
        return x * 1j


class Double(torch.nn.Module):
    def forward(self, x):
        return x.double()


class Pair(torch.nn.Module):
    def forward(self, x):
        return x, x


class Half(torch.nn.Module):
    """Every second pixel of each axis."""

    def forward(self, x):
        return x[..., ::2, ::2]


def modules(folder):
    folder = pathlib.Path(folder)

    def script(name, module, example):
        torch.jit.trace(module.eval(), example).save(folder / name)

    image = torch.rand(1, 1, 4, 6)
    script("frame.pt", Frame(), image)
    script("window.pt", Window(), torch.rand(1, 1, 4, 4, 6))
    script("turn.pt", Turn(), torch.rand(1, 2, 4, 6))
    script("complex64.pt", TurnComplex(), torch.rand(4, 6, dtype=torch.complex64))
    script("double.pt", Double(), image)
    script("pair.pt", Pair(), image)
    script("half.pt", Half(), image)
    torch.export.save(torch.export.export(Frame(), (image,)), folder / "exported.pt2")
    state = collections.OrderedDict(torch.nn.BatchNorm2d(3).state_dict())  # with a counter beside its numbers
    state["transposed"] = torch.arange(6, dtype=torch.float64).reshape(2, 3).t()
    torch.save({"state_dict": state, "epoch": 7}, folder / "state.pth")


def floats(folder):
    """TYPE.zip.pth, TYPE.legacy.pth and TYPE.safetensors; each with its values as float32 beside it."""
    from safetensors.torch import save_file

    folder = pathlib.Path(folder)
    for dtype in (torch.float16, torch.bfloat16, torch.float64, torch.float32):
        info = torch.finfo(dtype)
        small = max(info.tiny, torch.finfo(torch.float32).tiny)
        edges = torch.tensor([0.0, -0.0, small, -small / 4, info.eps, 65504.0], dtype=torch.float64)
        state = {
            "edges": edges.to(dtype),
            "many": (torch.randn(7, 5, dtype=torch.float64) * torch.logspace(-9, 4, 5, dtype=torch.float64)).to(dtype),
            "transposed": torch.randn(3, 4).t().to(dtype),
            "num_batches_tracked": torch.tensor(3),
            "mask": torch.tensor([True, False]),
        }
        stem = str(dtype).split(".")[1]
        torch.save(state, folder / f"{stem}.zip.pth")
        torch.save(state, folder / f"{stem}.legacy.pth", _use_new_zipfile_serialization=False)
        save_file({k: v.contiguous() for k, v in state.items()}, folder / f"{stem}.safetensors")
        save_file({k: state[k].float().contiguous() for k in ("edges", "many", "transposed")},
                  folder / f"{stem}.reference")
    torch.save({"large": torch.tensor([1e39], dtype=torch.float64)}, folder / "large.pth")
    torch.save({"complex": torch.tensor([1j])}, folder / "complex.pth")


class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv3d(1, 2, 3)
        self.norm = torch.nn.BatchNorm3d(2)
        self.scale = torch.nn.Parameter(torch.randn(3))


def checkpoints(folder):
    import argparse

    import numpy

    folder = pathlib.Path(folder)
    network = Network()
    optimizer = torch.optim.Adam(network.parameters())
    sum(p.sum() for p in network.parameters()).backward()
    optimizer.step()
    state = network.state_dict()
    prefixed = collections.OrderedDict(("model._orig_mod." + k, v) for k, v in state.items())
    rest = {
        "args": argparse.Namespace(path=pathlib.Path("a")), "best": numpy.float64(1), "array": numpy.arange(3.0),
        "random": torch.get_rng_state(), "device": torch.device("cpu"), "dtype": torch.float16,
        "size": torch.Size([1, 2]), "optimizer": optimizer.state_dict(),
        "schedule": torch.optim.lr_scheduler.StepLR(optimizer, 1).state_dict(),
    }
    save = {
        "lightning": {**rest, "state_dict": prefixed},
        "average": {**rest, "ema": torch.optim.swa_utils.AveragedModel(network).state_dict()},
        "parallel": torch.nn.DataParallel(network).state_dict(),
    }
    for name, thing in save.items():
        for protocol in range(2, 6):
            torch.save(thing, folder / f"{name}-{protocol}.pth", pickle_protocol=protocol)
            torch.save(thing, folder / f"old-{name}-{protocol}.pth", pickle_protocol=protocol,
                       _use_new_zipfile_serialization=False)
    torch.save({"params": dict(network.named_parameters())}, folder / "parameters.pth")
    torch.save(network, folder / "whole.pth")
    torch.save({**state, "sparse": torch.eye(3).to_sparse()}, folder / "sparse.pth")
    with open(folder / "reference", "wb") as file:  # name, number of values, values
        for name, tensor in state.items():
            if tensor.dtype == torch.float32:
                file.write(f"{name} {tensor.numel()}\n".encode() + tensor.numpy().tobytes())


def compiled(folder):
    try:
        program = torch.export.export(Frame(), (torch.rand(1, 1, 8, 12),))
        torch._inductor.aoti_compile_and_package(program, package_path=str(pathlib.Path(folder) / "compiled.pt2"))
    except Exception as e:  # no compiler, or none that it can use
        print(e)
        sys.exit(3)


def same(ours, reference):
    from safetensors.torch import load_file

    a = torch.load(ours, weights_only=True)
    b = load_file(reference)
    assert isinstance(a, collections.OrderedDict), type(a)
    assert set(a) == set(b), set(a) ^ set(b)
    for name in b:
        assert torch.equal(a[name], b[name]), name
    assert len(a) > 0


def runs(path, t, h, w):
    module = torch.jit.load(path)
    x = torch.rand(1, 1, int(t), int(h), int(w))
    y = module(x)
    assert y.shape == x.shape and not torch.equal(x, y), y.shape
    assert "conv1.weight" in module.state_dict(), list(module.state_dict())


def evaluate(path, inputs, output):
    from safetensors.torch import load_file, save_file

    module = torch.jit.load(path)
    tensors = load_file(inputs)
    with torch.no_grad():
        y = module(*(tensors[name] for name in sorted(tensors)))
    save_file({"y": y.contiguous(), **{k: v.contiguous() for k, v in module.state_dict().items()}}, output)


if __name__ == "__main__":
    {"modules": modules, "floats": floats, "checkpoints": checkpoints, "compiled": compiled, "same": same, "runs": runs,
     "evaluate": evaluate}[sys.argv[1]](*sys.argv[2:])
