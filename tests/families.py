"""Small checkpoints in the layouts of the families that a profile may name: each family's special
tokens and chat template, as its publishers write them (shortened where a part never comes into
play), on a vocabulary and weights of our own"""

from dataclasses import dataclass, field
from typing import Any

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
QWEN2 = (
    "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are a helpful assistant."
    "<|im_end|>\n' }}{% endif %}" + CHATML
)
QWEN3 = (  # the last reply is given an empty thought; the prompt too, where thinking is off
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}"
    "{% if m['role'] == 'assistant' and loop.last %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
    "{{ m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% if enable_thinking is defined and enable_thinking is false %}"
    "{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% for m in messages %}"
    "{% set role = 'model' if m['role'] == 'assistant' else m['role'] %}"
    "{{ '<start_of_turn>' + role + '\n' + m['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}{{ '<|start_header_id|>' + m['role'] + "
    "'<|end_header_id|>\n\n' + m['content'] | trim + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}"
    "{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}"
    "{{ '[INST] ' + m['content'] + ' [/INST]' }}{% else %}{{ ' ' + m['content'] + eos_token }}"
    "{% endif %}{% endfor %}"
)
_SPEAKER = "'<|USER_TOKEN|>' if m['role'] == 'user' else '<|CHATBOT_TOKEN|>'"
COHERE = (
    "{{ bos_token }}{% for m in messages %}{% set who = " + _SPEAKER + " %}"
    "{{ '<|START_OF_TURN_TOKEN|>' + who + m['content'] | trim + '<|END_OF_TURN_TOKEN|>' }}"
    "{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>' }}{% endif %}"
)
COHERE2 = (
    "{{ bos_token }}{% for m in messages %}{% set who = " + _SPEAKER + " %}"
    "{{ '<|START_OF_TURN_TOKEN|>' + who }}{% if m['role'] == 'user' %}{{ m['content'] | trim }}"
    "{% else %}{{ '<|START_RESPONSE|>' + m['content'] | trim + '<|END_RESPONSE|>' }}{% endif %}"
    "{{ '<|END_OF_TURN_TOKEN|>' }}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|><|START_RESPONSE|>' }}{% endif %}"
)


@dataclass(frozen=True)
class Family:
    "What the checkpoints of a family have in common"

    model_type: str
    template: str | None
    marks: tuple[str, ...]  # special tokens beside bos, eos and pad
    end: str  # what ends an assistant's turn
    eos: str
    bos: str | None = None
    ends: tuple[str, ...] = ()  # `eos_token_id` of generation_config.json
    sizes: dict[str, Any] = field(default_factory=dict)

    @property
    def stops(self) -> set[str]:
        return {self.end, self.eos, *self.ends}


IM = ("<|im_start|>", "<|im_end|>")
FAMILIES = {
    "Qwen2.5-Instruct": Family(
        "qwen2", QWEN2, IM, "<|im_end|>", "<|im_end|>", ends=("<|im_end|>", "<|endoftext|>")
    ),
    "Qwen3": Family(
        "qwen3", QWEN3, IM, "<|im_end|>", "<|im_end|>", ends=("<|im_end|>", "<|endoftext|>")
    ),
    "Gemma-3-it": Family(
        "gemma3_text",
        GEMMA,
        ("<start_of_turn>", "<end_of_turn>"),
        "<end_of_turn>",
        "<eos>",
        "<bos>",
        sizes=dict(head_dim=8, sliding_window=16),
    ),
    "Llama-3-Instruct": Family(
        "llama",
        LLAMA3,
        ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        "<|eot_id|>",
        "<|end_of_text|>",
        "<|begin_of_text|>",
        ends=("<|end_of_text|>", "<|eot_id|>"),
    ),
    "Mistral-Instruct": Family(
        "mistral", MISTRAL, ("[INST]", "[/INST]"), "</s>", "</s>", "<s>", ends=("</s>",)
    ),
    "BLOOMZ": Family(
        "bloom", None, (), "</s>", "</s>", "<s>", ends=("</s>",), sizes=dict(n_layer=1, n_head=2)
    ),
    "Command-R": Family(
        "cohere",
        COHERE,
        ("<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>", "<|USER_TOKEN|>", "<|CHATBOT_TOKEN|>"),
        "<|END_OF_TURN_TOKEN|>",
        "<|END_OF_TURN_TOKEN|>",
        "<BOS_TOKEN>",
    ),
    "Command-R7B-Arabic": Family(
        "cohere2",
        COHERE2,
        (
            "<|START_OF_TURN_TOKEN|>",
            "<|END_OF_TURN_TOKEN|>",
            "<|USER_TOKEN|>",
            "<|CHATBOT_TOKEN|>",
            "<|START_RESPONSE|>",
            "<|END_RESPONSE|>",
        ),
        "<|END_RESPONSE|>",
        "<|END_OF_TURN_TOKEN|>",
        "<BOS_TOKEN>",
        sizes=dict(sliding_window=16),
    ),
    "EuroLLM-Instruct": Family(
        "llama", CHATML, IM, "<|im_end|>", "</s>", "<s>", ends=("<|im_end|>",)
    ),
    "Falcon-H1-Instruct": Family(
        "falcon_h1", CHATML, IM, "<|im_end|>", "<|end_of_text|>", ends=("<|end_of_text|>",)
    ),
    "LFM2": Family(
        "lfm2", "{{ bos_token }}" + CHATML, IM, "<|im_end|>", "<|im_end|>", "<|startoftext|>"
    ),
}
HYBRID = ("Falcon-H1-Instruct", "LFM2")  # not every layer keeps keys and values
TEXTS = ["ما أشهر أنواع الخبز في مصر؟ أشهرها العيش البلدي، وهو خبز مدور.", "أهلا بك"] * 3


def family_tokenizer(family: Family) -> Any:
    "A byte-level tokenizer with a family's special tokens and frame"
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    own = dict.fromkeys(("<pad>", "<|endoftext|>", family.bos, family.eos, *family.marks))
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=340,
        special_tokens=[token for token in own if token],
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    bpe.train_from_iterator(TEXTS, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token=family.bos,
        eos_token=family.eos,
        pad_token="<pad>",
        extra_special_tokens=[m for m in family.marks if m != family.eos],
        chat_template=family.template,
        clean_up_tokenization_spaces=False,
    )


def make_family(path: Any, name: str) -> Any:
    "Save a small checkpoint of a family; its tokenizer"
    import torch
    from transformers import AutoModelForCausalLM, GenerationConfig
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    family = FAMILIES[name]
    tokenizer = family_tokenizer(family)
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in family.stops}
    sizes = dict(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=512,
    )
    config = CONFIG_MAPPING[family.model_type](
        vocab_size=len(tokenizer),
        **sizes | family.sizes,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=ids[family.eos],
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config)
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    ends = [ids[token] for token in family.ends]
    settings = GenerationConfig(eos_token_id=ends[0] if len(ends) == 1 else ends or None)
    settings.save_pretrained(path)
    return tokenizer
