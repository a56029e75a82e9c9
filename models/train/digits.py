"""Trains `demo.digits`: a small CNN on the 1,797 8x8 digits of the UCI set that scikit-learn carries.

The split is fixed before anything is trained: one seeded permutation, the last 360 images held out. Nothing is
chosen by looking at the held-out part: the number of epochs is a constant.
"""

import json
import pathlib

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from safetensors.torch import save_file
from sklearn.datasets import load_digits

OUT = pathlib.Path(__file__).resolve().parent.parent / "digits"
HELD_OUT, EPOCHS, BATCH, SEED = 360, 80, 64, 7
PIXEL_MAX = 16.0
CHANNELS = (12, 24)
HIDDEN = 32


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, CHANNELS[0], 3, padding=1)
        self.conv2 = nn.Conv2d(CHANNELS[0], CHANNELS[1], 3, padding=1)
        self.fc1 = nn.Linear(CHANNELS[1] * 4 * 4, HIDDEN)
        self.fc2 = nn.Linear(HIDDEN, 10)

    def forward(self, x, drop=0.0):
        x = (x / PIXEL_MAX).reshape(-1, 1, 8, 8)
        x = F.relu(self.conv1(x))
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = F.dropout(x.flatten(1), drop, self.training)
        x = F.dropout(F.relu(self.fc1(x)), drop, self.training)
        return self.fc2(x)


def shifted(images, generator):
    """Each image moved by at most one pixel, with a little noise: eight-pixel digits bear no more."""
    square = F.pad(images.reshape(-1, 1, 8, 8), (1, 1, 1, 1))
    dx = torch.randint(0, 3, (len(images),), generator=generator)
    dy = torch.randint(0, 3, (len(images),), generator=generator)
    moved = torch.stack([s[0, y : y + 8, x : x + 8] for s, x, y in zip(square, dx, dy)])
    noise = torch.randn(moved.shape, generator=generator) * 0.6
    return (moved + noise * (moved > 0)).clamp(0, PIXEL_MAX).reshape(-1, 64)


def train(x, y):
    generator = torch.Generator().manual_seed(SEED)
    torch.manual_seed(SEED)
    net = Net()
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3, weight_decay=2e-2)
    steps = EPOCHS * ((len(x) + BATCH - 1) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=6e-3, total_steps=steps)
    for _ in range(EPOCHS):
        net.train()
        for batch in torch.randperm(len(x), generator=generator).split(BATCH):
            logits = net(shifted(x[batch], generator), drop=0.15)
            loss = F.cross_entropy(logits, y[batch], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return net.eval()


def main():
    torch.set_num_threads(1)
    data = load_digits()
    order = np.random.RandomState(SEED).permutation(len(data.data))
    x = torch.tensor(data.data[order], dtype=torch.float32)
    y = torch.tensor(data.target[order], dtype=torch.int64)
    net = train(x[:-HELD_OUT], y[:-HELD_OUT])
    held_x, held_y = x[-HELD_OUT:], y[-HELD_OUT:]
    with torch.no_grad():
        probabilities = F.softmax(net(held_x), dim=1)
    right = (probabilities.argmax(1) == held_y).tolist()
    print(f"held-out {sum(right)}/{HELD_OUT} = {sum(right) / HELD_OUT:.4f}; first 100: {sum(right[:100])}")

    OUT.mkdir(exist_ok=True)
    save_file({k: v.contiguous() for k, v in net.state_dict().items()}, OUT / "model.safetensors")
    config = {
        "model_type": "digits-cnn",
        "image_size": [8, 8],
        "pixel_max": PIXEL_MAX,
        "channels": list(CHANNELS),
        "hidden_size": HIDDEN,
        "classes": 10,
    }
    (OUT / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    fixtures = {
        "about": "the first 100 images of the held-out split, in order, with labels; "
        "expected probabilities by torch (float32) for the first 12",
        "held_out_right": sum(right),
        "held_out_total": HELD_OUT,
        "inputs": held_x[:100].int().tolist(),
        "labels": held_y[:100].tolist(),
        "probabilities": [[round(p, 7) for p in row] for row in probabilities[:12].tolist()],
    }
    (OUT / "fixtures.json").write_text(json.dumps(fixtures, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
