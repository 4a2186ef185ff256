"""Wrong files of every other kind: IR text, targets, programs, arrays; and the good ones that go with them."""

from __future__ import annotations

import json
import shutil
from importlib import resources
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
from errors.models import write_models

from accelc.backends import manifest
from accelc.backends.container import pack, unpack
from accelc.backends.program import MEMBERS
from accelc.compiler.cli import run_cli

EXAMPLES = Path(__file__).parents[2] / "examples"


def write_inputs(folder: Path) -> None:
    """Fill an empty folder; a file that no model may read appears beside it."""
    (folder.parent / "secret.bin").write_bytes(bytes(64))
    (folder / "external_link.bin").symlink_to("../secret.bin")
    (folder / "folder").mkdir()
    shutil.copy(EXAMPLES / "models" / "digits_cnn.onnx", folder / "model.onnx")
    write_models(folder)
    _write_arrays(folder)
    _write_text(folder)
    _write_targets(folder)
    _write_programs(folder)


def _write_arrays(folder: Path) -> None:
    with np.load(EXAMPLES / "data" / "digits.test.npz") as data:
        images, labels = data["input"][:6], data["labels"][:6]
    sample = np.arange(6)[:, None, None, None]
    arrays = {
        "good": {"input": images, "labels": labels},
        "name": {"inputs": images},
        "unlabelled": {"input": images},
        "missing": {"labels": labels},
        "shape": {"input": images[:, :, :7]},
        "single": {"input": images[0]},
        "bytes": {"input": images.astype(np.uint8)},
        "complex": {"input": images.astype(np.complex64)},
        "words": {"input": np.full((2, 1, 8, 8), "a")},
        "nan": {"input": np.where(sample == 2, np.nan, images)},
        "infinite": {"input": np.where(sample == 1, np.inf, images)},
        "large": {"input": images.astype(np.float64) + 1e300},
        "no_samples": {"input": images[:0]},
        "no_arrays": {},
        "objects": {"input": np.array([{}], dtype=object)},
        "few_labels": {"input": images, "labels": labels[:5]},
        "float_labels": {"input": images, "labels": labels.astype(np.float32)},
        "eleventh": {"input": images, "labels": np.where(np.arange(6) == 4, 10, labels)},
    }
    for name, content in arrays.items():
        np.savez(folder / f"{name}.npz", **content)
    np.save(folder / "array.npy", images)
    shutil.move(folder / "array.npy", folder / "array.npz")
    (folder / "text.npz").write_text("hello")
    (folder / "cut.npz").write_bytes((folder / "good.npz").read_bytes()[:900])
    (folder / "bomb.npz").write_bytes(_bomb(folder))


def _bomb(folder: Path) -> bytes:
    """An archive whose small, compressed member says that it holds more than any memory does."""
    path = folder / "bomb"
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({2**40}, 1, 8, 8), }}".ljust(117) + "\n"
    with ZipFile(path, "w") as archive:
        archive.writestr("input.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode())
    return path.read_bytes()


HEAD = "func @main(%x: tensor<2x3xf32>) -> tensor<2x3xf32> {\n"
RETURN = "  return %0 : tensor<2x3xf32> -> ()\n}\n"


def _write_text(folder: Path) -> None:
    relu = "  %0 = nn.relu %x : tensor<2x3xf32> -> tensor<2x3xf32>\n"
    texts = {
        "prose": "hello world\n",
        "unfinished": HEAD + relu,
        "unknown_operation": HEAD + relu.replace("nn.relu", "nn.relo") + RETURN,
        "unknown_type": HEAD.replace("f32>)", "!quant.i5<1:0>>)") + relu + RETURN,
        "undefined_value": HEAD + relu.replace("%x", "%y") + RETURN,
        "undefined_constant": HEAD + relu.replace("%x", "@w") + RETURN,
        "value_twice": HEAD + relu + relu + RETURN,
        "function_twice": HEAD + relu + RETURN + HEAD + relu + RETURN,
        "used_as_another_type": HEAD + relu.replace("%x : tensor<2x3xf32>", "%x : tensor<3xf32>") + RETURN,
        "result_type": HEAD + relu.replace("-> tensor<2x3xf32>", "-> tensor<3x2xf32>") + RETURN.replace("2x3", "3x2"),
        "operand_types": HEAD + relu.replace(": tensor<2x3xf32>", ": (tensor<2x3xf32>, tensor<2x3xf32>)") + RETURN,
        "operand_count": HEAD + "  %0 = nn.add %x : tensor<2x3xf32> -> tensor<2x3xf32>\n" + RETURN,
        "unknown_attribute": HEAD + relu.replace(" :", " {slope = 1} :") + RETURN,
        "attribute_kind": HEAD
        + '  %0 = nn.leaky_relu %x {alpha = "steep"} : tensor<2x3xf32> -> tensor<2x3xf32>\n'
        + RETURN,
        "attribute_twice": HEAD + relu.replace(" :", " {a = 1, a = 2} :") + RETURN,
        "no_return": HEAD + relu + "}\n",
        "no_main": "".join((HEAD + relu + RETURN).replace("@main", name) for name in ("@one", "@two")),
        "another_version": "// accelc IR 2\n" + HEAD + relu + RETURN,
        "too_few_elements": "const @w : tensor<3xf32> = dense<[1.0, 2.0]>\n" + HEAD + relu + RETURN,
        "element_range": "const @w : tensor<1xi8> = dense<[300]>\n" + HEAD + relu + RETURN,
        "constant_twice": "const @w : tensor<1xi8> = dense<3>\n" * 2 + HEAD + relu + RETURN,
        "elided": "const @w : tensor<3xf32> = dense<elided>\n" + HEAD + relu + RETURN,
        "companion": "const @w : tensor<3xf32> = dense<elided>\n" + HEAD + relu + RETURN,
        "giant_constant": "const @w : tensor<99999999x99999999xf32> = dense<0.0>\n" + HEAD + relu + RETURN,
        "digits": f"const @w : tensor<1xi64> = dense<{'9' * 200}>\n" + HEAD + relu + RETURN,
        "nested": "module {a = " + "[" * 50_000 + "\n",
        "nan_constant": "const @w : tensor<3xf32> = dense<[1.0, nan, 2.0]>\n"
        + HEAD
        + "  %0 = nn.add %x, @w : (tensor<2x3xf32>, tensor<3xf32>) -> tensor<2x3xf32>\n"
        + RETURN,
    }
    for name, text in texts.items():
        (folder / f"{name}.air").write_text(text)
    (folder / "companion.npz").write_text("no archive")
    (folder / "latin1.air").write_bytes("// gr\xfc\xdfe\n".encode("latin-1"))


def _write_targets(folder: Path) -> None:
    text = resources.files("accelc.backends").joinpath("targets", "tile32.toml").read_text(encoding="utf-8")
    changes = {
        "range": ("lanes = 32", "lanes = 0"),
        "kind": ("lanes = 32", 'lanes = "many"'),
        "fraction": ("lanes = 32", "lanes = 32.5"),
        "key": ("lanes = 32", "lnaes = 32"),
        "section": ("[dma]", "[dna]"),
        "nan": ("frequency_mhz = 500.0", "frequency_mhz = nan"),
        "interleave": ("interleave = 4", "interleave = 3"),
        "reach": ("reach_banks = 16", "reach_banks = 17"),
        "unnamed": ('name = "tile32"', 'name = ""'),
        "syntax": ('name = "tile32"', "name = tile32"),
        "megabyte": ("megabytes = 512", "megabytes = 1"),
        "tiny": ("bank_lines = 2048", "bank_lines = 16"),
    }
    for name, (old, new) in changes.items():
        assert old in text, old
        (folder / f"{name}.toml").write_text(text.replace(old, new, 1))
    (folder / "latin1.toml").write_bytes("# gr\xfc\xdfe\n".encode("latin-1"))


def _write_programs(folder: Path) -> None:
    program = folder / "model.accel"
    line = [folder / "model.onnx", "--calibration-data", EXAMPLES / "data" / "digits.calibration.npz", "-o", program]
    assert run_cli([str(word) for word in line]) == 0
    data = program.read_bytes()
    (folder / "cut.accel").write_bytes(data[:3000])
    damaged = bytearray(data)
    damaged[-2000] ^= 1
    (folder / "damaged.accel").write_bytes(damaged)
    (folder / "prose.accel").write_text("hello world\n" * 9)
    (folder / "longer.accel").write_bytes(data + b"\0")
    with ZipFile(folder / "foreign.accel", "w") as archive:
        archive.writestr("hello.txt", "hello world")

    def edited(name: str, change: Any) -> None:
        members = unpack(data, MEMBERS)
        fields = json.loads(members["manifest.json"])
        del fields["checksum"]
        change(fields)
        (folder / f"{name}.accel").write_bytes(pack({**members, "manifest.json": manifest.dump(fields)}))

    edited("future", lambda fields: fields.update(version=fields["version"] + 1))
    edited("giant", lambda fields: fields.update(dram_bytes=2**32 - 1))
    edited("outside", lambda fields: fields["outputs"][0].update(address=2**31))
    edited("surplus", lambda fields: fields.update(on_load="rm -rf /"))
