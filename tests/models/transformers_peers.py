#!/usr/bin/env python3
"""Language models beside transformers (PyTorch): random models of the layouts and settings of which no committed case tells, their logits
in double precision, and those of `strand run` in F32. Exit 77 (skipped) where torch or transformers is not installed.

Usage: transformers_peers.py PATH_OF_STRAND"""
import os
import subprocess
import sys
import tempfile

try:
    import torch
    import transformers as hf
    from safetensors.torch import load_file, save_file
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)

TOLERANCE = 5e-6  # relative L2
LLAMA = dict(vocab_size=101, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
             max_position_embeddings=256)
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
GPT2 = dict(vocab_size=101, n_positions=128, n_embd=48, n_layer=2, n_head=3)

CASES = {
    "llama, linear": lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**LLAMA, rope_scaling={"rope_type": "linear", "factor": 4.0})),
    "llama, llama3": lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**LLAMA, rope_scaling=LLAMA3)),
    "llama, yarn": lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**LLAMA, rope_scaling=YARN)),
    "llama, wide heads, biases": lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**LLAMA, head_dim=24, attention_bias=True, mlp_bias=True)),
    "mistral, window": lambda: hf.MistralForCausalLM(hf.MistralConfig(**LLAMA, sliding_window=16)),
    "qwen2": lambda: hf.Qwen2ForCausalLM(hf.Qwen2Config(**LLAMA)),
    "gpt2": lambda: hf.GPT2LMHeadModel(hf.GPT2Config(**GPT2)),
    "gpt2, by layer": lambda: hf.GPT2LMHeadModel(hf.GPT2Config(**GPT2, scale_attn_by_inverse_layer_idx=True)),
    "gpt_neox, one after the other": lambda: hf.GPTNeoXForCausalLM(hf.GPTNeoXConfig(
        vocab_size=101, hidden_size=48, num_hidden_layers=2, num_attention_heads=3, intermediate_size=96, use_parallel_residual=False,
        max_position_embeddings=128)),
    "mamba, biases": lambda: hf.MambaForCausalLM(hf.MambaConfig(vocab_size=101, hidden_size=48, num_hidden_layers=2, use_bias=True)),
    "falcon_mamba": lambda: hf.FalconMambaForCausalLM(hf.FalconMambaConfig(vocab_size=101, hidden_size=48, num_hidden_layers=2)),
    "mamba2": lambda: hf.Mamba2ForCausalLM(hf.Mamba2Config(
        vocab_size=101, hidden_size=64, num_hidden_layers=2, num_heads=8, head_dim=16, n_groups=1, state_size=16, chunk_size=16)),
    "recurrent_gemma": lambda: hf.RecurrentGemmaForCausalLM(hf.RecurrentGemmaConfig(
        vocab_size=101, hidden_size=64, num_hidden_layers=3, intermediate_size=192, num_attention_heads=4, lru_width=64,
        attention_window_size=128)),
    "rwkv (4)": lambda: hf.RwkvForCausalLM(hf.RwkvConfig(
        vocab_size=101, hidden_size=48, num_hidden_layers=2, context_length=128, rescale_every=0)),
}


def liven(model):
    """Weights that matter: matrices that keep the scale, norms off one, biases off zero; decays and time steps as initialised."""
    kept = ("A_log", ".D", "dt_bias", "time_")
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.ndim >= 2 and "time_" not in name:
                p.copy_(torch.randn_like(p) * 1.2 / p.shape[-1] ** 0.5)
            elif name.endswith("weight"):
                p.copy_(1 + 0.2 * torch.randn_like(p))
            elif not any(k in name for k in kept):
                p.copy_(0.2 * torch.randn_like(p))


def difference(strand, folder, model):
    ids = torch.randint(3, 100, (1, 60))
    with torch.no_grad():
        want = model.double()(ids).logits
    source, result = os.path.join(folder, "in.safetensors"), os.path.join(folder, "out.safetensors")
    save_file({"input_ids": ids}, source)
    subprocess.run([strand, "run", os.path.join(folder, "model"), "-i", source, "-o", result], check=True)
    have = load_file(result)["logits"].double()
    return float((have - want).norm() / want.norm())


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    hf.logging.set_verbosity_error()
    bad = 0
    for name, make in CASES.items():
        model = make().float().eval()
        liven(model)
        with tempfile.TemporaryDirectory() as folder:
            model.save_pretrained(os.path.join(folder, "model"))
            d = difference(sys.argv[1], folder, model)
        bad += not d <= TOLERANCE
        print(f"{name:32} relative L2 {d:.1e}{'' if d <= TOLERANCE else '  TOO MUCH'}")
    return bad > 0


if __name__ == "__main__":
    sys.exit(main())
