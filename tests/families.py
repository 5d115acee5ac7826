"""Models of a few random weights in float64, one of each kind of cache."""

import torch


def llama(**options):
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=20, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, eos_token_id=3, pad_token_id=1, **options,
    )  # fmt: skip
    return LlamaForCausalLM(config).double().eval()


def mistral():
    """A window so short that the prompts are longer than it."""
    from transformers import MistralConfig, MistralForCausalLM

    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=20, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, eos_token_id=3, pad_token_id=1, sliding_window=6,
    )  # fmt: skip
    return MistralForCausalLM(config).double().eval()


def mamba():
    """No keys and values: its cache can neither be narrowed nor begun by another row's."""
    from transformers import MambaConfig, MambaForCausalLM

    torch.manual_seed(0)
    config = MambaConfig(
        vocab_size=20, hidden_size=16, num_hidden_layers=2, state_size=4, eos_token_id=3, pad_token_id=1
    )
    return MambaForCausalLM(config).double().eval()
