"""
Makes a fixture: a tiny checkpoint with random weights and what transformers computes for it, by which lakh is judged.

    pip install torch transformers
    python tools/make_fixture.py olmo3 --set num_hidden_layers=4 --set sliding_window=16
    deno task verify tests/families/olmo3

Writes config.json, model.safetensors (bf16), reference.safetensors and reference.json into tests/families/NAME. The
sizes are small whatever a family calls them; --set changes any key of the config, and its values are JSON. Turn on what
the family has: grouped queries, windows smaller than the text, biases, scaling of RoPE. See docs/add-a-model.md.

Layout of reference.safetensors: input_ids i64 [1, tokens]; of decoders logits f32 [1, tokens, vocabulary] of one pass,
and greedy i64 [1, n], the likeliest continuation of the first prompt_len ids; of encoders hidden f32
[1, tokens, hidden]; of encoder-decoders decoder_input_ids i64 [1, m], their logits, and greedy from the start id on.
"""
import argparse
import json
import sys
from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForSeq2SeqLM

# Small sizes under the names that families give them; a config takes those that it has.
SMALL = {
    16: ["hidden_size", "n_embd", "d_model", "word_embed_proj_dim"],
    32: ["intermediate_size", "n_inner", "ffn_dim", "d_ff", "encoder_ffn_dim", "decoder_ffn_dim", "moe_intermediate_size"],
    2: [
        "num_hidden_layers", "n_layer", "n_layers", "num_layers", "num_decoder_layers", "encoder_layers",
        "decoder_layers", "num_key_value_heads", "num_experts_per_tok",
    ],
    4: [
        "num_attention_heads", "n_head", "n_heads", "num_heads", "attention_heads", "encoder_attention_heads",
        "decoder_attention_heads", "num_experts", "num_local_experts", "head_dim", "d_kv",
    ],
    48: ["vocab_size"],
    128: ["max_position_embeddings", "n_positions", "max_seq_len", "max_source_positions", "max_target_positions"],
}
# Ids that must lie in the small vocabulary.
IDS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "decoder_start_token_id": 0}
# Where the two likeliest ids are nearer than this, rounding decides, so the continuation ends before.
GAP = 0.02
CLASSES = {"decoder": AutoModelForCausalLM, "encoder": AutoModel, "seq2seq": AutoModelForSeq2SeqLM}


def small_config(model_type, changes):
    names = AutoConfig.for_model(model_type).to_dict()
    values = {name: size for size, found in SMALL.items() for name in found if name in names}
    values |= {name: one for name, one in IDS.items() if names.get(name) is not None}
    return AutoConfig.for_model(model_type, **(values | changes))


def randomize(model, seed):
    """Weights large enough that attention is not uniform, rounded to bf16. Buffers stay as they are."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if not weight.requires_grad:
                continue  # computed, such as sinusoidal positions
            noise = torch.randn(weight.shape, generator=generator)
            if weight.dim() > 1:
                noise *= weight.shape[-1] ** -0.5 * 1.5
            elif "norm" in name.lower() or "ln_" in name:
                noise = noise * 0.1 + (0 if name.endswith("bias") else weight.float().mean())
            else:
                noise *= 0.1
            weight.copy_(noise.to(torch.bfloat16))


def greedy_from(next_logits, ids, most):
    """(continuation, the smallest gap between its likeliest and second likeliest ids)"""
    found, least = [], float("inf")
    while len(found) < most:
        first, second = next_logits(ids + found).topk(2).values.tolist()
        if first - second < GAP:
            break
        least = min(least, first - second)
        found.append(int(next_logits(ids + found).argmax()))
    return found, least


def main():
    parser = argparse.ArgumentParser(description="Makes a tiny checkpoint and what transformers computes for it.")
    parser.add_argument("model_type")
    parser.add_argument("--name", help="folder in tests/families; default: the model type")
    parser.add_argument("--kind", choices=CLASSES, default="decoder")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=JSON", help="a key of the config")
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--prompt", type=int, default=12, help="ids before the continuation")
    parser.add_argument("--note", default="", help="what this fixture has that others do not")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent.parent / "tests" / "families")
    options = parser.parse_args()
    changes = {key: json.loads(value) for key, value in (one.split("=", 1) for one in options.set)}
    folder = options.out / (options.name or options.model_type)

    config = small_config(options.model_type, changes)
    for seed in range(20):
        torch.manual_seed(seed)
        model = CLASSES[options.kind].from_config(config, attn_implementation="eager").float().eval()
        if options.kind == "seq2seq" and getattr(model.config, "decoder_start_token_id", None) is None:
            model.config.decoder_start_token_id = IDS["decoder_start_token_id"]
        randomize(model, seed)
        reference, about = judge(model, options, seed)
        if options.kind == "encoder" or reference["greedy"].shape[1] >= 6:
            break
    else:
        sys.exit("Cannot find a continuation of 6 ids without near ties: change the sizes")

    folder.mkdir(parents=True, exist_ok=True)
    state = {
        name: tensor.to(torch.bfloat16) if tensor.is_floating_point() else tensor
        for name, tensor in model.state_dict().items()
    }
    model.config.dtype = "bfloat16"
    model.save_pretrained(folder, state_dict=state)
    (folder / "generation_config.json").unlink(missing_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in reference.items()}, folder / "reference.safetensors")
    about = {"model": options.model_type, "kind": options.kind, "note": options.note} | about
    (folder / "reference.json").write_text(json.dumps(about | {"transformers": transformers.__version__}) + "\n")
    for file in folder.iterdir():
        file.chmod(0o644)
    size = sum(file.stat().st_size for file in folder.iterdir())
    print(f"{folder}: {size / 1000:.0f} kB; deno task verify {folder}")


def judge(model, options, seed):
    vocabulary = model.config.get_text_config().vocab_size
    generator = torch.Generator().manual_seed(1000 + seed)
    ids = torch.randint(3, vocabulary, (1, options.tokens), generator=generator)
    with torch.no_grad():
        if options.kind == "encoder":
            return {"input_ids": ids, "hidden": model(ids).last_hidden_state.float()}, {}
        if options.kind == "decoder":
            logits_of = lambda some: model(torch.tensor([some]), use_cache=False).logits[0, -1].float()
            greedy, gap = greedy_from(logits_of, ids[0, : options.prompt].tolist(), 16)
            reference = {"input_ids": ids, "logits": model(ids, use_cache=False).logits.float()}
            about = {"prompt_len": options.prompt}
        else:
            read = lambda some: model(ids, decoder_input_ids=torch.tensor([some]), use_cache=False).logits[0].float()
            start = model.config.decoder_start_token_id
            written = torch.randint(3, vocabulary, (19,), generator=generator).tolist()
            greedy, gap = greedy_from(lambda some: read(some)[-1], [start], 16)
            reference = {"input_ids": ids, "decoder_input_ids": torch.tensor([[start] + written])}
            reference["logits"] = read([start] + written)[None]
            about = {}
    reference["greedy"] = torch.tensor([greedy], dtype=torch.int64).reshape(1, -1)
    return reference, about | {"greedy_min_gap": gap}


if __name__ == "__main__":
    main()
