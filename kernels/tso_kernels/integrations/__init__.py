"""The loss in other people's trainers, one file each: `hf` (any transformers causal language model), `trl` (DPOTrainer).

Nothing here is imported by the rest of the package, and each file needs the library that it is for.
"""
