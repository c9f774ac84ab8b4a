#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Checkpoints as training scripts write them, by python's pickle module; neither torch nor numpy is needed.

    pickle_files.py FOLDER    pN.pth and oldN.pth of protocol N = 2 to 5 (zip, and as before PyTorch 1.6): a checkpoint
                              with all kinds of things beside the weights; choice.pth, nested.pth, ema.pth, module.pth,
                              twice.pth
"""
import argparse
import collections
import datetime
import decimal
import enum
import functools
import io
import os
import pathlib
import pickle
import struct
import sys
import types
import zipfile

# Just enough of torch's names for pickle to write what torch.save() writes.
torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
sys.modules["torch"], sys.modules["torch._utils"] = torch, utils


class FloatStorage:
    pass


class LongStorage:
    pass


def rebuild_tensor(*arguments):
    raise NotImplementedError


def rebuild_parameter(*arguments):
    raise NotImplementedError


for thing, module, name in ((FloatStorage, "torch", "FloatStorage"), (LongStorage, "torch", "LongStorage"),
                            (rebuild_tensor, "torch._utils", "_rebuild_tensor_v2"),
                            (rebuild_parameter, "torch._utils", "_rebuild_parameter")):
    thing.__module__, thing.__name__, thing.__qualname__ = module, name, name
    setattr(sys.modules[module], name, thing)


class Storage:
    keys = 0

    def __init__(self, values, kind):
        self.key, self.values, self.kind = str(Storage.keys), values, kind
        Storage.keys += 1

    def bytes(self):
        return struct.pack(f"<{len(self.values)}{'f' if self.kind is FloatStorage else 'q'}", *self.values)


class Tensor:
    def __init__(self, values, shape, kind=FloatStorage):
        self.storage, self.shape = Storage(values, kind), shape

    def __reduce__(self):
        strides, step = [], 1
        for extent in reversed(self.shape):
            strides.insert(0, step)
            step *= extent
        return rebuild_tensor, (self.storage, 0, tuple(self.shape), tuple(strides), False, collections.OrderedDict())


class Parameter:
    def __init__(self, tensor):
        self.tensor = tensor

    def __reduce__(self):
        return rebuild_parameter, (self.tensor, True, collections.OrderedDict())


def dump(thing, protocol, storages):
    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            if isinstance(value, Storage):
                storages[value.key] = value
                return "storage", value.kind, value.key, "cpu", len(value.values)
            return None

    buffer = io.BytesIO()
    Pickler(buffer, protocol).dump(thing)
    return buffer.getvalue()


def save(thing, path, protocol=2):
    storages = {}
    program = dump(thing, protocol, storages)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", program)
        archive.writestr("archive/byteorder", b"little")
        for key, storage in storages.items():
            archive.writestr(f"archive/data/{key}", storage.bytes())
        archive.writestr("archive/version", b"3\n")


def save_old(thing, path, protocol=2):
    storages = {}
    with open(path, "wb") as file:
        pickle.dump(0x1950A86A20F9469CFC6C, file, protocol)
        pickle.dump(1001, file, protocol)
        pickle.dump({"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2}}, file, protocol)
        file.write(dump(thing, protocol, storages))
        pickle.dump(sorted(storages), file, protocol)
        for key in sorted(storages):
            file.write(struct.pack("<Q", len(storages[key].values)) + storages[key].bytes())


class Command:
    """What a malicious file would run."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


class Mode(enum.Enum):
    train = 1


class Slots:
    __slots__ = ("a",)

    def __init__(self):
        self.a = {"b": [1, 2, 3]}


class Network:
    def __init__(self):
        self.weights = weights()


def weights(offset=0.0, prefix=""):
    state = collections.OrderedDict()
    state[prefix + "a.weight"] = Tensor([offset + 0.5 * i for i in range(6)], [2, 3])
    state[prefix + "a.bias"] = Parameter(Tensor([offset - 0.25, 1.0], [2]))
    state[prefix + "counter"] = Tensor([7], [], LongStorage)
    state._metadata = collections.OrderedDict(version=1)
    return state


def beside(folder):
    """Things that scripts save beside the weights."""
    out = {
        "epoch": 3, "step": 2**40, "huge": -(2**100), "loss": 0.25, "best": True, "nothing": None,
        "args": argparse.Namespace(lr=1e-3, path=pathlib.PosixPath("runs/unet"), sizes=(1, 2, 3)),
        "folder": pathlib.PurePosixPath("a/b"),
        "set": {1, 2}, "frozen": frozenset({"a"}), "bytes": b"\0\xff" * 200, "array": bytearray(b"abc"),
        "deque": collections.deque([1, {2: 3}]), "default": collections.defaultdict(list, {"a": [1]}),
        "date": datetime.datetime(2024, 1, 2), "decimal": decimal.Decimal("0.1"), "complex": 1 + 2j,
        "mode": Mode.train, "slots": Slots(), "partial": functools.partial(print, 1), "type": dict,
        "text": "x" * 300, "unicode": "\u5fc3",
        "optimizer": {"state": {0: {"step": 7, "square": Tensor([1.0] * 5, [5])}}, "param_groups": [{"lr": 0.1}]},
        "command": Command(f"touch '{folder}/ran'"),
        "many": list(range(3000)), "dictionary": {i: str(i) for i in range(3000)},
    }
    try:
        import numpy

        out["numpy"] = [numpy.float64(0.5), numpy.dtype("<f4"), numpy.arange(5), numpy.bool_(True)]
    except ImportError:
        pass
    return out


def main(folder):
    for protocol in range(2, 6):
        thing = {**beside(folder), "state_dict": weights(prefix="module._orig_mod.model.")}
        save(thing, f"{folder}/p{protocol}.pth", protocol)
        save_old(thing, f"{folder}/old{protocol}.pth", protocol)
    save({"params": weights(3), "ema": weights(2), "model": weights(1), "state_dict": Network()}, f"{folder}/choice.pth")
    save({"model": {"epoch": 1, "net": weights(4)}, "scale": Tensor([1.0], [1])}, f"{folder}/nested.pth", 4)
    save({"model": Network(), "ema": weights(5)}, f"{folder}/ema.pth", 4)
    save(Network(), f"{folder}/module.pth")
    save({"model": {**weights(), **weights(prefix="module.")}}, f"{folder}/twice.pth")


if __name__ == "__main__":
    main(sys.argv[1])
