"""Train a small ALiBi story writer (MPT layout) on public-domain stories, on a CPU.

    python train_storyteller.py STORIES.txt OUT_DIR --minutes 60 [--d 256 --layers 6 --heads 8 --ctx 512]

`--positions sinusoidal` trains a twin that differs in nothing but its positions (Vaswani et al. 2017, added to the
embeddings; no ALiBi) and is written in GPT-2's layout, whose position table then holds the sinusoids. A run goes on
from OUT_DIR/state.pt when there is one.
"""
import argparse, json, math, os, time
import numpy as np, torch, torch.nn as nn, torch.nn.functional as F
ap = argparse.ArgumentParser(); ap.add_argument("text"); ap.add_argument("out"); ap.add_argument("--minutes", type=float, default=60)
ap.add_argument("--d", type=int, default=256); ap.add_argument("--layers", type=int, default=6); ap.add_argument("--heads", type=int, default=8)
ap.add_argument("--ctx", type=int, default=512); ap.add_argument("--vocab", type=int, default=4096); ap.add_argument("--batch", type=int, default=16)
ap.add_argument("--lr", type=float, default=2e-3); ap.add_argument("--muon", type=float, default=0.02); ap.add_argument("--threads", type=int, default=2); ap.add_argument("--bench", action="store_true"); ap.add_argument("--f32", action="store_true")
ap.add_argument("--max-mb", type=float, default=80); ap.add_argument("--positions", choices=["alibi", "sinusoidal"], default="alibi"); ap.add_argument("--steps", type=int, help="instead of --minutes"); ap.add_argument("--device", default="cpu")
A = ap.parse_args(); torch.set_num_threads(A.threads); torch.manual_seed(1); os.makedirs(A.out, exist_ok=True)

def tokenizer():
    p = f"{A.out}/tokenizer.json"
    from tokenizers import Tokenizer, models, pre_tokenizers, decoders, trainers
    if os.path.exists(p): return Tokenizer.from_file(p)
    t = Tokenizer(models.BPE()); t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False); t.decoder = decoders.ByteLevel()
    s = open(A.text).read(30_000_000).replace("<|book|>\n", "")
    t.train_from_iterator((s[i:i + 2000] for i in range(0, len(s), 2000)), trainers.BpeTrainer(vocab_size=A.vocab, special_tokens=["<|endoftext|>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    t.save(p); return t
def tokens(t):
    p = f"{A.out}/tokens.npy"
    if os.path.exists(p): return np.load(p, mmap_mode="r")
    books = open(A.text).read(int(A.max_mb * 1e6)).split("<|book|>\n")[1:]
    out = []
    for i in range(0, len(books), 16):
        for e in t.encode_batch(books[i:i + 16]): out.append(np.array([0] + e.ids, dtype=np.uint16))
    a = np.concatenate(out); np.save(p, a); return a
class Block(nn.Module):
    def __init__(s, d, h):
        super().__init__(); s.h = h; s.n1 = nn.LayerNorm(d, bias=False); s.qkv = nn.Linear(d, 3 * d, bias=False); s.o = nn.Linear(d, d, bias=False)
        s.n2 = nn.LayerNorm(d, bias=False); s.up = nn.Linear(d, 4 * d, bias=False); s.down = nn.Linear(4 * d, d, bias=False)
    def forward(s, x, bias):
        b, t, d = x.shape; q, k, v = s.qkv(s.n1(x)).view(b, t, 3, s.h, d // s.h).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype))
        x = x + s.o(y.transpose(1, 2).reshape(b, t, d)); return x + s.down(F.gelu(s.up(s.n2(x))))
def sinusoids(n, d):
    a = torch.arange(n)[:, None] / 10000 ** (torch.arange(0, d, 2) / d); return torch.cat([a.sin(), a.cos()], 1) * 0.02 * 2 ** 0.5
class Model(nn.Module):
    def __init__(s, v, d, l, h):
        super().__init__(); s.e = nn.Embedding(v, d); s.blocks = nn.ModuleList(Block(d, h) for _ in range(l)); s.nf = nn.LayerNorm(d, bias=False); s.h = h
        for n, p in s.named_parameters():
            if p.dim() == 2: nn.init.normal_(p, std=0.02 / (math.sqrt(2 * l) if n.endswith(("o.weight", "down.weight")) else 1))
    def bias(s, t):
        if A.positions == "sinusoidal": return torch.zeros(t, t).masked_fill(torch.ones(t, t, dtype=torch.bool).triu(1), float("-inf"))
        n = 2 ** math.ceil(math.log2(s.h)); m = [2 ** (-i * 8 / n) for i in range(1, n + 1)]; m = m if n == s.h else (m[1::2] + m[::2])[:s.h]
        r = torch.arange(t)[None] - torch.arange(t)[:, None]; b = torch.tensor(m)[:, None, None] * r
        return b.masked_fill(r > 0, float("-inf"))
    def forward(s, x, bias):
        h = s.e(x)
        if A.positions == "sinusoidal": h = h + table[:x.shape[1]]
        for blk in s.blocks: h = blk(h, bias)
        return s.nf(h) @ s.e.weight.T
tk = tokenizer(); data = tokens(tk); split = len(data) - 200_000
print("tokens", len(data), flush=True)
table = sinusoids(8192, A.d).to(A.device)
m = Model(A.vocab, A.d, A.layers, A.heads).to(A.device); N = sum(p.numel() for p in m.parameters()); bias = m.bias(A.ctx).to(A.device)
class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalized by Newton-Schulz (Jordan et al. 2024), for the matrices inside the layers."""
    def __init__(s, ps, lr, mom=0.95, wd=0.05): super().__init__(ps, dict(lr=lr, mom=mom, wd=wd))
    @torch.no_grad()
    def step(s):
        for g in s.param_groups:
            for p in g["params"]:
                st = s.state[p]; b = st.setdefault("b", torch.zeros_like(p)); b.mul_(g["mom"]).add_(p.grad); u = p.grad + g["mom"] * b
                t = u.shape[0] > u.shape[1]; x = (u.T if t else u).bfloat16(); x = x / (x.norm() + 1e-7)
                for _ in range(5):
                    a = x @ x.T; x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
                x = (x.T if t else x).float()
                p.mul_(1 - g["lr"] * g["wd"]).add_(x, alpha=-g["lr"] * max(1, p.shape[0] / p.shape[1]) ** 0.5)
inner = [p for n, p in m.named_parameters() if p.dim() == 2 and n.startswith("blocks")]
muon = Muon(inner, lr=A.muon); ids_ = {id(p) for p in inner}
opt = torch.optim.AdamW([{"params": [p for p in m.parameters() if p.dim() == 2 and id(p) not in ids_], "weight_decay": 0.01}, {"params": [p for p in m.parameters() if p.dim() < 2], "weight_decay": 0.0}], lr=A.lr, betas=(0.9, 0.95))
ck = f"{A.out}/state.pt"; step = 0; seen = 0
if os.path.exists(ck): s = torch.load(ck); m.load_state_dict(s["m"]); opt.load_state_dict(s["o"]); muon.load_state_dict(s["u"]); step = s["step"]; seen = s["seen"]
g = np.random.default_rng(step + 1)
def batch(lo, hi, n=A.batch):
    i = g.integers(lo, hi - A.ctx - 1, n); b = torch.tensor(np.stack([data[j:j + A.ctx + 1].astype(np.int64) for j in i])).to(A.device); return b[:, :-1], b[:, 1:]
def loss_of(x, y):
    with torch.autocast("cpu" if A.device == "cpu" else "cuda", torch.bfloat16, enabled=not A.f32): l = m(x, bias)
    return F.cross_entropy(l.float().view(-1, A.vocab), y.reshape(-1))
t0 = time.time(); budget = A.minutes * 60; last = t0; tok = 0
while True:
    el = time.time() - t0
    if (step >= A.steps if A.steps else el > budget) or (A.bench and el > 25): break
    f = step / A.steps if A.steps else el / budget; w = min(1, (step + 1) / 100) * (1 if f < 0.5 else max(0.02, 1 - (f - 0.5) / 0.5)); lr = A.lr * w
    for gr in opt.param_groups: gr["lr"] = lr
    for gr in muon.param_groups: gr["lr"] = A.muon * w
    x, y = batch(0, split); L = loss_of(x, y); m.zero_grad(set_to_none=True); L.backward(); nn.utils.clip_grad_norm_(m.parameters(), 1.0); opt.step(); muon.step()
    step += 1; tok += x.numel(); seen += x.numel()
    if step % 100 == 0 or A.bench:
        print(f"step {step} seen {seen/1e6:.2f}M loss {L.item():.3f} lr {lr:.1e} {tok/(time.time()-t0):.0f} tok/s", flush=True)
    if time.time() - last > 300: last = time.time(); torch.save(dict(m=m.state_dict(), o=opt.state_dict(), u=muon.state_dict(), step=step, seen=seen), ck)
if A.bench: raise SystemExit
torch.save(dict(m=m.state_dict(), o=opt.state_dict(), u=muon.state_dict(), step=step, seen=seen), ck)
with torch.no_grad(): v = sum(loss_of(*batch(split, len(data))).item() for _ in range(20)) / 20
print(f"params {N/1e6:.2f}M seen {seen/1e6:.1f}M val {v:.4f}")
from safetensors.torch import save_file
layers = list(enumerate(m.blocks)); bf = lambda S: {k: w.detach().cpu().to(torch.bfloat16).contiguous() for k, w in S.items()}
common = dict(vocab_size=A.vocab, layer_norm_epsilon=1e-5, tie_word_embeddings=True, torch_dtype="bfloat16", bos_token_id=0, eos_token_id=0, use_cache=True)
S = {"transformer.wte.weight": m.e.weight}
if A.positions == "alibi":
    S["transformer.norm_f.weight"] = m.nf.weight
    for i, b in layers:
        p = f"transformer.blocks.{i}."
        S.update({p + "norm_1.weight": b.n1.weight, p + "attn.Wqkv.weight": b.qkv.weight, p + "attn.out_proj.weight": b.o.weight, p + "norm_2.weight": b.n2.weight, p + "ffn.up_proj.weight": b.up.weight, p + "ffn.down_proj.weight": b.down.weight})
    config = dict(architectures=["MptForCausalLM"], model_type="mpt", d_model=A.d, n_layers=A.layers, n_heads=A.heads, expansion_ratio=4, max_seq_len=A.ctx, no_bias=True,
        attn_config=dict(alibi=True, alibi_bias_max=8, attn_type="multihead_attention", clip_qkv=None, softmax_scale=None, qk_ln=False, attn_pdrop=0.0), **common)
else:  # GPT-2 keeps [in, out] matrices and has biases everywhere
    zero = lambda n: torch.zeros(n)
    S.update({"transformer.wpe.weight": table, "transformer.ln_f.weight": m.nf.weight, "transformer.ln_f.bias": zero(A.d)})
    for i, b in layers:
        p = f"transformer.h.{i}."
        for name, w in (("attn.c_attn", b.qkv), ("attn.c_proj", b.o), ("mlp.c_fc", b.up), ("mlp.c_proj", b.down)):
            S[p + name + ".weight"] = w.weight.T; S[p + name + ".bias"] = zero(w.weight.shape[0])
        for name, w in (("ln_1", b.n1), ("ln_2", b.n2)):
            S[p + name + ".weight"] = w.weight; S[p + name + ".bias"] = zero(A.d)
    config = dict(architectures=["GPT2LMHeadModel"], model_type="gpt2", n_embd=A.d, n_layer=A.layers, n_head=A.heads, n_inner=4 * A.d, n_positions=8192, activation_function="gelu", **common)
save_file(bf(S), f"{A.out}/model.safetensors", metadata={"format": "pt"})
json.dump(config, open(f"{A.out}/config.json", "w"), indent=2)
json.dump(dict(tokenizer_class="PreTrainedTokenizerFast", bos_token="<|endoftext|>", eos_token="<|endoftext|>", unk_token="<|endoftext|>", model_max_length=10 ** 9), open(f"{A.out}/tokenizer_config.json", "w"), indent=2)
