"""Train DCNv2 on a CPU with cross layers that round where those for GPUs do, and in float32.

Run: python results/precision/gpu_cross_layers.py DATASET OUT   (a dataset of `multiembed prepare`)
"""

import sys
from pathlib import Path

import torch
from torch.autograd import Function

import multiembed as me
from multiembed.kernels.cpu.cpu_cross import cross
from multiembed.models.interactions import dcnv2

ROUNDED = torch.bfloat16


class RoundedCross(Function):
    """Operators of torch, one after the other; x0, x, products and slopes are kept in bfloat16."""

    @staticmethod
    @torch.autocast("cpu", enabled=False)
    def forward(ctx, x0, *parameters):
        layers = len(parameters) // 2
        weights, biases = [w.to(ROUNDED) for w in parameters[:layers]], parameters[layers:]
        start = x0.transpose(0, 1).to(ROUNDED).contiguous()
        read, mapped, x = [], [], start
        for weight, bias in zip(weights, biases, strict=True):
            read.append(x)
            mapped.append(torch.bmm(x, weight.mT))
            x = (start.float() * (mapped[-1].float() + bias[:, None]) + x.float()).to(ROUNDED)
        ctx.save_for_backward(*weights, *biases, *read, *mapped)
        return x.transpose(0, 1)

    @staticmethod
    @torch.autocast("cpu", enabled=False)
    def backward(ctx, gradient):
        layers = len(ctx.saved_tensors) // 4
        weights, biases, read, mapped = (
            ctx.saved_tensors[at : at + layers] for at in range(0, 4 * layers, layers)
        )
        slope, added, of_x0 = gradient.transpose(0, 1).to(ROUNDED), None, 0
        of_weights, of_biases = [], []
        for layer in reversed(range(layers)):
            if added is not None:
                slope = (slope.float() + added.float()).to(ROUNDED)
            of_mapped = slope.float() * read[0].float()
            of_biases.insert(0, of_mapped.sum(1))
            of_mapped = of_mapped.to(ROUNDED)
            of_weights.insert(0, torch.bmm(of_mapped.float().mT, read[layer].float()))
            of_x0 = of_x0 + slope.float() * (mapped[layer].float() + biases[layer][:, None])
            added = torch.bmm(of_mapped, weights[layer])
        of_x0 = (of_x0 + added.float() + slope.float()).to(ROUNDED).float()
        return of_x0.transpose(0, 1), *of_weights, *of_biases


def rounded(x0, matrices, biases, *, training):
    """Stand in for `cross`."""
    if training and torch.is_autocast_enabled("cpu"):
        return RoundedCross.apply(x0, *matrices, *biases)
    return cross(x0, matrices, biases, training=training)


def main():
    """Print a line for every training."""
    dataset, out = sys.argv[1:]
    dcnv2.cross = rounded
    for seed in range(5):
        for size in (1, 4):
            for precision in ("float32", "bfloat16"):
                model = {"architecture": "dcnv2", "size": size, "scaling": "multi"}
                training = {"precision": precision, "seed": seed, "device": "cpu", "threads": 1}
                config = me.RunConfig.model_validate({"model": model, "training": training})
                folder = Path(out) / f"{size}_{precision}_{seed}"
                quality = me.train(config, dataset=dataset, run=folder).evaluate("test")
                row = size, precision, seed, f"{quality['auc']:.6f}", f"{quality['log_loss']:.6f}"
                print(Path(dataset).name, *row, sep=",", flush=True)


if __name__ == "__main__":
    main()
