#!/usr/bin/env python3
"""Trains a byte-level Mamba on one text file and writes it as the checkpoint that Strand ships.

    train.py TEXT OUT [--minutes M | --steps N]

The text is cut into 90 % for training, 5 % for choosing the checkpoint and 5 % that is looked at once, at the end. Training walks
over `batch` streams side by side and carries each stream's state from one piece to the next, so that the model learns to use a
state that is older than one piece. Needs PyTorch and a C compiler; one thread of a plain CPU is enough."""
import argparse, ctypes, json, math, os, subprocess, tempfile, time

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn


def compiled():
    """scan.c beside this file, built for this machine."""
    here, out = os.path.dirname(os.path.abspath(__file__)), tempfile.mkdtemp()
    library = os.path.join(out, 'scan.so')
    subprocess.run([os.environ.get('CC', 'cc'), '-O3', '-march=native', '-ffast-math', '-shared', '-fPIC', '-o', library,
                    os.path.join(here, 'scan.c'), '-lm'], check=True)
    return ctypes.CDLL(library)


LIBRARY = compiled()


def call(name, sizes, *tensors):
    getattr(LIBRARY, name)(*[ctypes.c_long(n) for n in sizes], *[ctypes.c_void_p(t.data_ptr()) for t in tensors])


class Scan(torch.autograd.Function):
    """The selective scan: y[t] = C[t] h[t], h[t] = exp(dt[t] A) h[t-1] + dt[t] u[t] B[t]."""

    @staticmethod
    def forward(ctx, dt, u, A, B, C, h0):
        given = [x.contiguous() for x in (dt, u, A, B, C, h0)]
        (L, batch, D), N = dt.shape, A.shape[0]
        y, h = torch.empty(L, batch, D), torch.empty(L, batch, N, D)
        call('scan_forward', (L, batch, N, D), *given, y, h)
        ctx.save_for_backward(*given, h)
        ctx.mark_non_differentiable(h)
        return y, h

    @staticmethod
    def backward(ctx, gy, _):
        dt, u, A, B, C, h0, h = ctx.saved_tensors
        (L, batch, D), N = dt.shape, A.shape[0]
        gdt, gu, gA, gB, gC = torch.empty_like(dt), torch.empty_like(u), torch.zeros_like(A), torch.empty_like(B), torch.empty_like(C)
        call('scan_backward', (L, batch, N, D), dt, u, A, B, C, h0, h, gy.contiguous(), gdt, gu, gA, gB, gC, torch.empty_like(A))
        return gdt, gu, gA, gB, gC, None


class Mixer(nn.Module):
    def __init__(self, width, state, rank, conv, layers):
        super().__init__()
        inner = 2 * width
        self.inner, self.state, self.rank, self.conv = inner, state, rank, conv
        self.in_proj = nn.Linear(width, 2 * inner, bias=False)
        self.conv1d = nn.Conv1d(inner, inner, conv, groups=inner)
        self.x_proj = nn.Linear(inner, rank + 2 * state, bias=False)
        self.dt_proj = nn.Linear(rank, inner)
        self.out_proj = nn.Linear(inner, width, bias=False)
        self.A_log = nn.Parameter(torch.log(torch.arange(1, state + 1).float()).repeat(inner, 1))
        self.D = nn.Parameter(torch.ones(inner))
        nn.init.uniform_(self.dt_proj.weight, -rank ** -0.5, rank ** -0.5)
        dt = torch.exp(torch.rand(inner) * (math.log(0.1) - math.log(0.001)) + math.log(0.001)).clamp(min=1e-4)
        with torch.no_grad():
            self.dt_proj.bias.copy_(dt + torch.log(-torch.expm1(-dt)))
            self.out_proj.weight.div_(math.sqrt(layers))

    def forward(self, x, state):
        """x [L, B, width]; state: (the last conv - 1 inputs [conv - 1, B, inner], h [B, state, inner])."""
        tail, h0 = state
        u, z = self.in_proj(x).chunk(2, dim=-1)
        padded = torch.cat([tail, u], 0)
        L = x.shape[0]
        w = self.conv1d.weight[:, 0]
        u = self.conv1d.bias + sum(padded[k:k + L] * w[:, k] for k in range(self.conv))
        u = F.silu(u)
        dt, B, C = self.x_proj(u).split([self.rank, self.state, self.state], dim=-1)
        dt = F.softplus(self.dt_proj(dt))
        y, h = Scan.apply(dt, u, -torch.exp(self.A_log.t()), B, C, h0)
        y = y + self.D * u
        return self.out_proj(y * F.silu(z)), (padded[L:].detach(), h[-1].detach().clone())


class Block(nn.Module):
    def __init__(self, width, *args):
        super().__init__()
        self.norm = RMSNorm(width)
        self.mixer = Mixer(width, *args)


class RMSNorm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-5) * self.weight


class Backbone(nn.Module):
    def __init__(self, width, layers, state, rank, conv):
        super().__init__()
        self.embeddings = nn.Embedding(256, width)
        nn.init.normal_(self.embeddings.weight, std=0.02)
        self.layers = nn.ModuleList(Block(width, state, rank, conv, layers) for _ in range(layers))
        self.norm_f = RMSNorm(width)


class Mamba(nn.Module):
    def __init__(self, **shape):
        super().__init__()
        self.backbone = Backbone(**shape)

    def start(self, batch):
        return [(torch.zeros(m.mixer.conv - 1, batch, m.mixer.inner), torch.zeros(batch, m.mixer.state, m.mixer.inner))
                for m in self.backbone.layers]

    def forward(self, ids, states, dropout=0.0):
        """ids [L, B] -> logits [L, B, 256] and the states after the last token."""
        x = self.backbone.embeddings(ids)
        after = []
        for layer, state in zip(self.backbone.layers, states):
            y, s = layer.mixer(layer.norm(x), state)
            x = x + F.dropout(y, dropout, self.training)
            after.append(s)
        return F.linear(self.backbone.norm_f(x), self.backbone.embeddings.weight), after


@torch.no_grad()
def bits(model, text, batch=1):
    """Bits per byte of `text` in `batch` streams from zero states (one stream: the figure that is reported)."""
    model.eval()
    n = (len(text) - 1) // batch
    x = torch.from_numpy(np.stack([text[i * n:i * n + n + 1] for i in range(batch)], 1).astype(np.int64))
    states, total = model.start(batch), 0.0
    for at in range(0, n, 512):
        stop = min(at + 512, n)
        logits, states = model(x[at:stop], states)
        total += F.cross_entropy(logits.reshape(-1, 256), x[at + 1:stop + 1].reshape(-1), reduction='sum').item()
    model.train()
    return total / (n * batch) / math.log(2)


def streams(text, batch, length, random):
    """Pieces [length + 1, batch] of `batch` streams side by side, from a new offset in every pass; (piece, is it a new pass)."""
    while True:
        turned = np.roll(text, -int(random.integers(len(text))))
        n = len(turned) // batch
        side = np.stack([turned[i * n:(i + 1) * n] for i in range(batch)], 1).astype(np.int64)
        for k, at in enumerate(range(0, n - length - 1, length)):
            yield torch.from_numpy(side[at:at + length + 1]), k == 0


def save(model, shape, folder):
    from safetensors.torch import save_file
    os.makedirs(folder, exist_ok=True)
    weights = {k: v.detach().half().contiguous() for k, v in model.state_dict().items()}
    save_file(weights, os.path.join(folder, 'model.safetensors'), metadata={'format': 'pt'})
    config = {'architectures': ['MambaForCausalLM'], 'model_type': 'mamba', 'vocab_size': 256, 'hidden_size': shape['width'],
              'intermediate_size': 2 * shape['width'], 'expand': 2, 'num_hidden_layers': shape['layers'],
              'state_size': shape['state'], 'time_step_rank': shape['rank'], 'conv_kernel': shape['conv'], 'use_bias': False,
              'use_conv_bias': True, 'hidden_act': 'silu', 'layer_norm_epsilon': 1e-5, 'tie_word_embeddings': True,
              'tokenizer': 'bytes'}
    with open(os.path.join(folder, 'config.json'), 'w') as f:
        f.write(json.dumps(config, indent=2) + '\n')


def main():
    p = argparse.ArgumentParser()
    p.add_argument('text')
    p.add_argument('out')
    p.add_argument('--minutes', type=float, default=0, help='train for so long instead of --steps')
    p.add_argument('--steps', type=int, default=2500)
    p.add_argument('--width', type=int, default=160)
    p.add_argument('--layers', type=int, default=5)
    p.add_argument('--state', type=int, default=8)
    p.add_argument('--rank', type=int, default=10)
    p.add_argument('--batch', type=int, default=16)
    p.add_argument('--length', type=int, default=256)
    p.add_argument('--rate', type=float, default=4e-3)
    p.add_argument('--dropout', type=float, default=0.05)
    p.add_argument('--threads', type=int, default=1)
    a = p.parse_args()
    torch.set_num_threads(a.threads)
    torch.manual_seed(1)
    text = np.fromfile(a.text, dtype=np.uint8)
    n = len(text)
    train, valid, test = text[:n * 90 // 100], text[n * 90 // 100:n * 95 // 100], text[n * 95 // 100:]
    shape = dict(width=a.width, layers=a.layers, state=a.state, rank=a.rank, conv=4)
    model = Mamba(**shape)
    flat = [w for k, w in model.named_parameters() if w.dim() < 2 or k.endswith('A_log')]
    deep = [w for k, w in model.named_parameters() if not (w.dim() < 2 or k.endswith('A_log'))]
    opt = torch.optim.AdamW([{'params': deep, 'weight_decay': 0.1}, {'params': flat, 'weight_decay': 0.0}], lr=a.rate,
                            betas=(0.9, 0.95))
    print('parameters', sum(w.numel() for w in model.parameters()), flush=True)
    begun, best, states, at = time.time(), 1e9, None, 0
    for at, (piece, fresh) in enumerate(streams(train, a.batch, a.length, np.random.default_rng(1))):
        done = (time.time() - begun) / 60 / a.minutes if a.minutes else at / a.steps
        if done >= 1:
            break
        rate = a.rate * min(1, (at + 1) / 100) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))
        for group in opt.param_groups:
            group['lr'] = rate
        if fresh or states is None:
            states = model.start(a.batch)
        logits, states = model(piece[:-1], states, a.dropout)
        loss = F.cross_entropy(logits.reshape(-1, 256), piece[1:].reshape(-1))
        opt.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        if at % 20 == 0:
            print(f'{at} {done:.3f} {time.time() - begun:.0f}s loss {loss.item() / math.log(2):.3f} bits', flush=True)
        if at % 200 == 199:
            now = bits(model, valid, 16)
            print(f'{at + 1} validation {now:.4f} bits per byte', flush=True)
            if now < best:
                best = now
                save(model, shape, a.out)
    now = bits(model, valid, 16)
    if now < best:
        save(model, shape, a.out)
    from safetensors.torch import load_file
    model.load_state_dict({k: v.float() for k, v in load_file(os.path.join(a.out, 'model.safetensors')).items()})
    print(f'{at} steps, {time.time() - begun:.0f} s; as stored (F16): validation {bits(model, valid):.4f}, test {bits(model, test):.4f} '
          'bits per byte', flush=True)


if __name__ == '__main__':
    main()
