"""Trains the three bundled digit networks and writes their models and data; needs the `train` and `test` extras.

python examples/train/train_digits.py [--output examples] [--epochs 60]
"""

import argparse
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from export import to_onnx
from networks import NETWORKS
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

SEED = 20240229
HELD_OUT = 360
CALIBRATION = 256
BATCH = 64


def load_split() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Training and held-out images, float32 [N, 1, 8, 8] from -1 to 1, each with its labels."""
    digits = load_digits()
    images = (digits.images / 8 - 1).astype(np.float32)[:, None]
    labels = digits.target.astype(np.int64)
    train, test, train_labels, test_labels = train_test_split(
        images, labels, test_size=HELD_OUT, random_state=SEED, stratify=labels
    )
    return train, train_labels, test, test_labels


def shifted(images: Tensor, generator: torch.Generator) -> Tensor:
    """The images, each moved by at most one pixel; what comes in from outside is background."""
    padded = nn.functional.pad(images, (1, 1, 1, 1), value=-1.0)
    rows, columns = torch.randint(0, 3, (2, len(images)), generator=generator)
    reach = torch.arange(8)
    return padded[
        torch.arange(len(images))[:, None, None],
        :,
        (rows[:, None] + reach)[:, :, None],
        (columns[:, None] + reach)[:, None, :],
    ].permute(0, 3, 1, 2)


def train(network: nn.Module, images: Tensor, labels: Tensor, epochs: int, generator: torch.Generator) -> None:
    """Minimise the smoothed cross entropy with AdamW and a one-cycle schedule."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=0.02)
    steps = epochs * (len(images) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=6e-3, total_steps=steps)
    network.train()
    for _ in range(epochs):
        order = torch.randperm(len(images), generator=generator)
        for start in range(0, len(images) - BATCH + 1, BATCH):
            chosen = order[start : start + BATCH]
            logits = network(shifted(images[chosen], generator))
            loss = nn.functional.cross_entropy(logits, labels[chosen], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()


def accuracy(path: Path, images: np.ndarray, labels: np.ndarray) -> float:
    """Top-1 of an ONNX file under onnxruntime, one image at a time."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    logits = np.concatenate([session.run(["output"], {"input": image[None]})[0] for image in images])
    return float(np.mean(logits.argmax(axis=1) == labels))


def main() -> None:
    """Train, export, check and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path(__file__).parents[1], help="folder of models/ and data/")
    parser.add_argument("--epochs", type=int, default=60)
    options = parser.parse_args()
    models, data = options.output / "models", options.output / "data"
    models.mkdir(parents=True, exist_ok=True)
    data.mkdir(parents=True, exist_ok=True)

    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    images, labels, test_images, test_labels = load_split()
    # numpy stamps every member of an archive with 1980-01-01, so the bytes depend on the arrays alone.
    np.savez_compressed(data / "digits.calibration.npz", input=images[:CALIBRATION])
    np.savez_compressed(data / "digits.test.npz", input=test_images, labels=test_labels)

    print(f"{'network':20} {'parameters':>10} {'bytes':>8} {'top-1':>7}")
    for name, build in NETWORKS.items():
        torch.manual_seed(SEED)
        network = build()
        generator = torch.Generator().manual_seed(SEED)
        train(network, torch.from_numpy(images), torch.from_numpy(labels), options.epochs, generator)
        path = models / f"{name}.onnx"
        model = to_onnx(network, name, torch.zeros(1, 1, 8, 8))
        path.write_bytes(model.SerializeToString(deterministic=True))
        onnx.checker.check_model(path, full_check=True)
        parameters = sum(parameter.numel() for parameter in network.parameters())
        top1 = accuracy(path, test_images, test_labels)
        print(f"{name:20} {parameters:10} {path.stat().st_size:8} {top1:7.4f}", flush=True)


if __name__ == "__main__":
    main()
