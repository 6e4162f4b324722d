"""Likelihoods of replies, against lm-evaluation-harness on the same texts, model and machine.

python benchmarks/bench_perplexity.py [CONVERSATIONS] [SIZE…]
    60 conversations by default, and two sizes of a new GPT-2 (random weights cost the same):
    that of the offline profile's students, and the 124 million of the smallest GPT-2
"""

import logging
import sys
import time
from importlib.util import find_spec

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from arabic_dialog.models.loading import new_model
from arabic_dialog.models.tokenizers import load_chat_template
from arabic_dialog.metrics.perplexity import Reading, assistant_turns, score_replies
from arabic_dialog.metrics.spoiling import sample_conversations

SIZES = {
    "offline": (6000, 2, 128, 4),
    "small": (50257, 12, 768, 12),
}  # vocabulary, layers, width, heads


def make(size, conversations):
    "A new GPT-2 with the students' frame; the vocabulary is filled up to its size"
    vocabulary, n_layer, n_embd, n_head = SIZES[size]
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer, raw.decoder = (
        pre_tokenizers.ByteLevel(add_prefix_space=False),
        decoders.ByteLevel(),
    )
    raw.train_from_iterator(
        [t.text for c in conversations for t in c.turns],
        trainers.BpeTrainer(
            vocab_size=6000,
            special_tokens=["<|end|>", "<|user|>", "<|assistant|>"],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        ),
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw,
        eos_token="<|end|>",
        pad_token="<|end|>",
        chat_template=load_chat_template(),
    )

    class Sized:  # what `new_model` asks of a tokenizer
        bos_token_id, eos_token_id, pad_token_id = (
            None,
            tokenizer.eos_token_id,
            tokenizer.pad_token_id,
        )

        def __len__(self):
            return vocabulary

    return new_model("gpt2", Sized(), n_layer, n_embd, n_head, 1024, 0).eval(), tokenizer


def with_harness(model, tokenizer, items, batch_size):
    "The same requests as the harness takes them: what comes before, and the reply with its end"
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    def render(turns, prompt):
        return tokenizer.apply_chat_template(
            [{"role": t.speaker, "content": t.text} for t in turns],
            tokenize=False,
            add_generation_prompt=prompt,
        )

    pairs = [
        (before, render([*t.history, t.reply], False)[len(before) :])
        for t in items
        for before in [render(t.history, True)]
    ]
    lm = HFLM(pretrained=model, tokenizer=tokenizer, backend="causal", batch_size=batch_size)
    return [
        -log_likelihood
        for log_likelihood, _ in lm.loglikelihood(
            [Instance("loglikelihood", {}, p, k) for k, p in enumerate(pairs)], disable_tqdm=True
        )
    ]


def timed(work, *arguments, **named):
    start = time.process_time()
    out = work(
        *arguments, **named
    )  # of this process, on one thread: what else the machine does counts less
    return time.process_time() - start, out


def main(n=60, *sizes):
    if find_spec("lm_eval") is None:
        sys.exit("this benchmark compares with lm-evaluation-harness: pip install lm-eval")
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)  # the harness tells of each model that it is given
    conversations = sample_conversations(int(n), "test")
    items = assistant_turns(conversations)
    for size in sizes or SIZES:
        model, tokenizer = make(size, conversations)
        few = items if size == "offline" else items[:12]
        for batch_size in (1, 8, 16) if size == "offline" else (8,):
            rounds = []
            for _ in range(3):  # in turn, so that what else the machine does falls on both
                of = (model, tokenizer, few, batch_size)
                a, ours = timed(score_replies, *of)
                b, theirs = timed(with_harness, *of)
                c, _ = timed(score_replies, *of, Reading(share=False))
                rounds.append((b / a, b / c, a, b))
            off = max(abs(r.nll / t - 1) for r, t in zip(ours, theirs, strict=True))
            ratio, alone, a, b = sorted(rounds)[1]
            print(
                f"{size} ({model.num_parameters() / 1e6:.1f} M parameters), {len(few)} replies, "
                f"batches of {batch_size:2}: {len(few) / a:6.1f} replies a second of one core "
                f"here, {len(few) / b:6.1f} in the harness: "
                f"{ratio:4.1f} times as fast ({alone:.1f} where each reply is read alone); at "
                f"most {off:.0e} apart"
            )


if __name__ == "__main__":
    main(*sys.argv[1:])
