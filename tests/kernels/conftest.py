"""Without a GPU the Triton kernels run in Triton's interpreter; it has to be chosen before they are first imported."""

import os

import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")
torch.set_num_threads(2)
