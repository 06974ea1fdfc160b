#!/usr/bin/env python3
"""Times the EEG models: Strand beside PyTorch running the published code, in one process and in turns.

    python3 tests/bench/eeg.py --libstrand build/libstrand.so.0.1.0 --dcrnn REPOSITORY --pretrained FOLDER
    python3 tests/bench/eeg.py --libstrand build/libstrand.so.0.1.0 --graphs4mer REPOSITORY --checkpoint last.ckpt
    python3 tests/bench/eeg.py --libstrand build/libstrand.so.0.1.0 --dreem REPOSITORY --archive best_model.gz
    python3 tests/bench/eeg.py --libstrand build/libstrand.so.0.1.0 --fmri

The first REPOSITORY is a copy of github.com/tsy935/eeg-gnn-ssl, FOLDER holds its pretrained checkpoints; the second is a copy of
github.com/tsy935/graphs4mer, whose model also needs einops, opt_einsum and scipy; the third one of
github.com/Dreem-Organization/dreem-learning-open. --fmri needs none: learning-from-brains' weights have no licence, so both sides run
random ones in the published shape, PyTorch as the same decoder in plain PyTorch (its fused attention included). Parts of the repositories that only training and
files need (torch_geometric, pytorch_lightning, EDF readers, datasets) are stood in for here; of the published CPU Cauchy kernel the missing
conjugates are put in, as without a GPU it is wrong otherwise. Both sides get one thread, and the thread's own CPU time counts.

The published GraphS4mer makes its convolution kernels anew in every run; "kernels kept" is PyTorch with them made once, which Strand
does too. Columns: seconds of signal in a run; the median time of a run of each; signal per time of Strand; PyTorch / Strand, the median
of the rounds' own ratios [p10, p90]; the largest difference of the results, relative to the largest value (at least 1).
"""
import argparse
import contextlib
import ctypes as c
import io
import json
import os
import statistics
import sys
import tarfile
import tempfile
import time
import types

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
import numpy as np  # noqa: E402
import torch  # noqa: E402

from spacetime import ContextParams, ModelParams, PlanParams, Tensor  # noqa: E402


class Strand:
    """One model, one output."""

    precision = "f32"

    def __init__(self, library, model, settings, config, batch, length, output):
        settings = settings + ["precision=" + self.precision] * (self.precision != "f32")
        self.lib = lib = c.CDLL(library)
        lib.strand_error.restype = lib.strand_session_error.restype = c.c_char_p
        self.context, self.model, self.plan, self.session = (c.c_void_p() for _ in range(4))
        params = ContextParams()
        lib.strand_context_params_init(c.byref(params))
        params.threads = 1
        self.check(lib.strand_context_open(c.byref(params), c.byref(self.context)), lambda: b"the library does not open; is STRAND_BACKEND_PATH set?")
        items = (c.c_char_p * max(1, len(settings)))(*[s.encode() for s in settings])
        how = ModelParams(c.sizeof(ModelParams), len(settings), config.encode() if config else None, items)
        error = lambda: lib.strand_error(self.context)  # noqa: E731
        self.check(lib.strand_model_open(self.context, model.encode(), c.byref(how), c.byref(self.model)), error)
        plan = PlanParams(c.sizeof(PlanParams), 0, batch, length, 0, b"cpu", output.encode())
        self.check(lib.strand_plan_open(self.model, c.byref(plan), c.byref(self.plan)), error)
        self.check(lib.strand_session_open(self.plan, None, c.byref(self.session)), error)
        self.output = output.encode()

    @staticmethod
    def check(status, text):
        if status:
            sys.exit(text().decode())

    def run(self, *names_and_arrays):
        self.lib.strand_session_reset(self.session, c.c_int64(-1))
        pairs = list(zip(names_and_arrays[::2], names_and_arrays[1::2]))
        given = (Tensor * len(pairs))(*[Tensor(n.encode(), 11 if x.dtype == np.int64 else 1, x.ndim, (c.c_int64 * 8)(*x.shape), x.ctypes.data, x.nbytes) for n, x in pairs])
        got = Tensor(self.output)
        self.check(self.lib.strand_session_run(self.session, given, len(pairs), c.byref(got), 1), lambda: self.lib.strand_session_error(self.session))
        return np.ctypeslib.as_array(c.cast(got.data, c.POINTER(c.c_float)), (got.bytes // 4,))


def stand_in(name, **members):
    module = types.ModuleType(name)
    module.__dict__.update(members)
    sys.modules[name] = module


def fresh(code):
    for name in [n for n in sys.modules if n == "model" or n.startswith("model.")]:
        del sys.modules[name]
    sys.path.insert(0, code)


# ---- DCRNN

def dcrnn(code, weights, filter_type):
    """The published predictor: x [B, 12, 19, 100], supports -> [B, 12, 19, 100]."""
    fresh(code)
    stand_in("data", __path__=[])
    stand_in("data.data_utils", computeFFT=None)
    stand_in("utils", last_relevant_pytorch=None)
    torch.Tensor.cuda = lambda self: self  # asked for by name in the published forward pass
    from model.model import DCRNNModel_nextTimePred
    args = argparse.Namespace(num_nodes=19, num_rnn_layers=3, rnn_units=64, input_dim=100, output_dim=100, max_diffusion_step=2, dcgru_activation="tanh",
                              filter_type=filter_type, dropout=0.0, cl_decay_steps=3000, use_curriculum_learning=False)
    net = DCRNNModel_nextTimePred(args=args, device="cpu").eval()
    net.load_state_dict(torch.load(weights, map_location="cpu", weights_only=False)["model_state"])

    def run(x, supports):
        y = net(torch.from_numpy(x), torch.zeros(x.shape[0], 12, 19, 100), supports)
        return y.reshape(x.shape[0], 12, 19, 100).numpy()

    return run


def dcrnn_rows(o):
    for graph, seconds, batch in (("distance", 12, 1), ("distance", 12, 16), ("distance", 60, 1), ("correlation", 12, 1)):
        weights = os.path.join(o.pretrained, "pretrained_%s_graph_%ds.pth.tar" % (graph, 60 if seconds == 60 else 12))
        x = np.random.default_rng(5).normal(size=(batch, seconds, 19, 100)).astype(np.float32)
        strand = Strand(o.libstrand, weights, [], None, batch, seconds, "prediction")
        both = Strand(o.libstrand, weights, [], None, batch, seconds, "support0" if graph == "distance" else "support0,support1")
        supports = []
        for name in ("support0", "support1")[:1 if graph == "distance" else 2]:
            both.output = name.encode()
            supports.append(torch.from_numpy(both.run("features_in", x).reshape(batch, 19, 19).copy()))
        peer = dcrnn(o.dcrnn, weights, "laplacian" if graph == "distance" else "dual_random_walk")
        yield "DCRNN %s, batch %d" % (graph, batch), seconds * batch, lambda: strand.run("features_in", x), lambda: peer(x, supports).ravel(), 1e-4


# ---- GraphS4mer

class Gine(torch.nn.Module):
    """GINEConv of torch_geometric, for edges of one feature."""

    def __init__(self, nn, eps, train_eps, edge_dim):
        super().__init__()
        self.nn, self.lin, self.eps = nn, torch.nn.Linear(edge_dim, nn[0].in_features), torch.nn.Parameter(torch.tensor([eps]))

    def forward(self, x, edge_index, edge_attr):
        messages = torch.relu(x[edge_index[0]] + self.lin(edge_attr))
        return self.nn((1 + self.eps) * x + torch.zeros_like(x).index_add_(0, edge_index[1], messages))


def dense_to_sparse(a):
    index = a.nonzero(as_tuple=True)
    n = a.shape[-1]
    return torch.stack((index[0] * n + index[1], index[0] * n + index[2])), a[index]


def without_loops(edge_index, edge_attr):
    keep = edge_index[0] != edge_index[1]
    return edge_index[:, keep], edge_attr[keep]


def with_loops(edge_index, edge_attr, fill_value):
    n = int(edge_index.max()) + 1 if edge_index.numel() else 0
    loops = torch.arange(max(n, with_loops.nodes))
    return torch.cat((edge_index, loops.repeat(2, 1)), 1), torch.cat((edge_attr, torch.full((len(loops),), float(fill_value))))


def graphs4mer(code, checkpoint, length, kept):
    """The published model at the TUSZ configuration: x [1, 19, length] -> logits."""
    fresh(code)
    stand_in("torch_geometric")
    stand_in("torch_geometric.nn", GINEConv=Gine, GATv2Conv=None, SAGEConv=None, global_add_pool=None, global_mean_pool=None, global_max_pool=None)
    stand_in("torch_geometric.utils", dense_to_sparse=dense_to_sparse, remove_self_loops=without_loops, add_self_loops=with_loops)
    sys.modules["torch_geometric"].utils = sys.modules["torch_geometric.utils"]
    stand_in("pytorch_lightning")
    stand_in("pytorch_lightning.utilities", rank_zero_only=lambda f: f)
    import model.s4 as s4
    from model.graphs4mer import GraphS4mer

    def conjugates(v, z, w):
        return (v.unsqueeze(-1) / (z.unsqueeze(-2) - w.unsqueeze(-1)) + v.conj().unsqueeze(-1) / (z.unsqueeze(-2) - w.conj().unsqueeze(-1))).sum(-2)

    s4.cauchy_naive = conjugates
    net = GraphS4mer(input_dim=1, num_nodes=19, dropout=0.1, num_temporal_layers=4, g_conv="gine", num_gnn_layers=1, hidden_dim=128, max_seq_len=length, resolution=2000 if length == 12000 else 500,
                     prune_method="thresh_abs", thresh=0.1, graph_pool="max", activation_fn="leaky_relu", undirected_graph=True, K=2, residual_weight=0.6, gin_mlp=True, train_eps=True,
                     regularizations=[]).eval()
    state = torch.load(checkpoint, map_location="cpu", weights_only=False)["state_dict"]
    net.load_state_dict({k.removeprefix("model."): v for k, v in state.items()})
    if kept:
        for layer in net.t_model.s4_layers:
            made = layer.kernel(L=length, rate=1.0, state=None)
            layer.kernel.forward = lambda made=made, **more: made
    with_loops.nodes = 19 * (6 if length == 12000 else length // 500)

    def run(x):
        data = types.SimpleNamespace(x=torch.from_numpy(x).reshape(19, length, 1), batch=None)
        return net(data)[0].numpy()

    return run


def graphs4mer_rows(o):
    whole = torch.load(o.checkpoint, map_location="cpu", weights_only=False)
    for length in (2000, 12000):
        for k in whole["state_dict"]:
            if k.endswith("kernel.kernel.L"):
                whole["state_dict"][k] = torch.tensor(length)
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "last.ckpt") # random weights: only the time of 12000 samples counts, and that both agree
            torch.save({"state_dict": whole["state_dict"]}, path)
            x = np.random.default_rng(6).normal(size=(1, 19, length)).astype(np.float32)
            settings = ["max_seq_len=%d" % length, "resolution=%d" % (2000 if length == 12000 else 500), "dataset=tuh"]
            strand = Strand(o.libstrand, path, settings, None, 1, 1, "logits")
            for kept in (True, False):
                peer = graphs4mer(o.graphs4mer, path, length, kept)
                yield "GraphS4mer%s" % (", kernels kept" if kept else ""), length / 200, lambda: strand.run("x", x), lambda: peer(x).ravel(), 5e-3


# ---- SimpleSleepNet

def sleepnet(code, archive):
    """The published network: signals [1, epochs, 16, 3000], index [1, epochs, 1], cycles [1, epochs, 5] -> logits [epochs, 5]."""
    sys.path.insert(0, code)
    for name, members in (("tqdm", {}), ("dreem_learning_open.datasets", {"__path__": []}), ("dreem_learning_open.datasets.dataset", {"DreemDataset": None})):
        stand_in(name, **members)
    stft = torch.stft
    torch.stft = lambda *a, **k: torch.view_as_real(stft(*a, return_complex=True, **k))  # what it gave when the code was written
    from dreem_learning_open.models.modulo_net.net import ModuloNet
    with tarfile.open(archive) as tar:
        parts = {n: tar.extractfile(n).read() for n in tar.getnames()}
    parameters = json.loads(parts["normalization_parameters.json"])
    for kind in ("signals", "features"):
        for group in parameters[kind]:
            for operation in group["normalization"]:
                operation["args"] = {k: torch.tensor(v) if isinstance(v, list) else v for k, v in operation["args"].items()}
    with contextlib.redirect_stdout(io.StringIO()):
        net = ModuloNet(json.loads(parts["groups.json"]), json.loads(parts["features.json"]), parameters, json.loads(parts["net_params.json"])).eval()
    net.load_state_dict(torch.load(io.BytesIO(parts["state.torch"]), map_location="cpu", weights_only=False))

    def run(x, index, cycles):
        return net({"signals": {"eeg": torch.from_numpy(x)}, "features": {"epoch_index": torch.from_numpy(index), "epoch_cycle_index": torch.from_numpy(cycles)}})[0].numpy()

    return run


def sleepnet_rows(o):
    epochs = 21
    e = 240 + np.arange(epochs)
    x = np.random.default_rng(7).normal(scale=40, size=(1, epochs, 16, 3000)).astype(np.float32)
    index = (e / 1200).astype(np.float32).reshape(1, epochs, 1)
    cycles = np.cos(np.pi * e[:, None] / np.array([10, 30, 60, 90, 120])).astype(np.float32)[None]
    strand = Strand(o.libstrand, o.archive, [], None, 1, epochs, "logits")
    peer = sleepnet(o.dreem, o.archive)
    yield "SimpleSleepNet, 21 epochs", 30 * epochs, lambda: strand.run("signals", x, "epoch_index", index, "epoch_cycle_index", cycles), lambda: peer(x, index, cycles).ravel(), 2e-3


# ---- brain_csm

def fmri_weights(networks=1024, d=768, inner=3072, layers=4, positions=512, times=1501):
    """Random weights of the published shape, [out, in] where a Linear holds them and [in, out] in the decoder's layers."""
    torch.manual_seed(8)
    w = {}

    def linear(name, out, inside, turned=False):
        w[name + ".weight"] = torch.randn(inside, out) if turned else torch.randn(out, inside)
        w[name + ".weight"] *= inside ** -0.5
        w[name + ".bias"] = torch.randn(out) * 0.1

    def norm(name):
        w[name + ".weight"], w[name + ".bias"] = 1 + torch.randn(d) * 0.1, torch.randn(d) * 0.1

    w["embedder.msk_embed"], w["embedder.cls_embed"] = torch.randn(1, 1, networks), torch.randn(1, 1, networks)
    linear("embedder.embed_model.model.0", d, networks)
    norm("embedder.embed_model.model.1")
    w["embedder.wt_re.weight"] = torch.randn(times, d) * 0.1
    w["decoder.transformer.wte.weight"], w["decoder.transformer.wpe.weight"] = torch.randn(1, d), torch.randn(positions, d) * 0.1
    for i in range(layers):
        base = "decoder.transformer.h.%d." % i
        norm(base + "ln_1")
        norm(base + "ln_2")
        for name, inside, out in (("attn.c_attn", d, 3 * d), ("attn.c_proj", d, d), ("mlp.c_fc", d, inner), ("mlp.c_proj", inner, d)):
            linear(base + name, out, inside, True)
    norm("decoder.transformer.ln_f")
    linear("unembedder.model.0", networks, d)
    return w


def fmri(w, heads=12):
    """x [B, T, 1024], rows of wt_re [B, T] -> the next volumes [B, T, 1024]."""
    f = torch.nn.functional
    layers = len([k for k in w if k.endswith("attn.c_attn.weight")])

    def norm(name, x):
        return f.layer_norm(x, x.shape[-1:], w[name + ".weight"], w[name + ".bias"], 1e-5)

    def mapped(name, x):
        return torch.addmm(w[name + ".bias"], x.flatten(0, 1), w[name + ".weight"]).view(*x.shape[:2], -1)

    def run(x, rows):
        x = torch.from_numpy(x)
        x = norm("embedder.embed_model.model.1", f.linear(x, w["embedder.embed_model.model.0.weight"], w["embedder.embed_model.model.0.bias"]))
        x = x + w["embedder.wt_re.weight"][torch.from_numpy(rows)] + w["decoder.transformer.wpe.weight"][: x.shape[1]]
        for i in range(layers):
            base = "decoder.transformer.h.%d." % i
            q, k, v = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in mapped(base + "attn.c_attn", norm(base + "ln_1", x)).chunk(3, -1))
            a = f.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
            x = x + mapped(base + "attn.c_proj", a)
            x = x + mapped(base + "mlp.c_proj", f.gelu(mapped(base + "mlp.c_fc", norm(base + "ln_2", x)), approximate="tanh"))
        x = norm("decoder.transformer.ln_f", x)
        return f.linear(x, w["unembedder.model.0.weight"], w["unembedder.model.0.bias"]).numpy()

    return run


def fmri_rows(o):
    w = fmri_weights()
    repetition = 0.5
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.bin")
        torch.save(w, path)
        for batch, volumes in ((1, 100), (1, 500), (8, 100)):
            x = np.random.default_rng(9).normal(size=(batch, volumes, 1024)).astype(np.float32)
            rows = np.tile(np.round(np.arange(volumes) * repetition / 0.2).astype(np.int64), (batch, 1))
            strand = Strand(o.libstrand, path, ["task=forward"], None, batch, volumes, "outputs")
            peer = fmri(w)
            yield "brain_csm, batch %d, %d volumes" % (batch, volumes), batch * volumes * repetition, lambda: strand.run("inputs", x, "t_r_ids", rows), lambda: peer(x, rows).ravel(), 2e-4


# ---- both in turns

def clocked(run):
    begin = time.thread_time()
    run()
    return time.thread_time() - begin


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("libstrand", "dcrnn", "pretrained", "graphs4mer", "checkpoint", "dreem", "archive"):
        p.add_argument("--" + name)
    p.add_argument("--fmri", action="store_true", help="the fMRI decoder, which needs no files")
    p.add_argument("--precision", choices=("f32", "bf16"), default="f32", help="of Strand's products; PyTorch runs as published, in F32")
    p.add_argument("--rounds", type=int, default=9)
    o = p.parse_args()
    Strand.precision = o.precision
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    rows = (dcrnn_rows if o.dcrnn else graphs4mer_rows if o.graphs4mer else fmri_rows if o.fmri else sleepnet_rows)(o)
    print("| model | signal | Strand | PyTorch %s | signal / time, Strand | PyTorch / Strand | differ by |\n|---|--:|--:|--:|--:|--:|--:|" % torch.__version__)
    for what, signal, strand, peer, tolerance in rows:
        a, b = strand().copy(), peer()
        differ = np.abs(a - b).max() / max(1, np.abs(b).max())
        if not differ <= (tolerance if o.precision == "f32" else 0.1):
            sys.exit("%s: the results differ by %g" % (what, differ))
        times = [(clocked(strand), clocked(peer)) for _ in range(o.rounds)]
        ratios = sorted(y / x for x, y in times)
        own, other = (statistics.median(t[i] for t in times) for i in (0, 1))
        print("| %s | %g s | %.2f ms | %.1f ms | %.0f | %.1f [%.1f, %.1f] | %.1g |" % (what, signal, own * 1e3, other * 1e3, signal / own, statistics.median(ratios), ratios[len(ratios) // 10],
                                                                             ratios[-1 - len(ratios) // 10], differ), flush=True)


if __name__ == "__main__":
    main()
